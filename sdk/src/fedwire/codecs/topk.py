"""Top-k: the k numbers of the largest magnitude, with their places; the others count as zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedwire.codecs.base import Codec, Scan, check_finite, unusable, whole
from fedwire.codecs.plain import squares_of
from fedwire.headers import TensorSpec
from fedwire.tensors import Float32

# Places are told as a block of so many numbers and a 16-bit offset in it.
BLOCK = 1 << 16


class TopK(Codec):
    """Sparsification (Aji and Heafield 2017, arXiv:1704.05021), with error feedback where the run asks for it.

    Exactly k numbers travel, four bytes each: how many of them lie in each block of 65,536 (`counts`), their offsets in
    it, rising, and their values as halves in units of the largest magnitude (`scale`). Of equal magnitudes the one that
    comes first is kept. A range is read through the counts: those of the blocks before it say where its offsets begin.
    """

    name = "topk"

    def __init__(self, numbers: int, kept: int) -> None:
        self.kept = kept
        specs = [
            TensorSpec("scale", "F32", (1,)),
            TensorSpec("counts", "U32", (-(-numbers // BLOCK),)),
            TensorSpec("offsets", "U16", (kept,)),
            TensorSpec("values", "F16", (kept,)),
        ]
        super().__init__(numbers, specs, {"kept": kept})

    @classmethod
    def planned(cls, numbers: int, plan: Mapping[str, Any]) -> Self:
        """With `kept`, how many numbers travel."""
        return cls(numbers, whole(plan, "kept", 1, numbers))

    def write(self, values: Float32, generator: np.random.Generator, parts: Sequence[NDArray[Any]]) -> None:
        """Find the largest and write them down."""
        scale, counts, offsets, halves = parts
        places = largest(values, self.kept)
        chosen = values[places].astype(np.float64)
        top = np.abs(chosen).max()
        scale[0] = top
        counts[:] = np.bincount(places // BLOCK, minlength=len(counts))
        offsets[:] = places % BLOCK
        halves[:] = chosen / (top or 1.0)

    def read(self, parts: Sequence[NDArray[Any]], start: int, stop: int, out: Float32, state: Any) -> None:
        """Zeros, and the numbers of the range that travelled."""
        scale, _, offsets, halves = parts
        out[:] = 0
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            begin, end = state[block], state[block + 1]
            inside = offsets[begin:end].astype(np.int64) + (block * BLOCK - start)
            if inside.size and (inside[0] < 0 or inside[-1] >= stop - start):
                low, high = np.searchsorted(inside, (0, stop - start))
                begin, end, inside = begin + low, begin + high, inside[low:high]
            out[inside] = halves[begin:end].astype(np.float32) * scale[0]

    def prepare(self, parts: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
        """Where the offsets of each block begin."""
        return np.concatenate([[0], np.cumsum(parts[1], dtype=np.int64)])

    def scan(self) -> Scan:
        """Scale and counts first; then every offset against its place, and the values against the scale."""
        return _Checked(self).scan


class _Checked:
    """The checks of one file, as its tensors pass."""

    def __init__(self, codec: TopK) -> None:
        self._codec = codec
        self._scale = 0.0
        self._counts: list[NDArray[Any]] = []
        self._ends: NDArray[np.int64] | None = None  # how many offsets there are up to the end of each block
        self._seen = 0
        self._last = -1  # the place of the last offset
        self.scan = Scan(codec, [self._take_scale, self._take_counts, self._take_offsets, self._take_values])

    def _take_scale(self, values: NDArray[Any]) -> None:
        if not np.isfinite(values).all() or np.signbit(values).any():
            raise unusable("the scale is NaN, infinite or negative")
        self._scale = float(values[0])

    def _take_counts(self, values: NDArray[Any]) -> None:
        self._counts.append(values.astype(np.int64))
        if sum(map(len, self._counts)) < self._codec.specs[1].size:
            return
        counts = np.concatenate(self._counts)
        if counts.max() > BLOCK or counts.sum() != self._codec.kept:
            raise unusable(f"the counts are not those of {self._codec.kept} numbers")
        self._ends = np.cumsum(counts)

    def _take_offsets(self, values: NDArray[Any]) -> None:
        assert self._ends is not None, "the counts come first"
        ordinal = np.arange(self._seen, self._seen + len(values))
        places = np.searchsorted(self._ends, ordinal, side="right") * BLOCK + values
        if places[0] <= self._last or (np.diff(places) <= 0).any() or places[-1] >= self._codec.numbers:
            raise unusable("the places are not rising, or one is not the model's")
        self._seen += len(values)
        self._last = int(places[-1])

    def _take_values(self, values: NDArray[Any]) -> None:
        check_finite(values)
        if np.abs(values).max() > 1:
            raise unusable("a value is above the scale")
        self.scan.squares += squares_of(values) * self._scale**2


def largest(values: Float32, count: int) -> NDArray[np.int64]:
    """The places of the `count` numbers of the largest magnitude, rising; of equal ones those that come first."""
    magnitudes = np.abs(values)
    limit = np.partition(magnitudes, len(values) - count)[len(values) - count]
    above = np.flatnonzero(magnitudes > limit)
    ties = np.flatnonzero(magnitudes == limit)[: count - len(above)]
    return np.sort(np.concatenate([above, ties]))
