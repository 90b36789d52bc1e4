"""The device's own rows: reading them, checking them, and setting some aside to measure on.

Everything here happens before the portal is asked for work, and nothing of it ever leaves the device.
"""

from __future__ import annotations

import csv
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedwire.architectures import Architecture
from fedwire.errors import FedportalError

Float64 = NDArray[np.float64]
HELD_OUT_SHARE = 0.2
ROWS_AT_ONCE = 8192
# More different values than this are a measured number and not classes.
MOST_CLASSES = 1000
MOST_SAID = 10
log = logging.getLogger("fedportal")


@dataclass(frozen=True)
class Table:
    """Rows of numbers with a target. `target` holds numbers (float64) or strings; `source` names the rows in errors.

    `texts`: columns that are no features, by name. `named`: whether the data themselves name their columns. `flaws`:
    columns with a cell that is no number, by name, each with the error of the first such cell; these cells are NaN.
    Whether they matter only the model says.
    """

    features: Float64  # [n, d]
    target: NDArray[Any]  # [n]
    columns: tuple[str, ...]
    target_name: str
    source: str
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)  # [n] each
    named: bool = True
    flaws: Mapping[str, FedportalError] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.target)

    @property
    def classes(self) -> list[Any]:
        """The different values of the target, sorted."""
        return sorted(set(self.target.tolist()))


def load(data: Any, target_col: str, aside: Sequence[str] = ()) -> Table:
    """The rows of `data`: the path of a CSV file, a pair (features, target) of arrays, a data frame, or loaded rows.

    The columns called `aside` may hold text: one whose first value is no number is kept as text and is no feature.
    Other columns of a file or frame with text or gaps are told of and refused once a model asks for them, or at once
    when no column is left. Raises data_missing, data_empty, data_no_target, data_not_numeric, data_gap, data_ragged and
    data_one_class.
    """
    if isinstance(data, Table):
        return data
    if isinstance(data, str | Path):
        table = read_csv(Path(data), target_col, aside)
    elif hasattr(data, "to_numpy") and hasattr(data, "columns"):
        table = _from_frame(data, target_col, aside)
    else:
        features, target = data
        table = _from_arrays(np.asarray(features, np.float64), np.asarray(target), target_col)
    _check(table)
    return table


def read_csv(path: Path, target_col: str, aside: Sequence[str] = ()) -> Table:
    """The rows of a CSV file with a header line; commas, semicolons or tabs separate."""
    with _reading(path) as lines:
        return _read_rows(lines, path, target_col, aside)


def columns_of_csv(path: Path, target_col: str) -> list[str]:
    """The names in the header of a CSV file without the target's; no row is read.

    Raises data_missing, data_empty and data_no_target.
    """
    with _reading(path) as lines:
        header, _ = _header(iter(lines), path, target_col)
    return [name for name in header if name != target_col]


