"""Intervals as SVG geometry: where the rate of each arm lies, and where the difference of two arms does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from registry.delivery.conclusions import Conclusion, Measure

WIDTH, TOP, ROW, BOTTOM, RIGHT = 320, 10, 30, 22, 16
CHARACTER, BESIDE = 6.4, 12
# Arms that are alike still lie on an axis of this length.
LEAST_SPAN = 0.02
NAMES = {"accuracy": "Accuracy", "error_rate": "Rate of errors"}


class Picture(NamedTuple):
    """Intervals below each other over one axis: what a reader is told, the rows, the axis, and where zero is."""

    title: str
    summary: str
    rows: list[dict[str, Any]]
    ticks: list[dict[str, Any]]
    zero: float | None
    height: int
    left: int


def of_arms(found: Conclusion, control: str, treatment: str) -> Picture | None:
    """Where the rate of each arm lies; None while either arm has too few observations."""
    arms = [("control", control, found.control), ("treatment", treatment, found.treatment)]
    known = [(arm, name, *drawn) for arm, name, measure in arms if (drawn := _drawn(measure)) is not None]
    if len(known) < len(arms):
        return None
    summary = ", ".join(
        f"{name} {_percent(middle)} ({_percent(low)} to {_percent(high)})" for _, name, middle, low, high in known
    )
    return _picture(NAMES[found.metric], summary, known, difference=False)


def of_difference(found: Conclusion, control: str, treatment: str) -> Picture | None:
    """Where treatment less control lies, with zero marked; None while nothing can be said."""
    told = found.difference
    if told is None:
        return None
    arm = found.better or "none"
    row = (arm, "", told.estimate, told.low, told.high)
    summary = f"{_points(told.estimate)} ({_points(told.low)} to {_points(told.high)}), in points"
    return _picture(f"{treatment} less {control}", summary, [row], difference=True)


def _drawn(measure: Measure) -> tuple[float, float, float] | None:
    if measure.estimate is None or measure.low is None or measure.high is None:
        return None
    return measure.estimate, measure.low, measure.high


def _picture(
    title: str, summary: str, known: Sequence[tuple[str, str, float, float, float]], *, difference: bool
) -> Picture:
    low, high = _axis([value for _, _, *values in known for value in values], difference)
    left = math.ceil(BESIDE + CHARACTER * max(len(name) for _, name, *_ in known))
    shown = _points if difference else _percent

    def x(value: float) -> float:
        return round(left + (value - low) / (high - low) * (WIDTH - left - RIGHT), 1)

    rows = [
        {
            "arm": arm,
            "label": name,
            "y": TOP + ROW * place + ROW // 2,
            "low": x(lowest),
            "high": x(highest),
            "at": x(middle),
            "words": f"{name} {shown(middle)}, between {shown(lowest)} and {shown(highest)}".strip(),
        }
        for place, (arm, name, middle, lowest, highest) in enumerate(known)
    ]
    values = (low, (low + high) / 2, high)
    anchors = ("start", "middle", "end")
    ticks = [
        {"x": x(value), "label": shown(value), "anchor": anchor} for value, anchor in zip(values, anchors, strict=True)
    ]
    zero = x(0.0) if difference else None
    return Picture(title, summary, rows, ticks, zero, TOP + ROW * len(rows) + BOTTOM, left)


def _axis(values: Sequence[float], difference: bool) -> tuple[float, float]:
    """From a little before to a little after; rates within 0 and 1, differences with zero in sight."""
    every = [*values, 0.0] if difference else [*values]
    low, high = min(every), max(every)
    room = max((high - low) * 0.08, LEAST_SPAN / 2)
    if difference:
        return low - room, high + room
    return max(low - room, 0.0), min(high + room, 1.0)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")
