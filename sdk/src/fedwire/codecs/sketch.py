"""Count sketch: a small table of signed sums, from which the heaviest numbers are read back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedwire.codecs.base import TILE, Bytes, Codec, Scan, check_finite, unusable, whole
from fedwire.codecs.plain import squares_of
from fedwire.errors import FedportalError
from fedwire.headers import TensorSpec
from fedwire.tensors import Float32

MOST_ROWS = 15
MOST_COLUMNS = 1 << 28
MOST_SEED = (1 << 53) - 1
_WORD = (1 << 64) - 1
_STRIDE = 0xD1B54A32D192ED03
_GOLDEN, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class Sketch(Codec):
    """Charikar, Chen and Farach-Colton 2002; as a codec of updates Rothchild et al. 2020 (FetchSGD, arXiv:2007.07682).

    In every row r each place i has a column h_r(i) and a sign s_r(i), drawn from the run's seed by a fixed hash:
    table[r, h_r(i)] += s_r(i)·x_i. The estimate of x_i is the median over the rows of s_r(i)·table[r, h_r(i)]; the k
    estimates of the largest magnitude are kept (with all that equal the smallest of them), the others are zero.

    What it assumes: a few numbers carry most of the update. An estimate is off by about ‖x without the heavy ones‖ /
    √columns, so numbers smaller than that are noise. Before decoding the table is linear: the sum of two tables is the
    table of the sum. Rows are odd in number, so that the median is one of the estimates.
    """

    name = "sketch"
    late = True

    def __init__(self, numbers: int, rows: int, columns: int, kept: int, seed: int) -> None:
        self.rows, self.columns, self.kept, self.seed = rows, columns, kept, seed
        own = {"rows": rows, "columns": columns, "kept": kept, "seed": seed}
        super().__init__(numbers, [TensorSpec("table", "F32", (rows, columns))], own)

    @classmethod
    def planned(cls, numbers: int, plan: Mapping[str, Any]) -> Self:
        """With `rows` (odd), `columns`, `kept` and `seed`."""
        rows = whole(plan, "rows", 1, MOST_ROWS)
        if rows % 2 == 0:
            raise unusable("rows must be odd")
        columns, kept = whole(plan, "columns", 1, MOST_COLUMNS), whole(plan, "kept", 1, numbers)
        return cls(numbers, rows, columns, kept, whole(plan, "seed", 0, MOST_SEED))

    def write(self, values: Float32, generator: np.random.Generator, parts: Sequence[NDArray[Any]]) -> None:
        """Add up every row in float64, in the order of the places. Raises `codec_overflow`."""
        table = np.zeros((self.rows, self.columns))
        for start in range(0, self.numbers, TILE):
            tile = values[start : start + TILE].astype(np.float64)
            for row, (columns, signs) in enumerate(self._hashed(start, start + len(tile))):
                table[row] += np.bincount(columns, tile * signs, self.columns)
        with np.errstate(over="ignore"):
            parts[0][:] = table
        if not np.isfinite(parts[0]).all():
            raise FedportalError("codec_overflow", codec=self.name, most=float(np.finfo(np.float32).max))

    def read(self, parts: Sequence[NDArray[Any]], start: int, stop: int, out: Float32, state: Any) -> None:
        """The estimates of the range that are heavy enough, and zeros."""
        found = self.estimates(parts[0], start, stop)
        np.copyto(out, np.where(np.abs(found) >= state, found, np.float32(0)))

    def estimates(self, table: Float32, start: int, stop: int) -> Float32:
        """The median estimates of the range."""
        found = np.empty((self.rows, stop - start), np.float32)
        for row, (columns, signs) in enumerate(self._hashed(start, stop)):
            np.multiply(table[row][columns], signs, out=found[row])
        found.sort(axis=0)
        return found[self.rows // 2]

    def prepare(self, parts: Sequence[NDArray[Any]]) -> Any:
        """The magnitude from which on estimates are kept: that of the k-th largest."""
        heaviest = np.empty(0, np.float32)
        for start in range(0, self.numbers, TILE):
            found = np.abs(self.estimates(parts[0], start, min(start + TILE, self.numbers)))
            heaviest = np.concatenate([heaviest, found])
            if len(heaviest) > self.kept:
                heaviest = np.partition(heaviest, len(heaviest) - self.kept)[len(heaviest) - self.kept :]
        return heaviest.min()

    def scan(self) -> Scan:
        """Finiteness as the bytes pass; the norm needs the whole table."""
        return Scan(self, [check_finite], self._norm)

    def _norm(self, content: Bytes) -> float:
        parts, total = self.parts(content), 0.0
        state, out = self.prepare(parts), np.empty(TILE, np.float32)
        for start in range(0, self.numbers, TILE):
            stop = min(start + TILE, self.numbers)
            self.read(parts, start, stop, out[: stop - start], state)
            total += squares_of(out[: stop - start])
        return math.sqrt(total)

    def _hashed(self, start: int, stop: int) -> Iterator[tuple[NDArray[np.int64], Float32]]:
        """For each row the columns and signs of the places [start, stop): the mixer of splitmix64, in 64-bit words."""
        places = np.arange(start + 1, stop + 1, dtype=np.uint64)
        for row in range(self.rows):
            word = (places + np.uint64((self.seed * MOST_ROWS + row) * _STRIDE & _WORD)) * _GOLDEN
            word = (word ^ (word >> np.uint64(30))) * _FIRST
            word = (word ^ (word >> np.uint64(27))) * _SECOND
            word ^= word >> np.uint64(31)
            columns = ((word >> np.uint64(32)) * np.uint64(self.columns)) >> np.uint64(32)
            signs = np.float32(1) - np.float32(2) * (word & np.uint64(1)).astype(np.float32)
            yield columns.astype(np.int64), signs
