"""The curves of a run as SVG geometry and tables, so that a page without JavaScript shows them too.

`static/js/charts.js` draws the same pictures from the same numbers; change both together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from fedportal.common.axes import Axis, axis, margin, shown

WIDTH, HEIGHT = 320, 170
RIGHT, TOP, BOTTOM = 8, 10, 24
SERIES = 6  # how many colours there are; the next organization starts again
MOST_OTHERS = 4
MOST_FURTHER = 60
MOST_LINES = 6  # of more organizations only the worst are drawn
MOST_ROWS = 40  # of a table
WORTH_SAYING = 1.05  # from this ratio on updates are called compressed


class Chart(NamedTuple):
    """One picture: its name, what a reader is told, lines ready for `<polyline>`, and the same as a table.

    `left`: where the axis is; `middle`: of what is right of it. `expected`: there will be something to see.
    """

    name: str
    title: str
    summary: str
    worst: str
    lines: list[dict[str, Any]]
    ticks: list[dict[str, Any]]
    marks: list[dict[str, Any]]
    columns: list[str]
    rows: list[list[str]]
    left: int = 0
    middle: float = 0.0
    expected: bool = False

    @property
    def hidden(self) -> bool:
        """Whether it shows nothing and need not say so."""
        return not self.lines and self.name in dict(CHANGES) and not self.expected


MEASURES = (("accuracy", "Accuracy"), ("auc", "AUC"), ("loss", "Loss"))
# How far organizations are apart, and how far the model moves; hidden until there is something to see.
CHANGES = (
    ("gap:accuracy", "Gap in accuracy"),
    ("gap:loss", "Gap in loss"),
    ("drift", "Change of the weights"),
    ("loss_change", "Change of the loss"),
    ("staleness", "Staleness of answers"),
)
COSTS = (("seconds", "Seconds per round"), ("bytes", "Bytes per round"))
ALONE = frozenset({"drift", "staleness", *dict(COSTS)})  # of the run and not of any organization
WHOLE = frozenset({"gap:accuracy", "gap:loss", *ALONE})  # with one line
# Metrics that follow from counts: known without asking, so they are drawn when somebody asks.
ASKED = frozenset({"sensitivity", "specificity"})
GREATER = frozenset({"sensitivity", "specificity", "balanced_accuracy"})
OWN = "Devices’ own models"  # of all organizations together
Points = list[tuple[int, float]]
Series = tuple[str, str, Points]


def charts(
    curves: Sequence[Mapping[str, Any]], names: Mapping[str, str], chosen: Sequence[str] | None = None
) -> list[Chart]:
    """A chart for each measure; those of quality have a line for each organization beside the whole.

    `chosen`: which further metrics to draw; without it a few.
    """
    extra = [(f"other:{name}", titled(name)) for name, _, drawn in further(curves, chosen) if drawn]
    there = _there(curves, names)
    return [_chart(name, title, curves, there) for name, title in (*MEASURES, *extra, *CHANGES, *COSTS)]


def further(curves: Sequence[Mapping[str, Any]], chosen: Sequence[str] | None = None) -> list[tuple[str, str, bool]]:
    """The further metrics that there are: name, title, and whether it is drawn."""
    there = sorted({name for point in curves for name in point.get("others") or {}})[:MOST_FURTHER]
    drawn = [name for name in there if name not in ASKED][:MOST_OTHERS] if chosen is None else chosen
    return [(name, titled(name), name in drawn) for name in there]


def titled(name: str) -> str:
    """A metric's name as a title."""
    words = name.replace("_", " ")
    return f"AUC {words[4:]}" if words.startswith("auc ") else words[:1].upper() + words[1:]


