"""How updates lie to one another: the matrix of their inner products, from one pass over the files.

Gᵢⱼ = ⟨Δᵢ, Δⱼ⟩ holds all that rules which select need: norms, distances, and those of every weighted sum of updates.

Products are summed in float32 over short runs of numbers and in float64 from there on. What rounding does to a product
is in proportion to the lengths of its two updates, so no update, however long, touches what is between two others:
nothing is subtracted first, as every centre can be spoilt. It would show only in the distance of updates that are
nearly the same, and where numbers are too large or too small for float32's squares. Each block looks whether it is
such a one, and is then computed in float64 throughout, in which products of float32 numbers are exact.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from training.aggregation.kernels import Rows, Vector, in_blocks
from training.aggregation.layout import PIECE, Range, block_length, cut

Float64 = NDArray[np.float64]
# Columns that are multiplied at a time in float64: those of some dozens of updates stay in a processor's second cache.
COLUMNS = 2048
# Columns whose products are summed in float32, and rows that are multiplied with the others at a time: the library
# works on products as small as these where they lie.
RUN = 1024
STRIP = 16
# Squared distances below this share of the squared norms ask for float64, and so do squared norms beyond these bounds.
NEAR = 1e-2
SMALLEST, LARGEST = 1e-20, 1e30
# Squared distances below this share of the squared norms are rounding: such updates are equal.
ROUNDING = 1e-13


def gram(vectors: Sequence[Vector], threads: int = 1) -> Float64:
    """G, n × n. Its bits do not depend on `threads`. Memory: a quarter of a tile per update and thread, and n² numbers.

    Raises kernels.Truncated, OSError.
    """
    sums = _InOrder(len(vectors), block_length(vectors[0].length))
    of_blocks(vectors, Range(0, vectors[0].length), sums.add, threads)
    return sums.total


def of_blocks(
    vectors: Sequence[Vector], within: Range, found: Callable[[Range, Float64], object], threads: int = 1
) -> None:
    """Give `found`, in any order and in several threads, each block in `within` and the products of its numbers.

    Added in the order of the blocks they are `gram`, bit for bit.
    """

    def start() -> Callable[[Range], object]:
        rows = Rows(vectors, [1.0] * len(vectors), 0)
        return lambda whole: found(whole, block_products(rows, whole))

    in_blocks(vectors[0].length, threads, start, within)


def block_products(rows: Rows, whole: Range) -> Float64:
    """The inner products of the numbers of a block. Their bits depend on nothing else."""
    found = _in_short_runs(rows, whole)
    return found if _is_clear(found) else _in_float64(rows, whole)


def squared_distances(products: Float64) -> Float64:
    """D with Dᵢⱼ = ‖Δᵢ - Δⱼ‖² = Gᵢᵢ + Gⱼⱼ - 2·Gᵢⱼ; exactly 0 for equal updates."""
    squares = np.diagonal(products)
    both = squares[:, None] + squares[None, :]
    found = both - 2 * products
    return np.where(found > ROUNDING * both, found, 0.0)


def norms(products: Float64) -> Float64:
    """‖Δᵢ‖."""
    return np.sqrt(np.diagonal(products))


def mixed(products: Float64, mixing: Float64) -> Float64:
    """The matrix of the updates Σⱼ mixingᵢⱼ·Δⱼ."""
    return mixing @ products @ mixing.T


def _in_short_runs(rows: Rows, whole: Range) -> Float64:
    count = len(rows)
    total, run, strips = np.zeros((count, count)), np.zeros((count, count), np.float32), _strips(count)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in cut(whole, PIECE):
            matrix = rows.matrix(part)
            for columns in cut(Range(0, len(part)), RUN):
                few = matrix[:, columns.start : columns.stop]
                for start, stop, first in strips:
                    np.matmul(few[start:stop], few[first:].T, out=run[start:stop, first:])
                np.add(total, run, out=total)
        return np.triu(total) + np.triu(total, 1).T


def _strips(count: int) -> list[tuple[int, int, int]]:
    """Rows [start, stop), and the first of those with which they are multiplied: what lies before is known by symmetry.

    The last strip takes one more, as the library has a slower way for a matrix with itself.
    """
    number = max(-(-count // STRIP), min(count, 2))
    places = [count * place // number for place in range(number + 1)]
    return [(a, b, a if b < count else max(a - 1, 0)) for a, b in pairwise(places)]


def _is_clear(products: Float64) -> bool:
    """Whether float32 told these updates apart."""
    squares = np.diagonal(products)
    if not (np.isfinite(products).all() and squares.min() >= SMALLEST and squares.max() <= LARGEST):
        return False
    both = squares[:, None] + squares[None, :]
    return np.count_nonzero(both - 2 * products < NEAR * both) == len(products)  # those of an update to itself


def _in_float64(rows: Rows, whole: Range) -> Float64:
    total, wide = np.zeros((len(rows), len(rows))), np.empty((len(rows), COLUMNS))
    for part in cut(whole, PIECE):
        matrix = rows.matrix(part)
        for columns in cut(Range(0, len(part)), COLUMNS):
            few = wide[:, : len(columns)]
            few[:] = matrix[:, columns.start : columns.stop]
            np.add(total, few @ few.T, out=total)
    return total


class _InOrder:
    """Sums up what threads found in blocks, in the order of the blocks, whichever thread is first."""

    def __init__(self, count: int, block: int) -> None:
        self.total = np.zeros((count, count))
        self._block = block
        self._next = 0
        self._waiting: dict[int, Float64] = {}
        self._lock = threading.Lock()

    def add(self, whole: Range, part: Float64) -> None:
        with self._lock:
            self._waiting[whole.start // self._block] = part
            while self._next in self._waiting:
                self.total += self._waiting.pop(self._next)
                self._next += 1
