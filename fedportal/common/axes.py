"""The numbers of a chart's axes, for every floor that draws one. Pure; pages write them as SVG."""

from __future__ import annotations

from collections.abc import Sequence

# From zero for amounts, around the data for qualities.
AMOUNTS = frozenset({"seconds", "bytes", "loss"})
RATIOS = frozenset({"accuracy", "auc"})


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
    return f"{value:.3f}"
