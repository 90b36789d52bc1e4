"""The curves of a run as SVG geometry, so that a page without JavaScript shows them too.

`static/js/charts.js` draws the same pictures from the same numbers; change both together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fedportal.common.axes import bounds, shown, steps

WIDTH, HEIGHT = 320, 170
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 10, 24
SERIES = 6  # how many colours there are; the next organization starts again
TICKS = 3


class Chart(NamedTuple):
    """One picture: its name, what a reader is told, and lines ready for `<polyline>`."""

    name: str
    title: str
    summary: str
    lines: list[dict[str, Any]]
    ticks: list[dict[str, Any]]
    marks: list[dict[str, Any]]


MEASURES = (
    ("accuracy", "Accuracy"),
    ("auc", "AUC"),
    ("loss", "Loss"),
    ("seconds", "Seconds per round"),
    ("bytes", "Bytes per round"),
)


def charts(curves: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[Chart]:
    """A chart for each measure; those of quality have a line for each organization beside the whole."""
    return [_chart(name, title, curves, names) for name, title in MEASURES]


def legend(names: Mapping[str, str]) -> list[dict[str, str]]:
    """Which line stands for whom."""
    lines = [{"kind": "all", "label": "All organizations"}]
    lines += [{"kind": _series(index), "label": label} for index, label in enumerate(names.values())]
    return lines


def _series(index: int) -> str:
    return f"series-{index % SERIES + 1}"


def values(name: str, curves: Sequence[Mapping[str, Any]], organization: str = "") -> list[tuple[int, float]]:
    """The points (round, value) of a measure, of one organization or of all; unmeasured rounds are left out."""
    found = []
    for point in curves:
        row = point["organizations"].get(organization, {}) if organization else point
        value = _bytes(row) if name == "bytes" else row.get(name)
        if value is not None and math.isfinite(value):
            found.append((point["number"], float(value)))
    return found


def _bytes(row: Mapping[str, Any]) -> float | None:
    up, down = row.get("bytes_up"), row.get("bytes_down")
    return None if up is None and down is None else (up or 0) + (down or 0)


def _chart(name: str, title: str, curves: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Chart:
    series = [("all", "All organizations", values(name, curves))]
    if name not in ("seconds", "bytes"):
        series += [
            (_series(index), label, values(name, curves, key)) for index, (key, label) in enumerate(names.items())
        ]
    series = [row for row in series if row[2]]
    every = [value for _, _, points in series for _, value in points]
    if not every:
        return Chart(name, title, "Nothing measured yet.", [], [], [])
    low, high = bounds(name, every)
    first, last = curves[0]["number"], max(curves[-1]["number"], curves[0]["number"] + 1)
    lines = [
        {"kind": kind, "label": label, "points": line, "end": dict(zip("xy", line.split()[-1].split(","), strict=True))}
        for kind, label, line in (
            (kind, label, _polyline(points, first, last, low, high)) for kind, label, points in reversed(series)
        )
    ]
    ticks = [{"y": round(_y(value, low, high), 1), "label": shown(name, value)} for value in steps(low, high, TICKS)]
    marks = [{"x": LEFT, "label": str(first)}, {"x": WIDTH - RIGHT, "label": str(last)}]
    newest = series[0][2][-1]
    return Chart(name, title, f"{shown(name, newest[1])} at round {newest[0]}", lines, ticks, marks)


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP)


def _polyline(points: Sequence[tuple[int, float]], first: int, last: int, low: float, high: float) -> str:
    span = WIDTH - LEFT - RIGHT
    return " ".join(
        f"{LEFT + (number - first) / (last - first) * span:.1f},{_y(value, low, high):.1f}" for number, value in points
    )
