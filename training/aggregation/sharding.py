"""A new model made in parts by several workers that share a folder: each part is a range of whole blocks.

Two passes. Where the combination takes a look at the updates as wholes, a part of the first pass is a file of its
blocks' inner products; a part of the second is a file of the new numbers, behind them what the server step remembers of
each. Every number is computed by the same steps as in one piece, and inner products are added block by block in the
same order, so the joined model has the same bits, whoever made which part and however often.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedwire.tensors import Float32
from training.aggregation.assembly import (
    Digests,
    OnBlock,
    Recipe,
    copy_rest,
    digests_of,
    prepared,
    put_weights,
    worker,
)
from training.aggregation.gram import Float64, of_blocks
from training.aggregation.kernels import Truncated, Vector, in_blocks, opened, write_all
from training.aggregation.layout import ITEM, TILE, Range, block_length, cut

# A finished part: its range and its file.
Part = tuple[Range, Path]


def parts(parameters: int, count: int) -> list[Range]:
    """The ranges of at most `count` parts, of equal length but for the last."""
    block = block_length(parameters)
    blocks = -(-parameters // block)
    return list(cut(Range(0, parameters), block * -(-blocks // min(count, blocks))))


def write_products(recipe: Recipe, within: Range, out: Path, threads: int, on_block: OnBlock) -> None:
    """Write the inner products of the blocks in `within` to the new file `out`. Raises kernels.Truncated, OSError."""
    block, size = block_length(recipe.layout.parameters), 8 * len(recipe.updates) ** 2
    with open(out, "xb", buffering=0) as file, opened(recipe.vectors):

        def found(whole: Range, products: Float64) -> None:
            content = np.ascontiguousarray(products, "<f8").data.cast("B")
            write_all(file.fileno(), content, (whole.start - within.start) // block * size)
            on_block()

        of_blocks(recipe.vectors, within, found, threads)
        os.fsync(file.fileno())


def products_of(recipe: Recipe, found: Sequence[Part]) -> Float64:
    """The Gram matrix from the files of all parts of the first pass, in order. Raises kernels.Truncated, OSError."""
    count, block = len(recipe.updates), block_length(recipe.layout.parameters)
    total = np.zeros((count, count))
    for within, path in found:
        with open(path, "rb") as file:
            for _ in range(within.start, within.stop, block):
                content = file.read(8 * count * count)
                if len(content) != 8 * count * count:
                    raise Truncated(f"{path.name} ends before its numbers do")
                total += np.frombuffer(content, "<f8").reshape(count, count)
    return total


def write_part(
    recipe: Recipe, looked: Sequence[Part], within: Range, out: Path, threads: int, on_block: OnBlock
) -> None:
    """Write the new numbers in `within`, and the state's, to the new file `out`.

    `looked`: all parts of the first pass, if there was one. Raises what `assembly.write_model` raises.
    """
    recipe.check()
    memory, length = recipe.memory(), len(within)
    with open(out, "xb", buffering=0) as file, opened([recipe.base_vector, *recipe.vectors]), memory.reading():
        work = prepared(recipe, memory, lambda: products_of(recipe, looked))

        def put(part: Range, tile: Float32, state: Sequence[Float32]) -> None:
            for place, numbers in enumerate((tile, *state)):
                position = ITEM * (place * length + part.start - within.start)
                write_all(file.fileno(), numbers.data.cast("B"), position)

        parameters = recipe.layout.parameters
        in_blocks(parameters, threads, lambda: worker(work, parameters, put, on_block), within)
        os.fsync(file.fileno())


def join(recipe: Recipe, found: Sequence[Part], out: Path, threads: int, on_part: OnBlock) -> Digests:
    """Write the model that all parts of the second pass make up to the new file `out`, and its state; the digests.

    Raises kernels.Truncated, OSError.
    """
    layout, memory = recipe.layout, recipe.memory()
    tile, room = np.empty(TILE, np.float32), memory.tiles(TILE)
    with open(out, "xb", buffering=0) as file, memory.opened():
        os.ftruncate(file.fileno(), layout.model_bytes)
        for within, path in found:
            length = len(within)
            rows = [Vector(path, ITEM * length * place, length) for place in range(1 + len(room))]
            with opened(rows):
                for part in cut(within, TILE):
                    here = Range(part.start - within.start, part.stop - within.start)
                    put_weights(file.fileno(), layout, part, rows[0].read(here, tile))
                    memory.write(part, [row.read(here, into) for row, into in zip(rows[1:], room, strict=True)])
            on_part()
        copy_rest(recipe.base, layout, file.fileno())
    return digests_of(recipe.manifest, out, recipe.state, threads)
