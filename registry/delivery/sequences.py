"""Which of two versions is better, told at a level that holds however often one looks.

The difference d of two means has, at any look, about the distribution of a Brownian motion with drift: after t
observations of variance σ² it is normal around the true difference δ with variance V = σ²/t. Mixing the likelihood
ratio of d against 0 over differences from N(0, ρ²σ²) gives a martingale under δ = 0,

    Λ = (1 + x)^(-1/2) · exp( x z² / (2 (1 + x)) ),     x = t ρ²,  z = d / √V,

which by Ville's inequality exceeds 1/α at any time at all with a probability of at most α. So 1/Λ is a p-value that may
be looked at after every observation, and the differences that are not rejected are an interval that covers at all looks
together:  d ± √( V · 2 (1 + x)/x · log(√(1 + x)/α) ).

Robbins, Ann. Math. Stat. 1970; Johari, Koomen, Pekelis and Walsh, Oper. Res. 2022 (arXiv:1512.04922); Waudby-Smith et
al., Ann. Stat. 2024 (arXiv:2103.06476), whose choice of ρ makes the interval the narrowest at a planned number of
observations. It holds for large numbers, so nothing is told below `LEAST` observations in an arm; the tests hold it
for rates from there on.

What a device saw may be alike in itself, as the patients of one ward are. The variance is therefore the greater one of
two: that of single observations, and that of the devices' sums around the common mean (the usual one for clusters).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

# A number, or an array of numbers.
Numbers = TypeVar("Numbers", float, NDArray[np.float64])
LEVEL = 0.05
# Fewer observations in an arm say nothing.
LEAST = 20


@dataclass(frozen=True)
class Tally:
    """What one device saw: how many observations, their sum, and the sum of their squares."""

    count: int
    total: float
    squares: float

    @classmethod
    def of_rate(cls, count: int, hits: int) -> Tally:
        """Observations that are each 1 or 0."""
        return cls(count, float(hits), float(hits))


@dataclass(frozen=True)
class Arm:
    """What the devices of one arm saw. `rate`: each observation is 1 or 0."""

    tallies: tuple[Tally, ...]
    rate: bool = False

    @classmethod
    def of(cls, tallies: Iterable[Tally], *, rate: bool = False) -> Arm:
        """The arm of these devices; those that saw nothing are left out."""
        return cls(tuple(tally for tally in tallies if tally.count), rate)

    @cached_property
    def count(self) -> int:
        """Observations of all devices."""
        return sum(tally.count for tally in self.tallies)

    @cached_property
    def mean(self) -> float:
        """Of all observations. Raises ZeroDivisionError without any."""
        return math.fsum(tally.total for tally in self.tallies) / self.count

    @cached_property
    def variance(self) -> float:
        """Of the mean, by single observations or by devices, whichever is the greater."""
        return max(self._single, self._clustered)

    @cached_property
    def worth(self) -> float:
        """How many independent observations the arm is worth; at most `count`."""
        return self.count * self._single / self.variance if self.variance else float(self.count)

    @cached_property
    def _single(self) -> float:
        if self.rate:
            return float(rate_variance(self.mean * self.count, self.count))
        spread = math.fsum(tally.squares for tally in self.tallies) - self.count * self.mean**2
        return max(spread, 0.0) / max(self.count - 1, 1) / self.count

    @cached_property
    def _clustered(self) -> float:
        devices = len(self.tallies)
        if devices < 2:
            return 0.0
        around = math.fsum((tally.total - tally.count * self.mean) ** 2 for tally in self.tallies)
        return devices / (devices - 1) * around / self.count**2


@dataclass(frozen=True)
class Difference:
    """Treatment less control. `low` to `high` covers the true one at all looks together; `p` is of there being none."""

    estimate: float
    low: float
    high: float
    p: float
    level: float

    @property
    def found(self) -> bool:
        """Whether the interval leaves 0 out. Once it did, it was found, whatever later looks say."""
        return self.p < self.level


def compare(control: Arm, treatment: Arm, planned: int, level: float = LEVEL) -> Difference | None:
    """The difference of the arms' means; None before both have `LEAST` observations that say something.

    `planned` observations in each arm are where the interval is the narrowest; settle it before the first look.
    """
    if min(control.count, treatment.count) < LEAST:
        return None
    variance = control.variance + treatment.variance
    if variance <= 0:
        return None
    estimate = treatment.mean - control.mean
    time = together(control.worth, treatment.worth)
    x = time * _mixture(planned, level)
    evidence = x / (2 * (1 + x)) * estimate**2 / variance - math.log1p(x) / 2
    half = float(half_width(variance, time, planned, level))
    return Difference(estimate, estimate - half, estimate + half, math.exp(min(-evidence, 0.0)), level)


def rate_variance(hits: Numbers, count: Numbers) -> Numbers:
    """The variance of a mean of `count` observations of 1 or 0; number by number for arrays.

    One hit and one miss are added, so that none in twenty is not taken for never.
    """
    rate = (hits + 1) / (count + 2)
    return rate * (1 - rate) / count


def together(control: Numbers, treatment: Numbers) -> Numbers:
    """What two arms of so many observations are worth in observations of one: n/2 for two of n."""
    return 1 / (1 / control + 1 / treatment)


def half_width(variance: Numbers, time: Numbers, planned: int, level: float = LEVEL) -> Numbers:
    """Half of the interval for a difference of this variance after `time` observations; see the top of this module."""
    x = time * _mixture(planned, level)
    return np.sqrt(variance * 2 * (1 + x) / x * (np.log1p(x) / 2 - math.log(level)))


def _mixture(planned: int, level: float) -> float:
    """ρ² with which the interval is nearly the narrowest when each arm has its planned observations."""
    wide = -2 * math.log(level)
    return (wide + math.log(wide + 1)) / together(max(planned, 1), max(planned, 1))
