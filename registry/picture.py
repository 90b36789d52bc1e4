"""The lineage of a model as a picture: where its boxes and arrows go. Pure numbers; a template writes them as SVG.

Time runs from left to right. A version is a box; between a trained version and the one it started from stand the run's
box and, hanging below it, who gave to the run. Two runs from one version fork; every branch has a row of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

VERSION_WIDTH, VERSION_HEIGHT = 132, 62
RUN_WIDTH, RUN_HEIGHT = 212, 46
LINE = 18
GAP, ROW_GAP, MARGIN = 30, 22, 6
PADDING = 10
MOST_GIVERS = 5
# How much of a line fits into a box; the rest is in its title.
VERSION_LETTERS, LETTER = 17, 6.6
# A picture of few runs gives them what is free of this width, until nothing of their text is cut.
CANVAS = 1000


@dataclass(frozen=True)
class Run:
    """How a version was trained. `givers`: a line for each organization."""

    reference: str
    title: str
    note: str
    givers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A version with how it came. `parent` is the version it was trained from, if that is drawn too."""

    version: str
    note: str
    more: str = ""
    parent: str | None = None
    run: Run | None = None


@dataclass(frozen=True)
class Text:
    """A line of text; `whole` when it had to be cut."""

    x: float
    y: float
    text: str
    strong: bool = False
    whole: str = ""


@dataclass(frozen=True)
class Box:
    """A box. `kind`: version, run or givers; `reference` names what it leads to; `label` says all that it shows."""

    kind: str
    reference: str
    label: str
    x: float
    y: float
    width: float
    height: float
    lines: tuple[Text, ...]
    here: bool = False


@dataclass(frozen=True)
class Picture:
    """What is drawn, and the same in sentences."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    sentences: tuple[str, ...]


@dataclass
class _Rows:
    """Which row each version stands in, and how high the rows are."""

    row_of: dict[str, int] = field(default_factory=dict)
    heights: list[float] = field(default_factory=list)

    def top(self, version: str) -> float:
        row = self.row_of[version]
        return MARGIN + sum(self.heights[:row]) + ROW_GAP * row


def draw(steps: Sequence[Step], here: str = "") -> Picture:
    """The picture of these versions, oldest first; the one called `here` is marked."""
    known = {step.version for step in steps}
    children: dict[str | None, list[Step]] = {}
    for step in steps:
        children.setdefault(step.parent if step.parent in known else None, []).append(step)
    rows, depths = _Rows(), _depths(children)
    wide = _run_width(steps, max(depths.values(), default=0))
    for root in children.get(None, []):
        _place(root, children, rows, len(rows.heights))
    boxes: list[Box] = []
    arrows: list[str] = []
    for step in steps:
        boxes += _boxes(step, _left(depths[step.version], wide), rows.top(step.version), here, wide)
        arrows += _arrows(step, depths, rows, wide)
    width = max((box.x + box.width for box in boxes), default=0) + MARGIN
    height = MARGIN * 2 + sum(rows.heights) + ROW_GAP * max(len(rows.heights) - 1, 0)
    return Picture(width, height, tuple(boxes), tuple(arrows), tuple(sentence(step) for step in steps))


def sentence(step: Step) -> str:
    """The step in words."""
    run = step.run
    if run is None:
        return f"Version {step.version}: {_joined(step.note, step.more)}."
    came = f"trained {f'from version {step.parent} ' if step.parent else ''}by {run.title}"
    given = f" Given by {'; '.join(run.givers)}." if run.givers else ""
    return f"Version {step.version}: {_joined(came, run.note, step.note, step.more)}.{given}"


def _joined(*parts: str) -> str:
    return ", ".join(part.strip() for part in parts if part.strip())


def _depths(children: Mapping[str | None, Sequence[Step]]) -> dict[str, int]:
    """How many trained versions stand before each."""
    depths: dict[str, int] = {}
    # A trained version whose parent is not drawn still has its run's box before it.
    waiting = [(step, 1 if step.run is not None else 0) for step in children.get(None, [])]
    while waiting:
        step, depth = waiting.pop()
        depths[step.version] = depth
        waiting += [(child, depth + 1) for child in children.get(step.version, [])]
    return depths


def _place(root: Step, children: Mapping[str | None, Sequence[Step]], rows: _Rows, row: int) -> None:
    """Give the branch its rows: the first child goes on in its parent's, each further one gets a new one."""
    waiting = [(root, row)]
    while waiting:
        step, row = waiting.pop()
        if row < 0:
            row = len(rows.heights)
        while len(rows.heights) <= row:
            rows.heights.append(0.0)
        rows.row_of[step.version] = row
        rows.heights[row] = max(rows.heights[row], VERSION_HEIGHT, _run_height(step.run))
        following = children.get(step.version, [])
        # The last in the list is taken first, so that a branch is finished before the next one begins.
        waiting += [(child, -1) for child in reversed(following[1:])]
        waiting += [(child, row) for child in following[:1]]


