"""How updates lie to one another: the matrix of their inner products, from one pass over the files.

Gᵢⱼ = ⟨Δᵢ, Δⱼ⟩ holds all that rules which select need: norms, distances, and those of every weighted sum of updates.

In float64, not in float32 after subtracting a common centre: an update may be of any size, and one that is 10⁸ times
too long would push the differences of all others below float32's last digit, as the centre or as a part of it. Products
of float32 numbers are exact in float64, and nothing that one update holds touches the products of two others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedwire.tensors import Float32
from training.aggregation.kernels import Rows, Vector, in_blocks
from training.aggregation.layout import PIECE, Range, block_length, cut

Float64 = NDArray[np.float64]
# Columns that are multiplied at a time: those of some dozens of updates stay in a processor's second cache.
COLUMNS = 2048
# Squared distances below this share of the squared norms are rounding: such updates are equal.
ROUNDING = 1e-13


def gram(vectors: Sequence[Vector], threads: int = 1) -> Float64:
    """G, n × n. Its bits do not depend on `threads`. Memory: a quarter of a tile per update and thread, and n² numbers.

    Raises kernels.Truncated, OSError.
    """
    length = vectors[0].length
    sums = _InOrder(len(vectors), block_length(length))

    def start() -> Callable[[Range], None]:
        rows = Rows(vectors, [1.0] * len(vectors), 0)
        wide = np.empty((len(vectors), COLUMNS))

        def block(whole: Range) -> None:
            total = np.zeros((len(vectors), len(vectors)))
            for part in cut(whole, PIECE):
                _add_products(rows.matrix(part), wide, total)
            sums.add(whole, total)

        return block

    in_blocks(length, threads, start)
    return sums.total


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


def _add_products(matrix: Float32, wide: Float64, total: Float64) -> None:
    for part in cut(Range(0, matrix.shape[1]), COLUMNS):
        columns = wide[:, : len(part)]
        columns[:] = matrix[:, part.start : part.stop]
        np.add(total, columns @ columns.T, out=total)


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
