"""The numbers of a chart's axes, for every floor that draws one. Pure; pages write them as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

# From zero for amounts, around the data for qualities.
AMOUNTS = frozenset({"seconds", "bytes", "loss", "drift", "staleness", "gap:accuracy", "gap:loss"})
RATIOS = frozenset({"accuracy", "auc"})
# A loss that spans more than this has an axis on which equal factors are equally far.
MANY = 100
TICKS = 3
# Left of an axis: the room for `LEAST` characters, or for as many as its longest label has.
LEAST, CHARACTER, BESIDE = 6, 6.4, 8


class Axis(NamedTuple):
    """A vertical axis from `low` to `high`; a logarithmic one shows only values above 0."""

    low: float
    high: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where the value lies: 0 at `low`, 1 at `high`."""
        if self.logarithmic:
            return math.log10(value / self.low) / math.log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """The values with a line: three, or on a logarithmic axis powers of ten, at most four."""
        if not self.logarithmic:
            return steps(self.low, self.high, TICKS)
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        return [10.0**power for power in range(first, last + 1, -(-(last - first) // TICKS))]


def axis(name: str, every: Sequence[float]) -> Axis:
    """The axis of the measure `name` that shows all of `every`.

    That of a loss is logarithmic, between powers of ten, when the largest is more than MANY times the smallest.
    """
    low, high = min(every), max(every)
    if name != "loss" or low <= 0 or high / low <= MANY:
        return Axis(*bounds(name, every))
    return Axis(10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high)), logarithmic=True)


def margin(labels: Sequence[str]) -> int:
    """How much room the labels need left of the axis, in the units of the picture."""
    return BESIDE + math.ceil(CHARACTER * max(LEAST, *map(len, labels)))


def bounds(name: str, every: Sequence[float]) -> tuple[float, float]:
    """The lowest and highest value of the axis of the measure `name` that shows all of `every`."""
    low, high = min(every), max(every)
    if name in AMOUNTS:
        low = 0.0
    if high - low < 1e-9:
        high, low = high + max(abs(high) * 0.1, 1e-3), low - (max(abs(low) * 0.1, 1e-3) if low else 0)
    if name in RATIOS:
        # No ratio is above 1 or below 0, so neither is its axis.
        return max(min(low, 1.0 - 1e-3), 0.0), min(high, 1.0)
    return low, high


def steps(low: float, high: float, count: int) -> list[float]:
    """`count` values from `low` to `high`, equally far from each other."""
    return [low + (high - low) * step / (count - 1) for step in range(count)]


def shown(name: str, value: float) -> str:
    """The value as a person reads it."""
    if name == "bytes":
        for unit in ("B", "KB", "MB", "GB"):
            if value < 1000 or unit == "GB":
                return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
            value /= 1000
    if name == "seconds":
        return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"
    if name == "drift":
        return f"{100 * value:.2f} %"
    return _short(value)


def _short(value: float) -> str:
    """A few characters: "0.116", "478.4", "53247", "5.32e5"; three decimals where they say enough."""
    size = abs(value)
    if size >= 1e5 or 0 < size < 5e-4:
        mantissa, power = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(power)}"
    return f"{value:.{3 if size < 100 else 1 if size < 1000 else 0}f}"
