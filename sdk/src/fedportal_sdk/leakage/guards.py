"""What the portal holds of a device's update, by how the run protects it.

The way of an update is the one of the SDK: noise by `fedwire.grids`, vectors by `fedwire.masking.rings`, files by the
run's codec. What comes out are the numbers that the portal can read, a vector for each device whose row is looked for.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedportal_sdk.leakage.chains import Floats
from fedwire import codecs, grids
from fedwire.masking import streams
from fedwire.masking.rings import Ring
from fedwire.tensors import Float32, Manifest

PLAIN = "plain"
NONE, CENTRAL, LOCAL, DISTRIBUTED, RECORDS = "none", "central", "local", "distributed", "records"


@dataclass(frozen=True)
class Guard:
    """A run's protection, as far as it changes what the portal holds; the fields are those of `config["privacy"]`."""

    sums: str = PLAIN
    mechanism: str = NONE
    clip: float = 10.0
    noise: float = 0.0
    least_devices: int = 10
    bits: int = 32
    codec: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, privacy: Mapping[str, Any] | None, codec: Mapping[str, Any] | None) -> Guard:
        """That of a run with this configuration."""
        said = privacy or {}
        known = ("sums", "mechanism", "clip", "noise", "least_devices", "bits")
        return cls(**{name: said[name] for name in known if name in said}, codec=codec)

    @property
    def hides(self) -> bool:
        """Whether the portal reads sums only."""
        return self.sums != PLAIN

    @property
    def clips(self) -> bool:
        """Whether a device cuts its update down to the clip."""
        return self.hides or self.mechanism in (LOCAL, DISTRIBUTED)

    def cohort(self, most: int) -> int:
        """How many devices a sum is of, when so many are there."""
        return min(max(self.least_devices, 2), most) if self.hides else 1

    def sigma(self, most: int, learning_rate: float) -> float:
        """The standard deviation of the noise on each number that the portal reads; an attacker knows it.

        Noise that the portal adds itself is not on what it holds. Each device's share in a sum of n adds up to the
        whole, which the mean divides by n.
        """
        if self.mechanism == LOCAL:
            return self.noise * self.clip / math.sqrt(self.cohort(most))
        if self.mechanism == DISTRIBUTED:
            return self.noise * self.clip / self.cohort(most)
        if self.mechanism == RECORDS:
            return self.noise * self.clip * learning_rate / math.sqrt(self.cohort(most))
        return 0.0

    def sent(self, update: Float32, learning_rate: float) -> Float32:
        """A device's update of one step over one row, after what the device does to it before it is summed."""
        if self.mechanism == RECORDS:
            return grids.released(update, self.clip * learning_rate, self.noise)
        if self.mechanism == LOCAL:
            return grids.released(update, self.clip, self.noise)
        return update

    def ring(self, cohort: int) -> Ring:
        """The ring of a sum of so many devices. Noise in each update makes it longer than the clip."""
        share = self.noise / math.sqrt(cohort) if self.mechanism == DISTRIBUTED else 0.0
        return Ring(self.bits, self.clip, cohort, 1, share)


def held(
    guard: Guard, manifest: Manifest, updates: Floats, learning_rate: float, random: np.random.Generator
) -> Floats:
    """What the portal reads about each of these devices [n, P]: its own update, or the mean of the sum that it is in.

    Devices are put together in order, `cohort` at a time; the last sum takes in those that are left over.
    """
    sent = [guard.sent(update.astype(np.float32), learning_rate) for update in updates]
    if not guard.hides:
        codec = codecs.of(guard.codec, manifest)
        return np.stack([codec.decode(codec.encode(one, random)) for one in sent]).astype(np.float64)
    found = np.empty((len(sent), manifest.parameters))
    for start, stop in groups(len(sent), guard.cohort(len(sent))):
        ring = guard.ring(stop - start)
        total = np.zeros(manifest.parameters + 1, ring.word)
        for one in sent[start:stop]:
            total += ring.encode(one, 1)
        found[start:stop] = ring.decode(total)[0]
    return found


def masked(guard: Guard, updates: Floats) -> Floats:
    """What the portal holds of each device before the sum is made, read as if it were no secret [n, P].

    The mask is a stream of the whole ring's numbers, so the vector is uniform on it, whatever the update.
    """
    ring = guard.ring(guard.cohort(len(updates)))
    found = np.empty(updates.shape)
    for index, update in enumerate(updates.astype(np.float32)):
        vector = ring.encode(update, 1)
        streams.add(vector, secrets.token_bytes(streams.KEY_BYTES))
        found[index] = vector[1:].view(np.dtype(f"<i{ring.bits // 8}")) / ring.scale
    return found


def groups(count: int, size: int) -> list[tuple[int, int]]:
    """Where each sum's devices begin and end."""
    starts = list(range(0, max(count - size, 0) + 1, size))
    return [(start, stop) for start, stop in zip(starts, [*starts[1:], count], strict=True)]
