"""Slices of the data, such as the values of a column, and which of them a report may speak of.

A slice of few rows would tell of single people. It would do so as well by what the whole and the other slices leave
over, so those are held back with it.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedwire.messages import Evaluation

MAX_SLICINGS = 4
MAX_PARTS = 20
# The fewest rows of a slice where the organization's policy asks for no other number.
LEAST_ROWS = 10


def floor_of(least_records: int) -> int:
    """The fewest rows of a slice, under a policy with this floor; 0 stands for none."""
    return least_records or LEAST_ROWS


def told(sizes: Mapping[str, int], total: int, least: int) -> list[str]:
    """Which slices of `sizes` rows, of `total` rows in all, may be told of, sorted by name.

    Each has at least `least` rows, and so have the rows that are in none of them, or there are none: else the smallest
    slice is held back too, until it is so. Of more than MAX_PARTS the largest are told.
    """
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    kept = [name for name in ranked if sizes[name] >= least][:MAX_PARTS]
    while kept and 0 < total - sum(sizes[name] for name in kept) < least:
        kept.pop()
    return sorted(kept)


def disclosed(report: Evaluation, least: int) -> Evaluation:
    """The report with those slices only that may be told of."""
    if "slices" not in report:
        return report
    kept: dict[str, dict[str, Evaluation]] = {}
    for name, parts in sorted(report["slices"].items())[:MAX_SLICINGS]:
        names = told({part: inner["samples"] for part, inner in parts.items()}, report["samples"], least)
        if names:
            kept[name] = {part: parts[part] for part in names}
    rest: Evaluation = {key: value for key, value in report.items() if key != "slices"}  # type: ignore[assignment]
    return {**rest, "slices": kept} if kept else rest