@contextmanager
def _reading(path: Path) -> Iterator[_Lines]:
    """The lines of the file; what goes wrong is said as data_missing."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield _Lines(file)
    except OSError as error:
        raise FedportalError("data_missing", path=str(path), reason=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise FedportalError("data_missing", path=str(path), reason="it is not UTF-8 text") from error
    except csv.Error as error:
        raise FedportalError("data_missing", path=str(path), reason=f"it is not a CSV file ({error})") from error


def held_out(table: Table, seed: int = 0) -> NDArray[np.bool_]:
    """Which rows are set aside to measure on: about a fifth, the same ones at every start.

    A row's place depends on its index and `seed` only, so appending rows hardly moves any. Where the target has
    classes, every class of at least two rows stands on both sides, and a class of one row is trained on.
    """
    places = _places(len(table), seed)
    aside = places < HELD_OUT_SHARE
    values = table.classes
    measured = table.target.dtype.kind == "f" and len(values) > min(MOST_CLASSES, max(2, len(table) // 2))
    groups = [np.ones(len(table), bool)] if measured else [table.target == value for value in values]
    for group in groups:
        rows = np.flatnonzero(group)
        if len(rows) < 2:
            aside[rows] = False
        elif not aside[rows].any():
            aside[rows[places[rows].argmin()]] = True
        elif aside[rows].all():
            aside[rows[places[rows].argmax()]] = False
    return aside


def by_place(table: Table, seed: int = 0) -> NDArray[np.bool_]:
    """Which rows are trained on where noise hides single ones: no row moves another, as in `held_out` for a class."""
    return _places(len(table), seed) >= HELD_OUT_SHARE


def features_for(table: Table, architecture: Architecture) -> Float64:
    """The columns [n, d] as the architecture takes them: by name where both have names, otherwise as they stand.

    Columns that the model does not name are left out, with a warning. Raises data_shape, data_not_numeric and data_gap
    for a column that is taken, and where there are names data_columns for those that are missing and data_column_twice.
    """
    taken = architecture.columns if architecture.columns and table.named else table.columns
    for name in taken:
        if name in table.flaws:
            raise table.flaws[name]
    if not (architecture.columns and table.named):
        if table.features.shape[1] != architecture.inputs:
            raise FedportalError("data_shape", expected=architecture.inputs, got=table.features.shape[1])
        return table.features
    counts, asked = Counter(table.columns), set(architecture.columns)
    if missing := [name for name in architecture.columns if name not in counts]:
        raise FedportalError("data_columns", missing=_some(missing))
    if twice := [name for name in architecture.columns if counts[name] > 1]:
        raise FedportalError("data_column_twice", column=twice[0])
    if further := [name for name in table.columns if name not in asked]:
        log.warning("The model does not take these columns, they are left out: %s.", _some(further))
    if table.columns == architecture.columns:
        return table.features
    places = {name: at for at, name in enumerate(table.columns)}
    return table.features[:, [places[name] for name in architecture.columns]]


def labels_for(table: Table, architecture: Architecture, labels: Sequence[Any] | None = None) -> NDArray[Any]:
    """The target as the architecture takes it: float32 numbers for `linear`, otherwise class numbers 0 … k-1 (int64).

    `labels` are the classes as the table writes them, in the model's order. Without them the model's own labels are
    that; without these too the values are sorted and numbered, unless they already are class numbers. Class numbers in
    arrays are taken as such. Raises data_not_numeric, data_classes, data_labels.
    """
    if architecture.kind == "linear":
        if table.target.dtype.kind != "f":
            raise FedportalError("data_not_numeric", column=table.target_name, row=1, value=str(table.target[0]))
        return table.target.astype(np.float32)
    values, count = table.classes, architecture.classes
    numbered = table.target.dtype.kind == "f" and all(v.is_integer() and 0 <= v < count for v in values)
    if labels is not None:
        order = [_like(value, table.target) for value in labels]
    elif architecture.labels:
        order = [_number(name) if table.target.dtype.kind == "f" else name for name in architecture.labels]
        if unknown := [str(value) for value in values if value not in order]:
            if numbered and not table.named:
                return table.target.astype(np.int64)
            known = _some(architecture.labels)
            raise FedportalError("data_labels", target=table.target_name, unknown=_some(unknown), labels=known)
    elif numbered:
        return table.target.astype(np.int64)
    else:
        order = values
    if len(order) != count or not set(values) <= set(order):
        raise FedportalError("data_classes", target=table.target_name, got=len(values), expected=count)
    numbers = {value: number for number, value in enumerate(order)}
    return np.fromiter((numbers[value] for value in table.target.tolist()), np.int64, len(table))


class _Lines:
    """The lines of a file; remembers an underscore, which Python reads inside numbers and a hospital does not mean."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.underscore = False

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            if "_" in line:
                self.underscore = True
            yield line


