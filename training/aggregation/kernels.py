"""Arithmetic on vectors in files: read a tile, work on it while it is in the cache, write it.

Files are read with `preadv` into tiles that are used again and again: a mapped file costs a page fault every 4 KiB, a
fresh array one for every page. Multiplication and addition are separate steps, because fused ones differ in the last
bit and not every processor has them. Every number is computed by the same steps in the same order whatever thread does
it, so the result does not depend on their number.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fedwire.codecs import Codec, Reader
from fedwire.tensors import Float32
from training.aggregation.layout import ITEM, TILE, Layout, Range, block_length, cut

# Above this many files each tile opens its file anew, far below what a process may hold open.
MOST_OPEN = 400
# Numbers between the rows of a matrix. Rows whose places differ by a power of two keep each other out of the caches.
APART = 16


class Truncated(Exception):
    """A file ended before its numbers did."""


class Vector:
    """`length` float32 numbers behind the first `offset` bytes of the file at `path`. Threads may share one."""

    files = 1  # that it keeps open

    def __init__(self, path: Path, offset: int, length: int) -> None:
        self.path = path
        self.length = length
        self._offset = offset
        self._descriptor: int | None = None

    @contextmanager
    def opened(self) -> Iterator[Vector]:
        """Keep the file open meanwhile. Reading works without, at the price of opening it each time."""
        self._descriptor = os.open(self.path, os.O_RDONLY)
        try:
            yield self
        finally:
            os.close(self._descriptor)
            self._descriptor = None

    def read(self, part: Range, into: Float32) -> Float32:
        """The numbers of `part`, in the first places of `into`. Raises Truncated, OSError."""
        tile = into[: len(part)]
        if self._descriptor is not None:
            self._fill(self._descriptor, part, tile)
            return tile
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            self._fill(descriptor, part, tile)
        finally:
            os.close(descriptor)
        return tile

    def _fill(self, descriptor: int, part: Range, tile: Float32) -> None:
        self._read_all(descriptor, tile.data.cast("B"), self._offset + ITEM * part.start)

    def _read_all(self, descriptor: int, view: memoryview, position: int) -> None:
        while view:
            done = os.preadv(descriptor, [view], position)
            if not done:
                raise Truncated(f"{self.path.name} ends before its numbers do")
            view, position = view[done:], position + done


class Weights(Vector):
    """The numbers of the model file at `path` that are averaged, wherever in it they lie."""

    def __init__(self, path: Path, layout: Layout) -> None:
        super().__init__(path, 0, layout.parameters)
        self._layout = layout

    def _fill(self, descriptor: int, part: Range, tile: Float32) -> None:
        view = tile.data.cast("B")
        for numbers, position in self._layout.places(part):
            start, stop = (ITEM * (number - part.start) for number in (numbers.start, numbers.stop))
            self._read_all(descriptor, view[start:stop], position)


class Encoded(Vector):
    """The numbers that the file at `path` holds as `codec` wrote them, decoded a range at a time.

    The file is mapped: it is small, and its places are read here and there. What decoding needs to know of the whole
    file is found at the first reading and kept; it does not depend on who reads first.
    """

    def __init__(self, path: Path, codec: Codec) -> None:
        super().__init__(path, len(codec.header), codec.numbers)
        self._codec = codec
        self._reader: Reader | None = None
        self._state: Any = None
        self._lock = threading.Lock()

    @contextmanager
    def opened(self) -> Iterator[Vector]:
        """Keep the file mapped meanwhile."""
        self._reader = self._mapped()
        try:
            yield self
        finally:
            self._reader = None

    def read(self, part: Range, into: Float32) -> Float32:
        """The numbers of `part`, in the first places of `into`. Raises Truncated, OSError."""
        tile = into[: len(part)]
        (self._reader or self._mapped()).read(part.start, part.stop, tile)
        return tile

    def _mapped(self) -> Reader:
        if os.path.getsize(self.path) != self._codec.nbytes:
            raise Truncated(f"{self.path.name} ends before its numbers do")
        content = np.memmap(self.path, np.uint8, "r").view(np.ndarray)
        with self._lock:
            if self._state is None:
                self._state = self._codec.prepare(self._codec.parts(content))
        return Reader(self._codec, content, self._state)


@contextmanager
def opened(vectors: Sequence[Vector]) -> Iterator[None]:
    """Keep the files of the vectors open meanwhile, as far as a process may."""
    with ExitStack() as stack:
        left = MOST_OPEN
        for vector in vectors:
            if (left := left - vector.files) < 0:
                break
            stack.enter_context(vector.opened())
        yield


class Rows:
    """The same part of several vectors, one after the other in one tile that is used again; weights go with them."""

    def __init__(self, vectors: Sequence[Vector], weights: Sequence[float], tile: int = TILE) -> None:
        if len(vectors) != len(weights):
            raise ValueError("every vector has one weight")
        self.weights: tuple[np.float32, ...] = tuple(np.float32(weight) for weight in weights)
        self._vectors = vectors
        self._tile = np.empty(tile, np.float32)
        self._matrix = np.empty((0, 0), np.float32)

    def __len__(self) -> int:
        return len(self._vectors)

    def of(self, part: Range) -> Iterator[Float32]:
        """Each vector's numbers of `part`. A row is good until the next one is asked for, and may be overwritten."""
        for vector in self._vectors:
            yield vector.read(part, self._tile)

    def matrix(self, part: Range) -> Float32:
        """All vectors' numbers of `part`, a row for each. Good until the next one is asked for; may be overwritten."""
        if self._matrix.shape[1] < len(part):
            self._matrix = np.empty((len(self._vectors), len(part) + APART), np.float32)[:, : len(part)]
        for row, vector in zip(self._matrix, self._vectors, strict=True):
            vector.read(part, row)
        return self._matrix[:, : len(part)]


def weighted_sum(rows: Iterator[Float32], weights: Sequence[np.float32], out: Float32) -> None:
    """out = Σ wᵢ·rowᵢ, added one after the other in float32."""
    first = True
    for row, weight in zip(rows, weights, strict=True):
        if first:
            np.multiply(row, weight, out=out)
            first = False
        else:
            np.multiply(row, weight, out=row)
            np.add(out, row, out=out)
    if first:
        out[:] = 0


def in_blocks(
    length: int, threads: int, start: Callable[[], Callable[[Range], object]], within: Range | None = None
) -> None:
    """Have every block of [0, length) worked on, by up to `threads` threads; the first error ends it and is raised.

    With `within`, a range of whole blocks, only those that lie in it. Where the blocks lie depends on `length` only.
    `start()` is called in each thread and gives the function that works on a block, with the thread's own tiles.
    """
    blocks = list(cut(within or Range(0, length), block_length(length)))
    threads = max(1, min(threads, len(blocks)))
    if threads == 1:
        work = start()
        for block in blocks:
            work(block)
        return
    left, lock, failed = iter(blocks), threading.Lock(), threading.Event()

    def run() -> None:
        work = start()
        while not failed.is_set():
            with lock:
                block = next(left, None)
            if block is None:
                return
            try:
                work(block)
            except BaseException:
                failed.set()
                raise

    with ThreadPoolExecutor(threads, "aggregation") as pool:
        for future in [pool.submit(run) for _ in range(threads)]:
            future.result()


def write_all(descriptor: int, content: memoryview, position: int) -> None:
    """Write all of `content` at `position`. Raises OSError."""
    while content:
        done = os.pwrite(descriptor, content, position)
        content, position = content[done:], position + done
