"""Naming parts of the held-out rows, so that it shows for whom a model does worse. What is too small stays here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.data import Table
from fedwire.errors import FedportalError
from fedwire.messages import Evaluation
from fedwire.reports import MAX_NAME
from fedwire.slices import MAX_PARTS, MAX_SLICINGS, told

Names = NDArray[np.object_]  # a slice's name for every row; "" for a row that is in none
Slicer = Callable[[Table], Sequence[Any]]
# A column, several, a function that names each row's slice, or a name for each function or sequence of names.
Slices = str | Sequence[str] | Slicer | Mapping[str, Slicer | Sequence[Any]] | None


def columns_of(slices: Slices) -> tuple[str, ...]:
    """The columns that `slices` names."""
    if isinstance(slices, str):
        return (slices,)
    return tuple(slices) if isinstance(slices, Sequence) else ()


def slices_of(table: Table, slices: Slices) -> dict[str, Names]:
    """For each slicing a name for every row of the table. Raises data_slices."""
    if slices is None:
        return {}
    found: dict[str, Names] = {}
    if isinstance(slices, str | Sequence):
        found = {name: _column(table, name) for name in columns_of(slices)}
    elif isinstance(slices, Mapping):
        for name, given in slices.items():
            found[str(name)] = named(str(name), given(table) if callable(given) else given, len(table))
    else:
        name = getattr(slices, "__name__", "slice")
        found = {name: named(name, slices(table), len(table))}
    if len(found) > MAX_SLICINGS:
        raise _wrong(", ".join(found), f"there are at most {MAX_SLICINGS} slicings")
    return found


def named(name: str, values: Any, rows: int) -> Names:
    """The slices' names, one for each of `rows` rows: texts, and numbers in few digits. Raises data_slices."""
    texts = [_text(value) for value in (values.tolist() if hasattr(values, "tolist") else values)]
    if len(texts) != rows:
        raise _wrong(name, f"it names {len(texts)} rows, and there are {rows}")
    different = len(set(texts) - {""})
    if different > MAX_PARTS:
        raise _wrong(name, f"it has {different} different values, and {MAX_PARTS} are the most")
    return np.array([*texts, None], dtype=object)[:-1]  # the None keeps numpy from making an array of texts


def with_slices(
    report: Evaluation, slices: Mapping[str, Names], least: int, part: Callable[[NDArray[np.bool_]], Evaluation]
) -> Evaluation:
    """The report with a report on each slice that may be told of. `part(mask)`: the report on these of its rows."""
    found: dict[str, dict[str, Evaluation]] = {}
    for name, names in slices.items():
        sizes = Counter(value for value in names.tolist() if value)
        values = told(sizes, report["samples"], least)
        if values:
            found[name] = {value: _bare(part(names == value)) for value in values}
    return {**report, "slices": found} if found else report


def _bare(report: Evaluation) -> Evaluation:
    """The report without its further histograms: a slice says what the whole says in a few numbers."""
    return {key: value for key, value in report.items() if key != "histograms"}  # type: ignore[return-value]


def _column(table: Table, name: str) -> Names:
    if name in table.texts:
        return named(name, table.texts[name], len(table))
    if name not in table.columns:
        raise _wrong(name, "there is no such column")
    return named(name, table.features[:, table.columns.index(name)], len(table))


def _text(value: Any) -> str:
    if value is None or value != value:  # NaN
        return ""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return "".join(letter for letter in text.strip() if letter.isprintable())[:MAX_NAME]


def _wrong(name: str, reason: str) -> FedportalError:
    return FedportalError("data_slices", name=name, reason=reason)