def _read_rows(lines: _Lines, path: Path, target_col: str, aside: Sequence[str]) -> Table:
    source = iter(lines)
    header, delimiter = _header(source, path, target_col)
    lines.underscore = False
    place = header.index(target_col)
    rows = filter(None, csv.reader(source, delimiter=delimiter))
    blocks: list[Float64] = []
    target: list[str] = []
    texts: dict[int, list[str]] = {}
    names: list[str] = []
    flaws: dict[str, FedportalError] = {}
    while block := list(islice(rows, ROWS_AT_ONCE)):
        done = len(target)
        if not done:
            texts = {at: [] for at in _text_places(header, block[0], aside) if at != place}
            names = [name for at, name in enumerate(header) if at != place and at not in texts]
        ragged = next((i for i, row in enumerate(block) if len(row) != len(header)), None)
        if ragged is not None:
            raise FedportalError("data_ragged", row=done + ragged + 1, got=len(block[ragged]), expected=len(header))
        for at, column in texts.items():
            column += [row[at].strip() for row in block]
        target += [row[place].strip() for row in block]
        for at in sorted([place, *texts], reverse=True):
            for row in block:
                del row[at]
        blocks.append(_numbers(block, names, done, flaws, strict=lines.underscore))
        lines.underscore = False
    if not target:
        raise FedportalError("data_empty", path=str(path))
    kept = {header[at]: column for at, column in texts.items()}
    features, values = np.concatenate(blocks), _target(target, target_col)
    return Table(features, values, tuple(names), target_col, str(path), kept, flaws=flaws)


def _header(source: Iterator[str], path: Path, target_col: str) -> tuple[list[str], str]:
    """The names in the first line, which is taken from `source`, and what separates them."""
    first = next(source, "")
    delimiter = max(",;\t", key=first.count)
    header = [name.strip() for name in next(csv.reader(chain([first], source), delimiter=delimiter), [])]
    if not any(header):
        raise FedportalError("data_empty", path=str(path))
    if target_col not in header:
        raise FedportalError("data_no_target", path=str(path), target=target_col, columns=", ".join(header))
    return header, delimiter


def _text_places(header: Sequence[str], first: Sequence[Any], aside: Sequence[str]) -> list[int]:
    """Where the columns called `aside` lie that hold text."""
    pairs = zip(header, first, strict=False)
    return [at for at, (name, value) in enumerate(pairs) if name in aside and _number(str(value)) is None]


def _numbers(
    rows: list[list[str]], names: Sequence[str], done: int, flaws: dict[str, FedportalError], *, strict: bool
) -> Float64:
    """The rows as numbers; `done` rows came before. The first cell of a column that is none is noted in `flaws`."""
    shape = (len(rows), len(names))
    flawed = [place for place, name in enumerate(names) if name in flaws]
    for row in rows if flawed else ():  # so that the others are read as fast as without them
        for place in flawed:
            row[place] = "nan"
    try:
        if strict:
            raise ValueError
        numbers = np.fromiter(map(float, chain.from_iterable(rows)), np.float64, shape[0] * shape[1])
    except ValueError:
        numbers = np.fromiter(_read_slowly(rows, names, done, flaws), np.float64, shape[0] * shape[1])
    numbers = numbers.reshape(shape)
    for column in map(int, np.flatnonzero(~np.isfinite(numbers).all(axis=0))):
        at = int(np.flatnonzero(~np.isfinite(numbers[:, column]))[0])
        gap = FedportalError("data_gap", column=names[column], row=done + at + 1, value=rows[at][column])
        flaws.setdefault(names[column], gap)
    return numbers


def _read_slowly(
    rows: list[list[str]], names: Sequence[str], done: int, flaws: dict[str, FedportalError]
) -> Iterator[float]:
    for row_number, row in enumerate(rows, done + 1):
        for name, text in zip(names, row, strict=True):
            number = _number(text)
            if number is None:
                code = "data_not_numeric" if text.strip() else "data_gap"
                flaws.setdefault(name, FedportalError(code, column=name, row=row_number, value=text[:60]))
            yield math.nan if number is None else number


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _target(texts: list[str], name: str) -> NDArray[Any]:
    """The target column as numbers when every value is one, otherwise as strings."""
    found = {text: _number(text) for text in set(texts)}
    if "" in found or any(number is not None and not math.isfinite(number) for number in found.values()):
        row = next(i for i, text in enumerate(texts, 1) if text == "" or not math.isfinite(_number(text) or 0.0))
        raise FedportalError("data_gap", column=name, row=row, value=texts[row - 1])
    if any(number is None for number in found.values()):
        return np.array(texts, dtype=object)
    return np.fromiter((found[text] for text in texts), np.float64, len(texts))


