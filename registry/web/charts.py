"""How the versions of a model do, as SVG geometry: one picture for each measure, a dot for each version."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from fedportal.common.axes import RATIOS, TICKS, bounds, margin, shown, steps
from registry.models import ModelVersion

WIDTH, HEIGHT = 320, 170
RIGHT, TOP, BOTTOM = 14, 12, 26
LEAST_SPAN = 0.1
MEASURES = (("accuracy", "Accuracy"), ("auc", "AUC"), ("loss", "Loss"))


class Chart(NamedTuple):
    """One picture: its name, what a reader is told, a line through the dots, the dots, and what is to be kept to."""

    name: str
    title: str
    summary: str
    line: str
    dots: list[dict[str, Any]]
    ticks: list[dict[str, Any]]
    marks: list[dict[str, Any]]
    left: int
    limit: dict[str, Any] | None = None


def charts(versions: Sequence[ModelVersion]) -> list[Chart]:
    """The charts of those measures that two versions or more have; `versions` are oldest first."""
    found = []
    for name, title in MEASURES:
        points = [
            (place, row.version, value)
            for place, row in enumerate(versions)
            if (value := measured(row, name)) is not None
        ]
        if len(points) > 1:
            found.append(_chart(name, title, points, [row.version for row in versions]))
    return found


def measured(version: ModelVersion, name: str) -> float | None:
    """The measure over all organizations' held-out rows; None when nobody took it."""
    value = version.metrics.get(name)
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def _chart(name: str, title: str, points: list[tuple[int, str, float]], versions: list[str]) -> Chart:
    low, high = _bounds(name, [value for _, _, value in points])
    labels = [(value, shown(name, value)) for value in steps(low, high, TICKS)]
    last, left = max(len(versions) - 1, 1), margin([label for _, label in labels])

    def x(place: int) -> float:
        return round(left + place / last * (WIDTH - left - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - BOTTOM - TOP), 1)

    dots = [
        {"x": x(place), "y": y(value), "version": version, "label": f"version {version}: {shown(name, value)}"}
        for place, version, value in points
    ]
    ticks = [{"y": y(value), "label": label} for value, label in labels]
    marks = [{"x": x(0), "label": versions[0], "anchor": "start"}]
    marks.append({"x": x(len(versions) - 1), "label": versions[-1], "anchor": "end"})
    _, newest, value = points[-1]
    summary = f"{shown(name, value)} in version {newest}, {shown(name, points[-2][2])} in {points[-2][1]}"
    line = " ".join(f"{dot['x']},{dot['y']}" for dot in dots)
    return Chart(name, title, summary, line, dots, ticks, marks, left)


def _bounds(name: str, every: Sequence[float]) -> tuple[float, float]:
    """The axis; that of a ratio shows at least LEAST_SPAN, so that a difference in the third digit looks like one."""
    low, high = bounds(name, every)
    if name not in RATIOS or high - low >= LEAST_SPAN:
        return low, high
    middle = (low + high) / 2
    low = min(max(middle - LEAST_SPAN / 2, 0.0), 1.0 - LEAST_SPAN)
    return low, min(max(low + LEAST_SPAN, high), 1.0)
