"""What devices counted for a plan of inference, added up and shown only where it is of enough rows. Pure.

A cell with fewer rows than the floor is hidden. As the total is shown, what is hidden could be told from what is not:
so further cells, the smallest first, are hidden with it until at least two are and together they are of enough rows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from fedwire.inference import CONFUSION, GRID, HISTOGRAM, MEAN, Asked


def total_of(asked: Asked, answers: Iterable[Sequence[int]]) -> list[int]:
    """The cells of all devices together, exactly."""
    total = [0] * asked.cells
    for cells in answers:
        for place, cell in enumerate(cells):
            total[place] += cell
    return total


def released(asked: Asked, total: Sequence[int], devices: int) -> dict[str, Any] | None:
    """What may be shown of these cells of so many devices; None when they are of fewer rows than the floor, or are an
    exact mean so near an end of its range that it may tell of fewer.

    `cells` with None for a hidden one, `rows` in all, `hidden` and `deviation`: how many cells are hidden, and the
    standard deviation of the noise in each that is shown. Of a mean also `mean`, in place of cells.
    """
    deviation = asked.sigma * math.sqrt(devices)
    if asked.summary == MEAN:
        rows = total[0] / GRID
        if rows < asked.least_count or (not asked.noise and _at_an_end(asked, total)):
            return None
        share = min(max(total[1] / total[0], 0.0), 1.0)
        mean = asked.low + share * (asked.high - asked.low)
        # Of a quotient of two noisy sums, to first order.
        spread = (asked.high - asked.low) * deviation * math.sqrt(1 + share * share) / total[0]
        return {"rows": round(rows), "mean": mean, "deviation": spread, "hidden": 0}
    rows = sum(total)
    if rows < asked.least_count:
        return None
    gone = hidden(total, asked.least_count)
    return {
        "rows": rows,
        "cells": [None if place in gone else cell for place, cell in enumerate(total)],
        "deviation": deviation,
        "hidden": len(gone),
        **({"accuracy": accuracy} if (accuracy := _accuracy(asked, total, gone)) is not None else {}),
    }


def hidden(total: Sequence[int], least: int) -> set[int]:
    """The places of cells that are not shown beside their total: those below `least`, and as many of the smallest of
    the others as it takes that what is hidden is two cells at least, and `least` rows."""
    gone = {place for place, cell in enumerate(total) if cell < least}
    if not gone:
        return gone
    others = sorted(
        (place for place in range(len(total)) if place not in gone), key=lambda place: (total[place], place)
    )
    while others and (len(gone) < 2 or sum(total[place] for place in gone) < least):
        gone.add(others.pop(0))
    return gone


def too_alike(now: Collection[int], earlier: Iterable[Collection[int]], least: int) -> bool:
    """Whether an earlier sum was of almost the same: neither of exactly these nor of `least` others, in or out. Their
    difference would tell of those few."""
    found = frozenset(now)
    return any(0 < len(found ^ frozenset(before)) < least for before in earlier)


def cut_otherwise(now: Asked, earlier: Asked) -> bool:
    """Whether the two do not put the same rows between the same bounds. Of the same devices, the difference of two
    exact sums would be of the few rows between the one's bounds and the other's."""
    return _cut(now) != _cut(earlier)


def _cut(asked: Asked) -> tuple[str, float, float, int]:
    """Which rows, and between which bounds; what a summary does not use is as if it had not been said."""
    plain = Asked(asked.summary)
    ranged, binned = asked.summary in (MEAN, HISTOGRAM), asked.summary == HISTOGRAM
    low, high = (asked.low, asked.high) if ranged else (plain.low, plain.high)
    return asked.rows, low, high, asked.bins if binned else plain.bins


def _at_an_end(asked: Asked, total: Sequence[int]) -> bool:
    """Whether the mean could be that of fewer rows than the floor at one end of its range, and all others at the other:
    in a range that is next to nothing it is, and would count them."""
    return min(total[1], total[0] - total[1]) < asked.least_count * GRID


def _accuracy(asked: Asked, total: Sequence[int], gone: Collection[int]) -> float | None:
    """Of a confusion matrix of which every cell is shown: the share of its rows on the diagonal."""
    if asked.summary != CONFUSION or gone:
        return None
    right = sum(total[place * asked.classes + place] for place in range(asked.classes))
    return min(max(right / sum(total), 0.0), 1.0)