def _run_height(run: Run | None) -> float:
    if run is None:
        return 0.0
    return RUN_HEIGHT + (_givers_height(run) if run.givers else 0.0)


def _givers_height(run: Run) -> float:
    return PADDING + LINE * min(len(run.givers), MOST_GIVERS + 1)


def _run_width(steps: Sequence[Step], depth: int) -> float:
    """How wide the runs' boxes are: as their text wants it, as far as the canvas has room."""
    runs = [step.run for step in steps if step.run is not None]
    letters = max((len(text) for run in runs for text in (run.title, run.note, *run.givers)), default=0)
    free = (CANVAS - 2 * MARGIN - VERSION_WIDTH) / max(depth, 1) - VERSION_WIDTH - 2 * GAP
    return max(RUN_WIDTH, min(free, 2 * PADDING + letters * LETTER))


def _left(depth: int, wide: float) -> float:
    return MARGIN + depth * (VERSION_WIDTH + wide + 2 * GAP)


def _boxes(step: Step, x: float, top: float, here: str, wide: float) -> list[Box]:
    lines = (
        Text(x + PADDING, top + 22, step.version, strong=True),
        _cut(x + PADDING, top + 38, step.note, VERSION_LETTERS),
        _cut(x + PADDING, top + 53, step.more, VERSION_LETTERS),
    )
    label = sentence(step)
    found = [
        Box("version", step.version, label, x, top, VERSION_WIDTH, VERSION_HEIGHT, lines, here=step.version == here)
    ]
    if step.run is not None:
        found += _run_boxes(step.run, x - GAP - wide, top, wide)
    return found


def _run_boxes(run: Run, x: float, top: float, wide: float) -> list[Box]:
    fits = int((wide - 2 * PADDING) / LETTER + 1e-6) + 2  # most letters are narrower than the widest
    lines = (
        Text(x + PADDING, top + 19, _short(run.title, fits), strong=True),
        _cut(x + PADDING, top + 36, run.note, fits),
    )
    label = f"Run: {_joined(run.title, run.note)}"
    found = [Box("run", run.reference, label, x, top, wide, RUN_HEIGHT, lines)]
    if run.givers:
        shown = list(run.givers[:MOST_GIVERS])
        if len(run.givers) > MOST_GIVERS:
            shown.append(f"and {len(run.givers) - MOST_GIVERS} more")
        below = top + RUN_HEIGHT
        texts = tuple(
            _cut(x + PADDING, below + LINE * (number + 1) - 1, giver, fits + 3) for number, giver in enumerate(shown)
        )
        label = f"Given by {'; '.join(run.givers)}"
        found.append(Box("givers", "", label, x, below, wide, _givers_height(run), texts))
    return found


def _arrows(step: Step, depths: Mapping[str, int], rows: _Rows, wide: float) -> list[str]:
    if step.run is None:
        return []
    x, y = _left(depths[step.version], wide), rows.top(step.version)
    middle = y + RUN_HEIGHT / 2
    found = [f"M{x - GAP:g},{middle:g} H{x:g}"]
    if step.parent is not None and step.parent in depths:
        start = _left(depths[step.parent], wide) + VERSION_WIDTH
        above = rows.top(step.parent) + RUN_HEIGHT / 2
        bend = "" if above == middle else f" H{start + GAP / 2:g} V{middle:g}"
        found.append(f"M{start:g},{above:g}{bend} H{start + GAP:g}")
    return found


def _cut(x: float, y: float, text: str, letters: int) -> Text:
    short = _short(text, letters)
    return Text(x, y, short, whole=text if short != text else "")


def _short(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: letters - 1].rstrip() + "…"
