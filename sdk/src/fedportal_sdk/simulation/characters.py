"""What kind of device each one is: how long it takes, when it drops out, what it sends instead of its update.

Everything is drawn from the seed and the device's place, so it does not depend on who asks in which order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.simulation.wishes import ANY, PHASES, Attackers, Dropout, Phase, Settings, Speeds
from fedwire.tensors import Float32

# Beside the seed these keep what is drawn for different ends apart.
SPEED, ROLE, DROP, NOISE, LOCAL = 11, 12, 13, 14, 15
# Noise is so many times as long as the honest update.
TIMES = 4.0


@dataclass(frozen=True)
class Character:
    """`seconds`: how long one training takes. `attack`: what it does to the others; None for an honest device."""

    seconds: float
    attack: Attackers | None = None

    @property
    def kind(self) -> str:
        """The kind of attacker, "" for an honest device."""
        return self.attack.kind if self.attack else ""


def characters(settings: Settings) -> list[Character]:
    """One for each device, by its place."""
    seconds = durations(settings.speeds, settings.devices, _random(settings.seed, SPEED))
    order = _random(settings.seed, ROLE).permutation(settings.devices)
    attacks: dict[int, Attackers] = {}
    for some in settings.attackers:
        attacks.update(dict.fromkeys(order[len(attacks) : len(attacks) + some.count].tolist(), some))
    return [Character(float(time), attacks.get(place)) for place, time in enumerate(seconds)]


def durations(speeds: Speeds, count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Seconds that one training takes, for each of so many devices."""
    if speeds.kind == "lognormal":
        sigma, median = speeds.numbers
        return median * np.exp(sigma * random.normal(size=count))
    if speeds.kind == "uniform":
        low, high = speeds.numbers
        return random.uniform(low, high, size=count)
    return np.full(count, speeds.numbers[0])


def falls_out(dropout: Dropout, seed: int, place: int, turn: int) -> Phase | None:
    """Where the device at `place` drops out of its task number `turn`; None when it stays."""
    if not dropout.rate:
        return None
    random = _random(seed, DROP, place, turn)
    if random.random() >= dropout.rate:
        return None
    chosen = PHASES[random.integers(len(PHASES))] if dropout.phase == ANY else dropout.phase
    return cast(Phase, chosen)


def local_seed(seed: int, place: int, number: int) -> int:
    """The seed of a device's local training in round `number`."""
    return int(_random(seed, LOCAL, place, number).integers(1 << 32))


def turned(labels: NDArray[Any], classes: int) -> NDArray[Any]:
    """What a label-flipper trains on: class c as classes - 1 - c, a number as its negative."""
    return classes - 1 - labels if classes else -labels


def poisoned(
    attack: Attackers, base: Mapping[str, Any], trained: Mapping[str, Any], seed: int, place: int, number: int
) -> dict[str, Any]:
    """The weights that an attacker claims to have trained; those of label-flippers were turned in their rows.

    `sign-flip`: base + factor·(trained - base). `noise`: base + Gaussian noise, TIMES as long as the honest update.
    """
    if attack.kind == "sign-flip":
        return {name: base[name] + np.float32(attack.factor) * (trained[name] - base[name]) for name in trained}
    if attack.kind == "noise":
        return _noisy(base, trained, _random(seed, NOISE, place, number))
    return dict(trained)


def nonsense(update: memoryview) -> memoryview:
    """A file of the right length and header, behind which every bit is set: no numbers, so it has to be refused."""
    header = 8 + int.from_bytes(update[:8], "little")
    return memoryview(bytes(update[:header]) + b"\xff" * (len(update) - header))


def _noisy(base: Mapping[str, Any], trained: Mapping[str, Any], random: np.random.Generator) -> dict[str, Any]:
    honest = np.sqrt(sum(float(np.square(trained[name] - base[name]).sum(dtype="f8")) for name in trained))
    drawn: dict[str, Float32] = {name: random.normal(size=np.shape(trained[name])).astype("f4") for name in trained}
    length = np.sqrt(sum(float(np.square(one).sum(dtype="f8")) for one in drawn.values()))
    scale = np.float32(TIMES * honest / max(length, 1e-12))
    return {name: base[name] + scale * drawn[name] for name in trained}


def _random(*seeds: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(list(seeds)))
