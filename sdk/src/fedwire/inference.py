"""Federated inference: what a plan asks of a device, and the whole numbers in which it answers.

A device runs a model over its own rows and answers with a list of whole numbers, its cells, which add up over devices:

    counts      a cell for each class: rows for which the model says that class
    histogram   a cell for each of `bins` equal intervals of [low, high]: rows whose score lies there
    mean        two cells: GRID for each row, and each row's score on a grid of GRID steps from low to high
    confusion   a cell for each pair (true class, predicted class), row by row

The score is the probability of class 1, of more than two classes the largest probability, and of a model without
classes what it predicts. One row more or less changes the cells by `sensitivity` at most (L2), so noise of `noise`
times that on every device hides any single row of it; see `docs/inference.md`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedwire import noise as bell
from fedwire.errors import FedportalError

COUNTS, HISTOGRAM, MEAN, CONFUSION = "counts", "histogram", "mean", "confusion"
SUMMARIES = (COUNTS, HISTOGRAM, MEAN, CONFUSION)
ALL, HELD_OUT = "all", "held_out"
ROWS = (ALL, HELD_OUT)
GRID = 1024
LEAST_BINS, MOST_BINS = 2, 200
MOST_CLASSES = 1000
# Of true and predicted class, so that its cells are as many as those of a summary by class may be.
MOST_CONFUSED = 40
MOST_CELLS = 2000
# With fewer rows in a cell it says something of single people; nobody may ask for less.
LEAST_COUNT, DEFAULT_COUNT, MOST_COUNT = 5, 10, 1_000_000
LEAST_NOISE, MOST_NOISE = 0.3, 1000.0
MOST_RANGE = 1e9
# No number of JSON that every reader keeps exact is larger.
MOST_CELL = 2**53 - 1


@dataclass(frozen=True)
class Asked:
    """What a plan asks each device for. `noise`: σ over the sensitivity, 0 without. `classes`: 0 for a model that
    predicts a number. `least_count`: cells with fewer rows are not shown, and a device with fewer declines."""

    summary: str
    classes: int = 2
    bins: int = 20
    low: float = 0.0
    high: float = 1.0
    rows: str = ALL
    noise: float = 0.0
    least_count: int = DEFAULT_COUNT

    @property
    def cells(self) -> int:
        """How many numbers the answer has."""
        lengths = {COUNTS: self.classes, HISTOGRAM: self.bins, MEAN: 2, CONFUSION: self.classes**2}
        return lengths[self.summary]

    @property
    def sensitivity(self) -> float:
        """By how much one row changes the cells at most, as their L2 norm."""
        return math.sqrt(2) * GRID if self.summary == MEAN else 1.0

    @property
    def sigma(self) -> float:
        """The standard deviation of the noise in each cell of one device."""
        return self.noise * self.sensitivity

    def as_json(self) -> dict[str, Any]:
        """As it is stored and travels."""
        return asdict(self)


def asked_of(said: Mapping[str, Any]) -> Asked:
    """What is asked for, from outside. Raises `field_invalid` for what is none, or is not known."""
    unknown = sorted(set(map(str, said)) - Asked.__dataclass_fields__.keys())
    if unknown:
        raise _wrong(unknown[0], "there is no such field of a plan.")
    summary, rows = said.get("summary"), said.get("rows", ALL)
    if summary not in SUMMARIES:
        raise _wrong("summary", f"it must be one of {', '.join(SUMMARIES)}.")
    if rows not in ROWS:
        raise _wrong("rows", f"it must be one of {', '.join(ROWS)}.")
    low, high = (_number(name, said.get(name, value)) for name, value in (("low", 0.0), ("high", 1.0)))
    noise = _number("noise", said.get("noise", 0.0))
    if not -MOST_RANGE <= low < high <= MOST_RANGE:
        raise _wrong("high", f"it must be above `low`, and both within ±{MOST_RANGE:g}.")
    if noise != 0.0 and not LEAST_NOISE <= noise <= MOST_NOISE:
        raise _wrong("noise", f"it must be 0 for none, or from {LEAST_NOISE:g} to {MOST_NOISE:g}.")
    classes = _whole("classes", said.get("classes", 2), 0, MOST_CLASSES)
    least = 2 if summary in (COUNTS, CONFUSION) else 0
    most = MOST_CONFUSED if summary == CONFUSION else MOST_CLASSES
    if not least <= classes <= most or classes == 1:
        raise _wrong("summary", f"{summary} needs a model of {max(least, 2)} to {most} classes, and it has {classes}.")
    return Asked(
        summary,
        classes,
        _whole("bins", said.get("bins", 20), LEAST_BINS, MOST_BINS),
        low,
        high,
        rows,
        noise,
        _whole("least_count", said.get("least_count", DEFAULT_COUNT), LEAST_COUNT, MOST_COUNT),
    )


def cells_of(asked: Asked, scores: NDArray[Any], predicted: NDArray[Any], labels: NDArray[Any]) -> NDArray[np.int64]:
    """The cells of these rows, without noise. `scores` and, where there are classes, `predicted`, `labels` by row."""
    if asked.summary == COUNTS:
        return np.bincount(predicted, minlength=asked.classes)
    if asked.summary == CONFUSION:
        return np.bincount(labels * asked.classes + predicted, minlength=asked.classes**2)
    place = (np.clip(scores.astype(np.float64), asked.low, asked.high) - asked.low) / (asked.high - asked.low)
    if asked.summary == HISTOGRAM:
        return np.bincount(np.minimum((place * asked.bins).astype(np.int64), asked.bins - 1), minlength=asked.bins)
    return np.array([GRID * len(place), int(np.rint(place * GRID).astype(np.int64).sum())], np.int64)


def noised(asked: Asked, cells: NDArray[np.int64]) -> list[int]:
    """The cells as they leave the device: each with a draw of its own, from the operating system's randomness."""
    found = cells.astype(np.int64)
    if asked.noise:
        found = found + bell.wide_gaussian(asked.sigma, len(found))
    return [int(cell) for cell in found]


