"""Whole numbers modulo 2³² or 2⁶⁴, and an update as a vector of them.

A vector is [w, w·q₁, …, w·q_P]: the update clipped as a whole, multiplied to whole numbers of at most `room` bits,
rounded at random so that the rounding has no bias, and weighted; so the sum of vectors holds the sum of weights, and
is at most half of the ring, whatever the devices say. Clipping comes before the weight, always.

Where noise is asked for, each device adds its share of it to the whole numbers, after they were rounded: then the last
bits tell nothing, and nobody has to be trusted with a sum that has none yet. The weight is 1, for it would multiply
what one device can change.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedwire import grids, noise
from fedwire.errors import FedportalError
from fedwire.masking import streams
from fedwire.tensors import Float32

BITS = (32, 64)
LEAST_ROOM = 8  # bits; with fewer the update would be noise
# float64 counts whole numbers exactly up to 53 bits, and a float32 has no more than 24 that say anything.
MOST_ROOM = 33
BLOCK = 1 << 16
# In steps of the grid; with less, a sum of shares of noise is not the discrete Gaussian that is accounted for.
LEAST_SIGMA = 8.0
# Draws of 32 bits decide the rounding, so a fraction is rounded up with a probability that is off by at most 2⁻³².
_FRACTION = 2.0**-32


@dataclass(frozen=True)
class Ring:
    """Numbers of `bits` bits, holding updates that were clipped to the L2 norm `clip`; at most `devices` vectors of a
    weight up to `most_weight` are added. `noise`: the standard deviation of each device's share of it, over the clip.
    """

    bits: int
    clip: float
    devices: int
    most_weight: int
    noise: float = 0.0

    @property
    def room(self) -> int:
        """The bits of a number before its weight: B = bits - 1 - ⌈log₂(devices · most_weight)⌉, and fewer where noise
        must fit in, too."""
        room = min(self.bits - 1 - (self.devices * self.most_weight - 1).bit_length(), MOST_ROOM)
        while self.noise and room > 0 and self._total(room) >= 1 << (self.bits - 1):
            room -= 1
        return room

    @property
    def largest(self) -> int:
        """The largest number before its weight: 2ᴮ - 1."""
        return (1 << self.room) - 1

    @property
    def scale(self) -> float:
        """What an update is multiplied with."""
        return self.largest / self.clip

    @property
    def word(self) -> np.dtype[Any]:
        """The type of a vector's numbers."""
        return np.dtype(f"<u{self.bits // 8}")

    @property
    def total(self) -> int:
        """No number of an honest sum is larger than this, nor smaller than its opposite."""
        return self._total(self.room)

    @property
    def sigma(self) -> float:
        """The standard deviation of each device's share of the noise, in steps of the grid; 0 without."""
        return self.noise * self.largest

    def sensitivity(self, parameters: int) -> float:
        """By how much, in L2 and in the update's units, one device of weight 1 can change the sum of P numbers.

        Rounding moves each number by less than a step, so the vector is at most 2ᴮ - 1 + √P steps long: C + √P / scale.
        """
        return self.clip + math.sqrt(parameters) / self.scale

    def encode(self, update: Float32, weight: int) -> NDArray[Any]:
        """The vector [P + 1] of an update [P] with this weight, and its share of the noise, before it is masked.

        Raises `not_finite` for an update that is not, and ValueError for a weight that the ring has no room for.
        """
        if not 0 < weight <= (1 if self.noise else self.most_weight):
            raise ValueError(f"no weight {weight} where {self.most_weight} is the most, and 1 with noise")
        factor = self._clipping(update) * self.scale
        key = secrets.token_bytes(streams.KEY_BYTES)
        drawn = streams.draws(key, len(update))
        found = np.empty(len(update) + 1, self.word)
        found[0] = weight
        for start in range(0, len(update), BLOCK):
            stop = min(start + BLOCK, len(update))
            exact = update[start:stop].astype(np.float64) * factor
            whole = np.floor(exact + drawn[start:stop] * _FRACTION).astype(np.int64)
            np.clip(whole, -self.largest, self.largest, out=whole)
            whole *= weight
            if self.noise:
                whole += noise.wide_gaussian(self.sigma, len(whole))
            found[1 + start : 1 + stop] = whole.view(np.uint64).astype(self.word)
        return found

    def decode(self, total: NDArray[Any]) -> tuple[Float32, int]:
        """The weighted mean [P] of the updates behind a sum [P + 1], and the sum of their weights.

        Raises ValueError when the sum cannot be one of honest vectors: some device sent more than it may.
        """
        weights = self.weights(total)
        mean = np.empty(len(total) - 1, np.float32)
        start = 0
        for block in self.means(total, weights):
            mean[start : start + len(block)] = block
            start += len(block)
        return mean, weights

    def weights(self, total: NDArray[Any]) -> int:
        """The sum of the weights behind a sum [P + 1]. Raises ValueError when it cannot be one of honest vectors."""
        weights = int(total[0])
        if not 0 < weights <= self.devices * self.most_weight:
            raise ValueError(f"the weights add up to {weights}")
        signed = self._signed(total)
        most = weights * (self.largest + self._furthest(self.room))
        if len(signed) and max(int(signed.max()), -int(signed.min())) > most:
            raise ValueError("a number of the sum is larger than all devices together may make it")
        return weights

    def means(self, total: NDArray[Any], weights: int) -> Iterator[Float32]:
        """The weighted mean behind a sum with this sum of weights, in blocks from the first number to the last."""
        signed = self._signed(total)
        for start in range(0, len(signed), BLOCK):
            quotients = signed[start : start + BLOCK] / (weights * self.scale)
            yield quotients.astype(np.float32)

    def _signed(self, total: NDArray[Any]) -> NDArray[Any]:
        return total[1:].view(np.dtype(f"<i{self.bits // 8}"))

    def _total(self, room: int) -> int:
        return self.devices * (self.most_weight * ((1 << room) - 1) + self._furthest(room))

    def _furthest(self, room: int) -> int:
        """How far noise can move a number that has so many bits."""
        return noise.furthest(self.noise * ((1 << room) - 1)) if self.noise else 0

    def _clipping(self, update: Float32) -> float:
        """What brings the update down to the clip: 1 for one that is within it."""
        norm = grids.norm(update)
        if not np.isfinite(norm):
            raise FedportalError("not_finite", what="This update")
        return 1.0 if norm <= self.clip else self.clip / norm
