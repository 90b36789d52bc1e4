"""Where the numbers of a model lie: a flat vector behind a header, cut into blocks and tiles."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fedwire.personal import travelling
from fedwire.tensors import Manifest

# Numbers per tile: two float32 tiles of this length stay in a processor's second cache.
TILE = 1 << 16
# Numbers per piece of a tile, for work on many rows at once: two threads hold a tile per update together. Shorter rows
# would stay in a nearer cache, but a call on them is over so soon that threads mostly wait for the interpreter: with
# rows half as long it takes half as much time again on two processors.
PIECE = TILE // 2
# Most numbers per block: what a thread takes at a time, so that threads of unequal speed end together.
BLOCK = 16 * TILE
ITEM = 4  # bytes of a float32


@dataclass(frozen=True)
class Range:
    """The numbers [start, stop) of the vector."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class Piece(NamedTuple):
    """Numbers of the vector that lie in one stretch of a model file: those of `numbers`, from byte `position` on."""

    numbers: Range
    position: int

    @property
    def end(self) -> int:
        """The byte behind them."""
        return self.position + ITEM * len(self.numbers)


@dataclass(frozen=True)
class Layout:
    """The places in the files of one model: `parameters` numbers that are averaged, in `pieces` of a model file and in
    one stretch behind `update_start` bytes of an update."""

    parameters: int
    pieces: tuple[Piece, ...]
    model_bytes: int
    update_start: int
    update_bytes: int

    @classmethod
    def of(cls, manifest: Manifest, local: Collection[str] = ()) -> Layout:
        """The layout of a model whose weights are all float32, of which those in `local` stay on the devices.

        Raises ValueError for another, or when nothing is left.
        """
        travels = travelling(manifest, local)
        if not manifest.trainable or not travels.weights:
            raise ValueError("only a model whose weights are all float32 is averaged")
        return cls(
            parameters=travels.parameters,
            pieces=tuple(_pieces(manifest, frozenset(local))),
            model_bytes=manifest.model_bytes,
            update_start=len(travels.update_header()),
            update_bytes=travels.update_bytes,
        )

    def places(self, part: Range) -> Iterator[Piece]:
        """Where in a model file the numbers of `part` lie, in order."""
        for numbers, position in self.pieces[self._first(part.start) :]:
            start, stop = max(part.start, numbers.start), min(part.stop, numbers.stop)
            if start >= stop:
                return
            yield Piece(Range(start, stop), position + ITEM * (start - numbers.start))

    def rest(self) -> Iterator[tuple[int, int]]:
        """The bytes [start, stop) of a model file that are not averaged: the header, what stays, the buffers."""
        start = 0
        for piece in self.pieces:
            if start < piece.position:
                yield start, piece.position
            start = piece.end
        if start < self.model_bytes:
            yield start, self.model_bytes

    def _first(self, number: int) -> int:
        """The place of the piece that holds this number."""
        return bisect_right(self.pieces, number, key=lambda piece: piece.numbers.start) - 1


def _pieces(manifest: Manifest, local: frozenset[str]) -> Iterator[Piece]:
    """The stretches of a model file between the tensors that stay; neighbours are one piece."""
    number, position, begun = 0, len(manifest.model_header()), 0
    for spec in manifest.weights:
        if spec.name in local:
            if number > begun:
                yield Piece(Range(begun, number), position - ITEM * (number - begun))
            begun = number
        else:
            number += spec.size
        position += spec.nbytes
    if number > begun:
        yield Piece(Range(begun, number), position - ITEM * (number - begun))


def block_length(length: int) -> int:
    """How long the blocks of a vector are: whole tiles, and where there are as many, sixteen blocks at least."""
    return min(BLOCK, max(TILE, length // BLOCK * TILE))


def cut(whole: Range, length: int) -> Iterator[Range]:
    """Consecutive ranges of `length`, the last one shorter, that cover `whole` exactly."""
    for start in range(whole.start, whole.stop, length):
        yield Range(start, min(start + length, whole.stop))
