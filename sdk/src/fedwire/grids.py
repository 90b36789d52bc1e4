"""An update clipped as a whole, brought to whole numbers, with noise in the same numbers: what leaves under noise.

All that a promise rests on happens in whole numbers, which add up exactly: floating-point noise tells by its last bits
what it was added to (Mironov 2012), and a sum of rounded products is not quite as insensitive as its formula. The clip
leaves room for the rounding, so the whole numbers themselves are within it and the sensitivity is the clip, not more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedwire import noise as noises
from fedwire.tensors import Float32

# What a device must know where it is asked to release its update under noise of its own.
ABILITY = "local_noise"
# A step of the grid is this part of the clip, or of the noise's standard deviation where that is smaller: then the room
# for rounding is a thousandth of the clip for four million numbers, and none that anybody would see for a thousand.
STEPS = float(1 << 20)
# So much below the clip, that neither float64's rounding of a factor nor a cast to float32 leads beyond it.
SPARE = 2.0**-22
BLOCK = 1 << 16


@dataclass(frozen=True)
class Grid:
    """Whole numbers of steps for updates [P] of `parameters` numbers, clipped to the L2 norm `clip`; `noise` is the
    standard deviation of what is added to a sum of them, over the clip.

    Raises ValueError for a clip or noise that is not positive and finite, or a model with no room for the rounding.
    """

    clip: float
    noise: float
    parameters: int

    def __post_init__(self) -> None:
        if not all(value > 0 and math.isfinite(value) for value in (self.clip, self.noise)):
            raise ValueError("a clip and noise are positive numbers")
        if not self.within > 0:
            raise ValueError(f"no room for the rounding of {self.parameters} numbers")

    @property
    def step(self) -> float:
        """What one of the whole numbers stands for."""
        return self.clip * min(self.noise, 1.0) / STEPS

    @property
    def sigma(self) -> float:
        """The noise's standard deviation, in steps."""
        return max(self.noise, 1.0) * STEPS

    @property
    def within(self) -> float:
        """What an update is clipped to before it is rounded, which moves its numbers by half a step each."""
        return (self.clip - math.sqrt(self.parameters) * self.step / 2) * (1 - SPARE)

    def factor(self, norm: float) -> float:
        """What an update of this L2 norm is multiplied with: 1 for one that is within the clip."""
        return 1.0 if norm <= self.within else self.within / norm

    def whole(self, values: Float32, factor: float) -> NDArray[np.float64]:
        """The numbers times the factor as whole numbers of steps. With the factor of the update's norm the L2 norm of
        all of them, times the step, is at most the clip."""
        exact = values.astype(np.float64)
        exact *= factor / self.step
        return np.rint(exact, out=exact)

    def drawn(self, count: int) -> NDArray[np.int64]:
        """Noise for so many numbers, in steps."""
        return noises.wide_gaussian(self.sigma, count)


def norm(update: Float32) -> float:
    """The L2 norm, in float64: of no float32 numbers it overflows or vanishes."""
    return math.sqrt(math.fsum(float(part @ part) for part in _parts(update)))


def released(update: Float32, clip: float, noise: float) -> Float32:
    """The update [P] as a device releases it under noise of its own: clipped as a whole, with discrete Gaussian noise
    of the standard deviation noise · clip in every number.

    It is (ε, δ)-private for the device whatever becomes of it, as one Gaussian mechanism of that noise. Raises what
    `Grid` raises, and ValueError for an update that is not finite.
    """
    size = norm(update)
    if not math.isfinite(size):
        raise ValueError("the update is not finite")
    grid = Grid(clip, noise, len(update))
    factor = grid.factor(size)
    found = np.empty(len(update), np.float32)
    for start in range(0, len(update), BLOCK):
        part = grid.whole(update[start : start + BLOCK], factor)
        part += grid.drawn(len(part))
        part *= grid.step
        found[start : start + BLOCK] = part
    return found


def release(update: Float32, asked: Mapping[str, float] | None) -> None:
    """Make of the update, in its place, what `released` gives for the clip and noise that are asked for; None: nothing
    is. Raises what it raises."""
    if asked is not None:
        update[:] = released(update, asked["clip"], asked["noise"])


def _parts(update: Float32) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(update), BLOCK):
        yield update[start : start + BLOCK].astype(np.float64)
