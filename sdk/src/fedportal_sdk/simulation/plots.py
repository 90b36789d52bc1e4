"""Pictures as SVG text: lines, bars and stacked bars with axes, readable in light and dark, without any script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 46
SERIES = 10  # colours
TICKS = 5
Pair = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """From `low` to `high` with marks at round numbers."""

    low: float
    high: float
    marks: tuple[float, ...]

    @classmethod
    def over(cls, values: Sequence[float], *, zero: bool = False) -> Axis:
        """An axis that holds all values, and 0 if asked for."""
        low, high = min([*values, *([0.0] if zero else [])]), max([*values, *([0.0] if zero else [])])
        if high - low < 1e-12:
            half = abs(low) / 2 if abs(low) > 1e-9 else 0.5
            low, high = (0.0, 1.0) if zero else (low - half, low + half)
        step = nice((high - low) / TICKS)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        marks = tuple(number * step for number in range(first, last + 1))
        return cls(marks[0], marks[-1], marks)

    def place(self, value: float, start: float, stop: float) -> float:
        """Where the value lies between two coordinates."""
        return start + (value - self.low) / (self.high - self.low) * (stop - start)


def nice(rough: float) -> float:
    """The next 1, 2 or 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in (1, 2, 5) if factor * power >= rough * (1 - 1e-9)), 10 * power)


def number(value: float) -> str:
    """A number as an axis shows it."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def line(title: str, points: Sequence[Pair], across: str, up: str) -> str:
    """A line through points, in the order of their first numbers."""
    points = sorted(points)
    horizontal, vertical = Axis.over([x for x, _ in points]), Axis.over([y for _, y in points])
    placed = [(_x(horizontal, x), _y(vertical, y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    dots = "".join(
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{number(a)}: {number(b)}</title></circle>'
        for (x, y), (a, b) in zip(placed, points, strict=True)
    )
    summary = f"{up} from {number(points[0][1])} to {number(points[-1][1])} over {len(points)} points"
    return _picture(title, summary, horizontal, vertical, across, up, f'<polyline points="{path}"/>{dots}')


def histogram(title: str, values: Sequence[float], across: str, bins: int = 24) -> str:
    """How often values occur."""
    horizontal = Axis.over(values, zero=True)
    width = (horizontal.high - horizontal.low) / bins
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int((value - horizontal.low) / width))] += 1
    vertical = Axis.over(counts, zero=True)
    bars = [
        _bar(horizontal, vertical, (horizontal.low + place * width, horizontal.low + (place + 1) * width), (0, count))
        for place, count in enumerate(counts)
        if count
    ]
    middle = sorted(values)[len(values) // 2]
    summary = f"{len(values)} values, the middle one {number(middle)}, the largest {number(max(values))}"
    return _picture(title, summary, horizontal, vertical, across, "devices", "".join(bars))


def bars(title: str, heights: Sequence[Pair], across: str, up: str) -> str:
    """A bar for each pair of a whole number and a height."""
    horizontal = Axis(min(x for x, _ in heights) - 0.5, max(x for x, _ in heights) + 0.5, _whole(heights))
    vertical = Axis.over([y for _, y in heights], zero=True)
    drawn = [_bar(horizontal, vertical, (x - 0.4, x + 0.4), (0, y)) for x, y in heights]
    most = max(y for _, y in heights)
    return _picture(
        title, f"{len(heights)} bars, at most {number(most)}", horizontal, vertical, across, up, "".join(drawn)
    )


def stacked(title: str, columns: Sequence[dict[str, int]], across: str, up: str) -> str:
    """A bar for each column, in it a part for each name."""
    names = sorted({name for column in columns for name in column}, key=lambda name: (len(name), name))
    horizontal = Axis(0.5, len(columns) + 0.5, _whole([(place + 1.0, 0.0) for place in range(len(columns))]))
    vertical = Axis.over([float(sum(column.values())) for column in columns], zero=True)
    drawn = []
    for place, column in enumerate(columns, 1):
        done = 0
        for index, name in enumerate(names):
            count = column.get(name, 0)
            if count:
                span, kind = (place - 0.42, place + 0.42), f"s{index % SERIES}"
                drawn.append(_bar(horizontal, vertical, span, (done, done + count), kind, f"class {name}: {count}"))
            done += count
    summary = f"{len(columns)} devices and {len(names)} classes"
    return _picture(title, summary, horizontal, vertical, across, up, "".join(drawn))


def _whole(heights: Sequence[Pair]) -> tuple[float, ...]:
    """At most a dozen whole numbers to mark."""
    places = sorted({x for x, _ in heights})
    step = max(1, math.ceil(len(places) / 12))
    return tuple(places[::step])


def _x(axis: Axis, value: float) -> float:
    return axis.place(value, LEFT, WIDTH - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return axis.place(value, HEIGHT - BOTTOM, TOP)


def _bar(horizontal: Axis, vertical: Axis, span: Pair, height: Pair, kind: str = "s0", told: str = "") -> str:
    left, right = (_x(horizontal, value) for value in span)
    bottom, top = (_y(vertical, value) for value in height)
    title = f"<title>{escape(told or number(height[1] - height[0]))}</title>"
    size = f'width="{max(right - left, 0.5):.1f}" height="{max(bottom - top, 0.5):.1f}"'
    return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" {size}>{title}</rect>'


def _picture(title: str, summary: str, horizontal: Axis, vertical: Axis, across: str, up: str, inside: str) -> str:
    """The picture with its axes. A screen reader hears the title and the summary."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    lines = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{_y(vertical, mark):.1f}" y2="{_y(vertical, mark):.1f}"/>'
        f'<text class="y" x="{LEFT - 8}" y="{_y(vertical, mark) + 4:.1f}">{number(mark)}</text>'
        for mark in vertical.marks
    )
    marks = "".join(
        f'<text class="x" x="{_x(horizontal, mark):.1f}" y="{bottom + 18}">{number(mark)}</text>'
        for mark in horizontal.marks
    )
    middle = (LEFT + right) / 2
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg role="img" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' aria-label="{escape(f"{title}: {summary}")}">{lines}{marks}'
        f'<line class="base" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
        f'<text class="x" x="{middle:.0f}" y="{HEIGHT - 8}">{escape(across)}</text>'
        f'<text class="x" transform="translate(14 {(TOP + bottom) / 2:.0f}) rotate(-90)">{escape(up)}</text>'
        f"{inside}</svg></figure>"
    )
