"""What a request holds → rows [n, inputs] as the model takes them: lists, values by name, or pictures.

Every number is there, is a number (true and false are 1 and 0), and is finite, or the request is refused with the place
at which it is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.serving.pictures import decoded
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError

Float64 = NDArray[np.float64]
MOST_SAID = 5
# Of one request, 128 MB: a PNG of some hundred bytes may become 150,000 numbers, and a request may hold thousands.
MOST_VALUES = 1 << 24
NUMBERS = {int, float, bool}
DEEPEST = 4


class Reader:
    """Reads the rows of one model. `brightest`: what a PNG's 255 stands for, as the model was trained."""

    def __init__(self, architecture: Architecture, *, most_rows: int, brightest: float = 1.0) -> None:
        self.architecture = architecture
        self.most_rows = min(most_rows, max(1, MOST_VALUES // architecture.inputs))
        self._brightest = brightest

    @property
    def wanted(self) -> str:
        """What one row must be, in words."""
        if self.architecture.kind == "cnn":
            planes, height, width = self.architecture.input_shape
            shape = f"[{height}][{width}]" if planes == 1 else f"[{planes}][{height}][{width}]"
            return f"pictures as lists {shape}, or as PNG in a data URL"
        count = self.architecture.inputs
        rows = f"rows of {count:,} numbers" if count > 1 else "rows of one number"
        return f"{rows}, in the model's order or by the columns' names" if self.architecture.columns else rows

    def rows(self, value: Any) -> Float64:
        """The rows [n, inputs] of a list. Raises `input_unusable`, `picture_unusable` and `rows_too_many`."""
        if not isinstance(value, list) or not value:
            raise self.unusable("it is not a list of rows")
        if len(value) > self.most_rows:
            raise FedportalError("rows_too_many", got=len(value), limit=self.most_rows)
        if not _is_plain(value):  # one text among numbers would give each of them the text's length in an array
            return self._one_by_one(value)
        try:
            found = np.asarray(value)
        except ValueError:  # rows of different lengths
            found = None
        if found is None or found.dtype.kind not in "biuf" or not self._fits(found.shape[1:]):
            return self._one_by_one(value)
        rows = found.reshape(len(value), -1).astype(np.float64, copy=False)
        if not np.isfinite(rows).all():
            at = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise self._no_number(at + 1, int(np.flatnonzero(~np.isfinite(rows[at]))[0]), "no finite number")
        return rows

    def row(self, value: Any, place: int = 1) -> Float64:
        """One row [inputs]: a list, values by name, or a picture. `place` names it in errors."""
        if isinstance(value, str):
            if self.architecture.kind != "cnn":
                raise self.unusable(f"row {place} is text")
            shape: Any = self.architecture.input_shape
            return (decoded(value, shape) * (self._brightest / 255)).reshape(-1)
        if isinstance(value, dict):
            value = self._ordered(value, place)
        flat, shape = _flattened(value)
        if not self._fits(shape):
            got = " × ".join(map(str, shape)) if shape else "no list, or one whose parts differ in length"
            raise self.unusable(f"row {place} has {got} values, the model takes {self._sizes()}")
        for at, number in enumerate(flat):
            if not isinstance(number, int | float) or not _finite(number):
                raise self._no_number(place, at, repr(number)[:60])
        return np.array(flat, np.float64)

    def unusable(self, reason: str) -> FedportalError:
        """The error that says why, and what to send."""
        return FedportalError("input_unusable", reason=f"{reason}.", wanted=self.wanted)

    def _one_by_one(self, value: Sequence[Any]) -> Float64:
        rows = np.empty((len(value), self.architecture.inputs))
        for place, row in enumerate(value):
            rows[place] = self.row(row, place + 1)
        return rows

    def _ordered(self, values: Mapping[str, Any], place: int) -> list[Any]:
        """The values in the model's order; what the model does not name is left out, as in training."""
        if not self.architecture.columns:
            raise self.unusable(f"row {place} has names, and the model's columns have none")
        missing = [name for name in self.architecture.columns if name not in values]
        if missing:
            more = f" and {len(missing) - MOST_SAID:,} more" if len(missing) > MOST_SAID else ""
            raise self.unusable(f"row {place} lacks {', '.join(missing[:MOST_SAID])}{more}")
        return [values[name] for name in self.architecture.columns]

    def _fits(self, shape: Sequence[int]) -> bool:
        given, wanted = tuple(shape), self.architecture.input_shape
        if given in ((self.architecture.inputs,), wanted):
            return True
        return len(wanted) == 3 and wanted[0] == 1 and given == wanted[1:]

    def _sizes(self) -> str:
        return " × ".join(map(str, self.architecture.input_shape))

    def _no_number(self, row: int, at: int, what: str) -> FedportalError:
        columns = self.architecture.columns
        return self.unusable(f"row {row} has {what} for {columns[at] if columns else f'value {at + 1}'}")


def _flattened(value: Any) -> tuple[list[Any], tuple[int, ...]]:
    """All that the nested lists hold, and their shape; () where they have none."""
    shape: list[int] = []
    flat = [value]
    while flat and all(isinstance(part, list) for part in flat):
        if len({len(part) for part in flat}) != 1 or len(shape) == 3:
            return [], ()
        shape.append(len(flat[0]))
        flat = [one for part in flat for one in part]
    return flat, tuple(shape)


def _is_plain(value: list[Any], deep: int = DEEPEST) -> bool:
    """Whether the lists hold nothing but numbers, and not too deep."""
    kinds = set(map(type, value))
    if kinds <= NUMBERS:
        return True
    if not deep or not kinds <= NUMBERS | {list}:
        return False
    return all(_is_plain(part, deep - 1) for part in value if isinstance(part, list))


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
