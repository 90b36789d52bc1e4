"""Sorting networks: the order statistics of many rows at once, by minima and maxima of whole rows.

A network is a list of comparators between places; the same ones are done whatever the numbers are, so a comparator is
two calls on rows that lie in the cache. Batcher's odd-even merge sort sorts n places with O(n log² n) of them; those on
which no wanted place depends are left out. From about 150 rows on sorting each column costs less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fedwire.tensors import Float32

MOST_ROWS = 150
# Columns that are sorted at a time, turned so that each lies in one stretch of memory.
COLUMNS = 4096


class Want(Enum):
    """What becomes of a place of the sorted order. SUMMED: the order among all such places does not matter."""

    EXACT, SUMMED, NOTHING = range(3)


class Comparator(NamedTuple):
    """Bring the smaller number to `low` and the larger to `high`, or only one of them."""

    low: int
    high: int
    smaller: bool
    larger: bool


Network = tuple[Comparator, ...]


def arranged(rows: Float32, wants: Callable[[int], tuple[Want, ...]]) -> list[Float32]:
    """Rows whose k-th is the k-th smallest of every column, as far as `wants(n)` asks for it. `rows` is overwritten."""
    if len(rows) > MOST_ROWS:
        _sort_columns(rows)
        return list(rows)
    return run(network(wants(len(rows))), rows)


def run(comparators: Network, rows: Float32) -> list[Float32]:
    """The rows after all comparators."""
    places: list[Float32] = list(rows)
    spare = np.empty_like(rows[0])
    for low, high, smaller, larger in comparators:
        first, second = places[low], places[high]
        if smaller:
            np.minimum(first, second, out=spare)
        if larger:
            np.maximum(first, second, out=second)
        if smaller:
            places[low], spare = spare, first
    return places


@lru_cache(maxsize=256)
def network(wants: tuple[Want, ...]) -> Network:
    """The comparators that sort len(wants) places, without those on which nothing wanted depends."""
    now, kept = list(wants), list[Comparator]()
    for low, high in reversed(odd_even_merge_sort(len(wants))):
        before, after = now[low], now[high]
        if before == after and before != Want.EXACT:
            continue  # both go nowhere, or into the same sum
        kept.append(Comparator(low, high, before != Want.NOTHING, after != Want.NOTHING))
        now[low] = now[high] = Want.EXACT
    return tuple(reversed(kept))


def odd_even_merge_sort(places: int) -> list[tuple[int, int]]:
    """Batcher's network for any number of places (Knuth, The Art of Computer Programming 3, 5.2.2, Algorithm M)."""
    found, run_length = [], 1
    while run_length < places:
        step = run_length
        while step:
            for start in range(step % run_length, places - step, 2 * step):
                for low in range(start, min(start + step, places - step)):
                    if low // (2 * run_length) == (low + step) // (2 * run_length):
                        found.append((low, low + step))
            step //= 2
        run_length *= 2
    return found


def summed(rows: Sequence[Float32]) -> Float32:
    """The sum of the rows, in pairs of pairs: rounding grows with the logarithm of their number. Overwrites them."""
    left = list(rows)
    while len(left) > 1:
        half = (len(left) + 1) // 2
        for place in range(len(left) - half):
            np.add(left[place], left[place + half], out=left[place])
        del left[half:]
    return left[0]


def _sort_columns(rows: Float32) -> None:
    for start in range(0, rows.shape[1], COLUMNS):
        part = rows[:, start : start + COLUMNS]
        part[:] = np.sort(part.T.copy(), axis=1).T
