"""Where the numbers of a model lie: a flat vector behind a header, cut into blocks and tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fedwire.tensors import Manifest

# Numbers per tile: two float32 tiles of this length stay in a processor's second cache.
TILE = 1 << 16
# Numbers per piece of a tile, for work on many rows at once: a row of this length is worth a call, and the rows of some
# dozens of updates stay in the last cache.
PIECE = TILE // 4
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


@dataclass(frozen=True)
class Layout:
    """The places in the files of one model: `parameters` numbers behind `model_start` or `update_start` bytes."""

    parameters: int
    model_start: int
    model_bytes: int
    update_start: int
    update_bytes: int

    @classmethod
    def of(cls, manifest: Manifest) -> Layout:
        """The layout of a model whose weights are all float32. Raises ValueError for another."""
        if not manifest.trainable:
            raise ValueError("only a model whose weights are all float32 is averaged")
        return cls(
            parameters=manifest.parameters,
            model_start=len(manifest.model_header()),
            model_bytes=manifest.model_bytes,
            update_start=len(manifest.update_header()),
            update_bytes=manifest.update_bytes,
        )

    @property
    def buffers_start(self) -> int:
        """Where in a model file the tensors begin that are not averaged."""
        return self.model_start + ITEM * self.parameters


def block_length(length: int) -> int:
    """How long the blocks of a vector are: whole tiles, and where there are as many, sixteen blocks at least."""
    return min(BLOCK, max(TILE, length // BLOCK * TILE))


def cut(whole: Range, length: int) -> Iterator[Range]:
    """Consecutive ranges of `length`, the last one shorter, that cover `whole` exactly."""
    for start in range(whole.start, whole.stop, length):
        yield Range(start, min(start + length, whole.stop))