def legend(curves: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[dict[str, str]]:
    """Which line stands for whom: the organizations that measured something, by name."""
    lines = [{"kind": "all", "label": "All organizations"}]
    if any(point.get("personal") for point in curves):
        lines.append({"kind": "personal", "label": OWN})
    return lines + [{"kind": kind, "label": label} for _, label, kind in _there(curves, names)]


def _there(curves: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Organization, name and colour of those that measured something, by name; the colour goes by the place in `names`,
    which does not change."""
    there = {key for point in curves for key in point["organizations"]}
    rows = [(key, label, f"series-{index % SERIES + 1}") for index, (key, label) in enumerate(names.items())]
    return sorted((row for row in rows if row[0] in there), key=lambda row: row[1].casefold())


def values(name: str, curves: Sequence[Mapping[str, Any]], organization: str = "") -> Points:
    """The points (round, value) of a measure, of one organization or of all; unmeasured rounds are left out."""
    read = _reader(name)
    found = []
    for point in curves:
        row = point["organizations"].get(organization) if organization else point
        value = None if row is None else read(row)
        if value is not None and math.isfinite(value):
            found.append((point["number"], float(value)))
    return found


def own(name: str, curves: Sequence[Mapping[str, Any]]) -> Points:
    """The points of what devices' own models do, of accuracy, AUC and loss."""
    if name not in dict(MEASURES):
        return []
    rows = [(point["number"], point.get("personal", {}).get(name)) for point in curves]
    return [(number, float(value)) for number, value in rows if value is not None and math.isfinite(value)]


def _reader(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    """How to read the measure from a row. Chosen once: a page reads it for every round of every organization."""
    if name == "bytes":
        return _bytes
    if name.startswith("gap:"):
        measure = name.removeprefix("gap:")
        return lambda row: (row.get("gaps") or {}).get(measure)
    if name.startswith("other:"):
        key = name.removeprefix("other:")
        return lambda row: (row.get("others") or {}).get(key)
    return lambda row: row.get(name)


def _bytes(row: Mapping[str, Any]) -> float | None:
    up, down = row.get("bytes_up"), row.get("bytes_down")
    return None if up is None and down is None else (up or 0) + (down or 0)


def lower_is_better(name: str) -> bool | None:
    """Whether less is better; None where nobody knows."""
    if name in ("accuracy", "auc") or name.removeprefix("other:") in GREATER or name.startswith("other:auc_"):
        return False
    return True if name in ("loss", "loss_change") or "error" in name else None


def _drawn(
    name: str, curves: Sequence[Mapping[str, Any]], there: Sequence[tuple[str, str, str]]
) -> tuple[list[Series], str]:
    """The lines to draw, the whole first, and who does worst at the newest point."""
    whole: Series = ("all", "All organizations", values(name, curves))
    if name == "staleness":
        whole = ("all", "Mean", whole[2])
        return [row for row in (whole, ("series-1", "Most", values("staleness_most", curves))) if row[2]], ""
    if name in WHOLE:
        return ([whole] if whole[2] else []), ""
    each: list[Series] = [(kind, label, values(name, curves, key)) for key, label, kind in there]
    each = [row for row in each if row[2]]
    less = lower_is_better(name)
    ranked = sorted(each, key=lambda row: -row[2][-1][1] if less else row[2][-1][1])
    newest = max((row[2][-1][0] for row in each), default=0)
    alike = [row for row in ranked if row[2][-1][0] == newest]  # values of different rounds do not compare
    worst, told = "", [shown(name, row[2][-1][1]) for row in alike]
    if less is not None and len(alike) > 1 and told[0] != told[-1]:  # of those that one cannot tell apart none is
        worst = f"{'highest' if less else 'lowest'}: {alike[0][1]} {told[0]}"
    few = {row[1] for row in ranked[:MOST_LINES]}
    beside: Series = ("personal", OWN, own(name, curves))
    return [row for row in (whole, beside, *(row for row in each if row[1] in few)) if row[2]], worst


def _chart(name: str, title: str, curves: Sequence[Mapping[str, Any]], there: Sequence[tuple[str, str, str]]) -> Chart:
    series, worst = _drawn(name, curves, there)
    every = [value for _, _, points in series for _, value in points]
    if not every:
        return Chart(name, title, "Nothing measured yet.", "", [], [], [], [], [])
    scale = axis(name, every)
    labels = [(value, shown(name, value)) for value in scale.ticks()]
    left = margin([label for _, label in labels])
    first, last = curves[0]["number"], max(curves[-1]["number"], curves[0]["number"] + 1)
    lines = [
        {"kind": kind, "label": label, "points": line, "end": dict(zip("xy", line.split()[-1].split(","), strict=True))}
        for kind, label, line in (
            (kind, label, _polyline(points, first, last, left, scale)) for kind, label, points in reversed(series)
        )
    ]
    ticks = [{"y": round(_y(value, scale), 1), "label": label} for value, label in labels]
    marks = [{"x": left, "label": str(first)}, {"x": WIDTH - RIGHT, "label": str(last)}]
    newest = series[0][2][-1]
    remark = _smaller(curves, newest[0]) if name == "bytes" else _by_fewer(name, curves, newest[0])
    summary = f"{shown(name, newest[1])} at round {newest[0]}{remark}{_beside(name, series, newest[0])}"
    if scale.logarithmic:
        summary += "; the axis is logarithmic"
    columns, rows = table(name, series)
    middle = (left + WIDTH - RIGHT) / 2
    return Chart(name, title, summary, worst, lines, ticks, marks, columns, rows, left, middle)


def _by_fewer(name: str, curves: Sequence[Mapping[str, Any]], number: int) -> str:
    """What is added to a value that not all measured: it is over the rows of fewer, and does not compare."""
    of = {point["number"]: len(point["organizations"]) for point in curves}
    most = max(of.values())
    return f", by {of[number]} of {most} organizations" if name not in ALONE and of[number] < most else ""


def _beside(name: str, series: Sequence[Series], number: int) -> str:
    """What is added to a value where devices' own models were measured at the same round."""
    found = next((dict(points).get(number) for kind, _, points in series if kind == "personal"), None)
    return "" if found is None else f"; own models {shown(name, found)}"


def _smaller(curves: Sequence[Mapping[str, Any]], number: int) -> str:
    """What is added to the bytes of a round whose updates were compressed, as measured at the door."""
    ratio = next((point.get("ratio") for point in curves if point["number"] == number), None)
    return f", updates {ratio:.1f} times smaller than float32" if ratio and ratio >= WORTH_SAYING else ""


def table(name: str, series: Sequence[Series]) -> tuple[list[str], list[list[str]]]:
    """The chart as a table, newest first: its columns, and at most MOST_ROWS rows, evenly chosen."""
    by_round: dict[int, dict[str, float]] = {}
    for _, label, points in series:
        for number, value in points:
            by_round.setdefault(number, {})[label] = value
    labels, numbers = [label for _, label, _ in series], sorted(by_round, reverse=True)
    step = math.ceil(len(numbers) / MOST_ROWS)
    rows = [
        [
            str(number),
            *(shown(name, by_round[number][label]) if label in by_round[number] else "–" for label in labels),
        ]
        for number in numbers[:: max(step, 1)]
    ]
    return ["Round", *labels], rows


def _y(value: float, scale: Axis) -> float:
    return HEIGHT - BOTTOM - scale.place(value) * (HEIGHT - BOTTOM - TOP)


def _polyline(points: Points, first: int, last: int, left: int, scale: Axis) -> str:
    span = WIDTH - left - RIGHT
    return " ".join(
        f"{left + (number - first) / (last - first) * span:.1f},{_y(value, scale):.1f}" for number, value in points
    )
