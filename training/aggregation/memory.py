"""What a strategy remembers from round to round: state vectors in a file, read and written tile by tile."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedwire.tensors import Float32
from fedwire.vectors import vectors_bytes, vectors_header
from training.aggregation.kernels import Vector, opened, write_all
from training.aggregation.layout import ITEM, Range
from training.aggregation.variates import NOBODY, Cohort


@dataclass(frozen=True)
class StateFiles:
    """Where the state lies: `base` holds it as it was before the round, None before the first; `out` is written.

    `cohort` counts the devices that keep a variate, for strategies that have them keep one.
    """

    base: Path | None
    out: Path
    cohort: Cohort = NOBODY


class Memory:
    """State vectors of `length` numbers. `initial`: the value with which every number of each of them begins."""

    def __init__(self, initial: Sequence[float], length: int, files: StateFiles | None) -> None:
        if initial and files is None:
            raise ValueError("this strategy remembers something and there is no file for it")
        self._initial = tuple(initial)
        self._length = length
        self._files = files
        self._start = len(vectors_header(length, len(self._initial))) if initial else 0
        base = files.base if files is not None else None
        self._vectors = [
            Vector(base, self._start + ITEM * length * place, length) for place in range(len(initial)) if base
        ]
        self._out = -1

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep the files open meanwhile; the new one is made, with its header and its whole length."""
        if not self._initial or self._files is None:
            yield
            return
        count = len(self._initial)
        with open(self._files.out, "xb", buffering=0) as file, self.reading():
            self._out = file.fileno()
            os.ftruncate(self._out, vectors_bytes(self._length, count))
            write_all(self._out, memoryview(vectors_header(self._length, count)), 0)
            yield

    def reading(self) -> AbstractContextManager[None]:
        """Keep the old file open meanwhile, and make no new one."""
        return opened(self._vectors)

    def tiles(self, length: int) -> list[Float32]:
        """Room for a part of up to `length` numbers of each vector."""
        return [np.empty(length, np.float32) for _ in self._initial]

    def read(self, part: Range, tiles: Sequence[Float32]) -> list[Float32]:
        """The numbers of `part` of each vector, in the first places of its tile. Raises Truncated, OSError."""
        if self._vectors:
            return [vector.read(part, tile) for vector, tile in zip(self._vectors, tiles, strict=True)]
        found = [tile[: len(part)] for tile in tiles]
        for tile, value in zip(found, self._initial, strict=True):
            tile.fill(value)
        return found

    def write(self, part: Range, tiles: Sequence[Float32]) -> None:
        """Write down what the numbers of `part` are next. Raises OSError."""
        for place, tile in enumerate(tiles):
            write_all(self._out, tile.data.cast("B"), self._start + ITEM * (self._length * place + part.start))