def _from_frame(frame: Any, target_col: str, aside: Sequence[str] = ()) -> Table:
    columns = [str(name) for name in frame.columns]
    if target_col not in columns:
        raise FedportalError("data_no_target", path="the data", target=target_col, columns=", ".join(columns))
    place = columns.index(target_col)
    cells = frame.to_numpy(dtype=object)
    texts = _text_places(columns, cells[0], aside) if len(cells) else []
    places = [at for at in range(len(columns)) if at != place and at not in texts]
    names = [columns[at] for at in places]
    features = np.empty((len(cells), len(names)))
    flaws: dict[str, FedportalError] = {}
    for index, name in enumerate(names):
        column = cells[:, places[index]]
        try:
            features[:, index] = column.astype(np.float64)
        except (TypeError, ValueError):
            row = next(i for i, value in enumerate(column) if _number(str(value)) is None)
            flaws[name] = FedportalError("data_not_numeric", column=name, row=row + 1, value=str(column[row])[:60])
            features[:, index] = math.nan
    table = _from_arrays(features, cells[:, place], target_col, names, flaws)
    named = any(isinstance(name, str) for at, name in enumerate(frame.columns) if at != place)
    kept = {columns[at]: [str(value) for value in cells[:, at]] for at in texts if at != place}
    return replace(table, named=named, texts=kept)


def _from_arrays(
    features: Float64,
    target: NDArray[Any],
    target_col: str,
    names: Sequence[str] = (),
    flaws: dict[str, FedportalError] | None = None,
) -> Table:
    if features.ndim < 2 or target.ndim != 1 or len(features) != len(target):
        raise FedportalError("data_missing", path="the arrays", reason="they need [n, d] features and [n] targets")
    features = features.reshape(len(features), -1)
    named = bool(names)
    names = names or [f"column {i}" for i in range(features.shape[1])]
    missing = ~np.isfinite(features)
    gaps = sorted((int(missing[:, column].argmax()), int(column)) for column in np.flatnonzero(missing.any(axis=0)))
    for row, column in gaps:
        gap = FedportalError("data_gap", column=names[column], row=row + 1, value=str(features[row, column]))
        if flaws is None:
            raise gap
        flaws.setdefault(names[column], gap)
    if target.dtype.kind in "biuf":
        target = target.astype(np.float64)
        if not np.isfinite(target).all():
            row = int(np.flatnonzero(~np.isfinite(target))[0])
            raise FedportalError("data_gap", column=target_col, row=row + 1, value=str(target[row]))
    else:
        target = _target([str(value).strip() for value in target.tolist()], target_col)
    return Table(features, target, tuple(names), target_col, "the data", named=named, flaws=flaws or {})


def _check(table: Table) -> None:
    if not len(table):
        raise FedportalError("data_empty", path=table.source)
    if len(table.classes) < 2:
        raise FedportalError("data_one_class", target=table.target_name)
    if table.flaws and set(table.flaws) >= set(table.columns):
        raise next(iter(table.flaws.values()))
    for flaw in list(table.flaws.values())[:MOST_SAID]:
        log.warning("%s It can be left like that if the model does not take this column.", flaw.message)


def _places(count: int, seed: int) -> Float64:
    """A number in [0, 1) for every row index: the finisher of SplitMix64 over index and seed."""
    start = np.uint64(seed * 0xD1B54A32D192ED03 & 0xFFFFFFFFFFFFFFFF)
    mixed = np.arange(1, count + 1, dtype=np.uint64) + start
    mixed *= np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _some(names: Sequence[str]) -> str:
    """The names in a sentence; the first ten of many."""
    more = len(names) - MOST_SAID
    return ", ".join(names[:MOST_SAID]) + (f" and {more:,} more" if more > 0 else "")


def _like(value: Any, target: NDArray[Any]) -> Any:
    return float(value) if target.dtype.kind == "f" else str(value)