def whole_numbers(value: Any) -> list[int]:
    """A list of whole numbers that came from outside. Raises `inference_invalid` for anything else."""
    if not isinstance(value, list) or not 0 < len(value) <= MOST_CELLS:
        raise _unusable(f"it is not a list of 1 to {MOST_CELLS} numbers")
    if not all(type(cell) is int and -MOST_CELL <= cell <= MOST_CELL for cell in value):
        raise _unusable("its cells are not all whole numbers that JSON keeps exact")
    return value


def check(asked: Asked, cells: Sequence[int], most_rows: int) -> None:
    """Raises `inference_invalid` for cells that no device with at most so many rows can have answered."""
    if len(cells) != asked.cells:
        raise _unusable(f"it has {len(cells)} cells, and the plan asks for {asked.cells}")
    spare = bell.furthest(asked.sigma) if asked.noise else 0
    each = most_rows * (GRID if asked.summary == MEAN else 1)
    if min(cells) < -spare:
        raise _unusable("a cell is below what can be")
    if max(cells) > each + spare:
        raise _unusable(f"a cell counts more than {most_rows} rows")
    if asked.noise:
        return
    if asked.summary == MEAN:
        if cells[0] % GRID or cells[1] > cells[0]:
            raise _unusable("its mean lies outside its range")
    elif sum(cells) > most_rows:
        raise _unusable(f"it counts more than {most_rows} rows")
    if rows_of(asked, cells) < asked.least_count:
        raise _unusable(f"it stands for fewer than {asked.least_count} rows")


def rows_of(asked: Asked, cells: Sequence[int]) -> int:
    """For how many rows the cells stand; of noisy cells, about."""
    return round(cells[0] / GRID) if asked.summary == MEAN else sum(cells)


def _unusable(reason: str) -> FedportalError:
    return FedportalError("inference_invalid", reason=reason)


def _wrong(field: str, reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=field, reason=reason)


def _number(field: str, value: Any) -> float:
    # The bound comes first: an integer too large for a float must not raise.
    if type(value) in (int, float) and -1e30 <= value <= 1e30 and math.isfinite(value):
        return float(value)
    raise _wrong(field, "it is not a number.")


def _whole(field: str, value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _wrong(field, f"it must be a whole number from {least} to {most}.")
    return int(value)
