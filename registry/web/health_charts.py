"""How a version fares over time, as SVG geometry: failed predictions, latency, right predictions, with their limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from math import isinf
from typing import NamedTuple

from fedportal.common.axes import TICKS, margin, steps
from fedwire.latencies import LATENCIES
from registry.delivery.health import Verdict
from registry.models import Rollout
from registry.web.charts import BOTTOM, HEIGHT, RIGHT, TOP, WIDTH, Chart

Course = Sequence[tuple[datetime, Verdict]]


class _Measure(NamedTuple):
    """What one picture shows."""

    name: str
    title: str
    of: Callable[[Verdict], float | None]
    shown: Callable[[float], str]
    limit: float | None
    wrong_above: bool


def health_charts(rollout: Rollout, course: Course, now: datetime) -> list[Chart]:
    """The charts of what was reported, each with its limit if it has one; empty before the first report."""
    measures = (
        _Measure("error_rate", "Failed predictions", lambda v: v.error_rate, _percent, rollout.error_rate, True),
        _Measure("latency", "Latency (95 of 100)", _latency, _milliseconds, rollout.latency_ms, True),
        _Measure("accuracy", "Right predictions", lambda v: v.accuracy, _percent, rollout.accuracy, False),
    )
    return [chart for measure in measures if (chart := _chart(measure, course, now)) is not None]


def _chart(measure: _Measure, course: Course, now: datetime) -> Chart | None:
    points = [(at, value) for at, seen in course if (value := measure.of(seen)) is not None]
    if not points:
        return None
    low, high = _bounds(measure, [value for _, value in points])
    labels = [(value, measure.shown(value)) for value in steps(low, high, TICKS)]
    left = margin([label for _, label in labels])
    start, length = course[0][0], max((now - course[0][0]).total_seconds(), 1.0)

    def x(at: datetime) -> float:
        return round(left + (at - start).total_seconds() / length * (WIDTH - left - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP), 1)

    dots = [{"x": x(at), "y": y(value), "label": f"{measure.shown(value)}, {_ago(now, at)}"} for at, value in points]
    limit, summary = None, f"{measure.shown(points[-1][1])}, {_ago(now, points[-1][0])}"
    if measure.limit is not None:
        bound = f"{'at most' if measure.wrong_above else 'at least'} {measure.shown(measure.limit)}"
        limit, summary = {"y": y(measure.limit), "label": f"limit: {bound}"}, f"{summary}; {bound} is allowed"
    return Chart(
        measure.name,
        measure.title,
        summary,
        " ".join(f"{dot['x']},{dot['y']}" for dot in dots),
        dots,
        [{"y": y(value), "label": label} for value, label in labels],
        [
            {"x": left, "label": _ago(now, start), "anchor": "start"},
            {"x": WIDTH - RIGHT, "label": "now", "anchor": "end"},
        ],
        left,
        limit,
    )


def _bounds(measure: _Measure, values: Sequence[float]) -> tuple[float, float]:
    """The axis, with the limit on it: from 0 for what is wrong when it is high, up to 1 for what is wrong when low."""
    every = [*values, measure.limit] if measure.limit is not None else [*values]
    if measure.wrong_above:
        high = max(every) * 1.15 or 0.01
        return 0.0, min(high, 1.0) if measure.name == "error_rate" else high
    return max(min(every) - 0.05, 0.0), 1.0


def _latency(seen: Verdict) -> float | None:
    if seen.latency_ms is None or not isinf(seen.latency_ms):
        return seen.latency_ms
    return float(LATENCIES[-1])


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _milliseconds(value: float) -> str:
    return f"{value:.3g} ms" if value < 1_000 else f"{value / 1_000:.3g} s"


def _ago(now: datetime, at: datetime) -> str:
    seconds = max(int((now - at).total_seconds()), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
