"""The new model's file: from the base, the updates and a strategy, written range by range.

Memory: a few tiles per thread, whatever the length of the model and the number of updates.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from fedwire.codecs import Codec, Plain
from fedwire.errors import FedportalError
from fedwire.tensors import DTYPES, Float32, Manifest
from training.aggregation.combine import Products, Tile
from training.aggregation.gram import gram
from training.aggregation.kernels import Encoded, Rows, Vector, Weights, in_blocks, opened, weighted_sum, write_all
from training.aggregation.layout import TILE, Layout, Range, cut
from training.aggregation.memory import Memory, StateFiles
from training.aggregation.noising import Noise, norm_of
from training.aggregation.server_opt import ServerStep
from training.aggregation.staleness import from_here
from training.aggregation.strategy import Strategy, Values
from training.aggregation.transforms import Update, in_order
from training.aggregation.variates import Fold

COPY_BYTES = 1 << 20
# Files below this are hashed one after the other: a second thread costs more than it gains.
SMALL_BYTES = 1 << 18
# Called after every block that is written; what it raises ends the work.
OnBlock = Callable[[], object]
# Takes the new numbers of a part, and what the server step remembers of it, which are good until it returns.
Put = Callable[[Range, Float32, Sequence[Float32]], None]


@dataclass(frozen=True)
class Digests:
    """Of a model file: SHA-256 of all its bytes, and over the tensor bytes only. `state`: SHA-256 of the state's file,
    "" when the strategy remembers nothing."""

    sha256: str
    digest: str
    state: str = ""


@dataclass(frozen=True)
class Recipe:
    """What a new model is made from; see `write_model`."""

    strategy: Strategy
    values: Values
    manifest: Manifest
    base: Path
    updates: Sequence[Update]
    state: StateFiles | None = None
    codec: Codec | None = None
    local: Collection[str] = ()
    noise: Noise | None = None  # that the portal adds; the weights of the strategy do not count then

    @cached_property
    def layout(self) -> Layout:
        """Where the numbers lie."""
        return Layout.of(self.manifest, self.local)

    @cached_property
    def ordered(self) -> list[Update]:
        """The updates as they are folded."""
        return in_order(self.updates)

    @cached_property
    def base_vector(self) -> Vector:
        """The numbers of the base."""
        return Weights(self.base, self.layout)

    @cached_property
    def vectors(self) -> list[Vector]:
        """The numbers of the updates as they count for the base, in their order."""
        sent = vectors_of(self.ordered, self.layout, self.codec)
        return from_here(sent, self.ordered, self.base_vector, self.layout, rebases=self.strategy.rebases)

    @cached_property
    def norms(self) -> list[float]:
        """The L2 norms of the updates in their order, read from their files."""
        return [norm_of(vector) for vector in self.vectors]

    @cached_property
    def looks(self) -> bool:
        """Whether how the updates are combined depends on their Gram matrix."""
        return self.strategy.combine(self.values).looks

    def memory(self) -> Memory:
        """What the server step remembers."""
        return Memory(self.strategy.server(self.values).state, self.layout.parameters, self.state)

    def check(self) -> None:
        """Raises ValueError without updates, `updates_too_few`."""
        if not self.updates:
            raise ValueError("there is nothing to combine")
        self.strategy.check_updates(self.values, len(self.updates))


@dataclass(frozen=True)
class Work:
    """What is done with each tile."""

    base: Vector
    updates: Sequence[Vector]
    weights: Sequence[float]  # none is 0
    tile: Tile
    step: ServerStep
    memory: Memory
    all: Sequence[Vector]  # also those of weight 0
    fold: Fold | None


def write_model(
    strategy: Strategy,
    values: Values,
    *,
    manifest: Manifest,
    base: Path,
    updates: Sequence[Update],
    out: Path,
    state: StateFiles | None = None,
    threads: int = 1,
    on_block: OnBlock = lambda: None,
    codec: Codec | None = None,
    local: Collection[str] = (),
) -> Digests:
    """Write the model that follows `base` after these updates to the new file `out`; its digests.

    In the same pass `state.out` is written, if the strategy's server step remembers something. `codec` wrote the
    updates; without one they are plain. The tensors in `local` stay on the devices: the updates do not hold them.

    The result depends on the set of updates only: neither on their order nor on `threads`. Tensors that are not
    averaged, and those that stay on the devices, are copied from the base. Raises `updates_too_few` when the strategy
    needs more, `not_finite` when the new weights or the state are not all finite, ValueError without updates,
    kernels.Truncated for a file that is too short, OSError.
    """
    return write(Recipe(strategy, values, manifest, base, updates, state, codec, local), out, threads, on_block)


def write(recipe: Recipe, out: Path, threads: int = 1, on_block: OnBlock = lambda: None) -> Digests:
    """`write_model` for a recipe."""
    _write_weights(recipe, out, threads, on_block)
    return digests_of(recipe.manifest, out, recipe.state, threads)


def digests_of(manifest: Manifest, out: Path, state: StateFiles | None, threads: int) -> Digests:
    """The digests of a model file and of the state's that was written with it."""
    found = digests(out, len(manifest.model_header()), threads)
    return replace(found, state=_sha256(state.out, 0)) if state is not None and state.out.exists() else found


def write_weights(
    strategy: Strategy,
    values: Values,
    manifest: Manifest,
    base: Path,
    updates: Sequence[Update],
    out: Path,
    threads: int = 1,
    on_block: OnBlock = lambda: None,
    state: StateFiles | None = None,
    codec: Codec | None = None,
    local: Collection[str] = (),
) -> None:
    """`write_model` without its digests."""
    _write_weights(Recipe(strategy, values, manifest, base, updates, state, codec, local), out, threads, on_block)


def _write_weights(recipe: Recipe, out: Path, threads: int, on_block: OnBlock) -> None:
    recipe.check()
    layout, memory = recipe.layout, recipe.memory()
    with open(out, "xb", buffering=0) as file, opened([recipe.base_vector, *recipe.vectors]), memory.opened():
        os.ftruncate(file.fileno(), layout.model_bytes)
        if recipe.noise is None:
            work = prepared(recipe, memory, lambda: gram(recipe.vectors, threads))
        else:
            work = noised(recipe, recipe.noise, memory)

        def put(part: Range, tile: Float32, state: Sequence[Float32]) -> None:
            memory.write(part, state)
            put_weights(file.fileno(), layout, part, tile)

        in_blocks(layout.parameters, threads, lambda: worker(work, layout.parameters, put, on_block))
        copy_rest(recipe.base, layout, file.fileno())


def prepared(recipe: Recipe, memory: Memory, products: Products) -> Work:
    """What is done with each tile, after a look at the Gram matrix if the combination takes one."""
    strategy, values, state = recipe.strategy, recipe.values, recipe.state
    plan = strategy.combine(values).plan(strategy.weights(recipe.ordered, values), products)
    counted = [place for place, weight in enumerate(plan.weights) if weight]
    folding = strategy.fold(values) if strategy.fold is not None else None
    return Work(
        recipe.base_vector,
        [recipe.vectors[place] for place in counted],
        [plan.weights[place] for place in counted],
        plan.tile,
        strategy.server(values),
        memory,
        recipe.vectors,
        folding(recipe.ordered, state.cohort) if folding is not None and state is not None else None,
    )


def noised(recipe: Recipe, noise: Noise, memory: Memory) -> Work:
    """What is done with each tile where the portal adds noise: a mean of clipped updates, whatever the weights say."""
    strategy, values, vectors = recipe.strategy, recipe.values, recipe.vectors
    tile = noise.tile(strategy.combine(values), recipe.norms, recipe.layout.parameters)
    return Work(
        recipe.base_vector,
        vectors,
        [1.0] * len(vectors),
        tile,
        strategy.server(values),
        memory,
        vectors,
        None,
    )


def vectors_of(updates: Sequence[Update], layout: Layout, codec: Codec | None = None) -> list[Vector]:
    """The numbers of these updates, to be read by ranges; decoded where `codec` wrote them."""
    if codec is None or isinstance(codec, Plain):
        return [Vector(update.path, layout.update_start, layout.parameters) for update in updates]
    return [Encoded(update.path, codec) for update in updates]


def with_buffers(base: Path, manifest: Manifest, arrays: Mapping[str, Float32], out: Path) -> Digests:
    """Write a copy of the model file `base` to `out` in which these float32 buffers have new values; its digests.

    Raises KeyError or ValueError for a name that is no such buffer, OSError.
    """
    start = len(manifest.model_header())
    places: dict[str, tuple[int, int]] = {}
    position = start
    for spec in manifest.tensors:
        places[spec.name] = (position, spec.size if spec.role == "buffer" and spec.dtype == "F32" else -1)
        position += spec.nbytes
    with open(out, "xb", buffering=0) as file:
        _copy(base, file.fileno(), 0, manifest.model_bytes)
        for name, values in arrays.items():
            place, size = places[name]
            content = np.ascontiguousarray(values, DTYPES["F32"])
            if content.size != size:
                raise ValueError(f"{name} is not a float32 buffer of {content.size} numbers")
            write_all(file.fileno(), content.reshape(-1).data.cast("B"), place)
    return digests(out, start)


def digests(path: Path, data_start: int, threads: int = 1) -> Digests:
    """The digests of a model file whose tensors begin at `data_start`."""
    if threads == 1 or path.stat().st_size < SMALL_BYTES:
        return Digests(_sha256(path, 0), _sha256(path, data_start))
    with ThreadPoolExecutor(1, "digest") as pool:
        whole = pool.submit(_sha256, path, 0)
        return Digests(digest=_sha256(path, data_start), sha256=whole.result())


def worker(work: Work, parameters: int, put: Put, on_block: OnBlock) -> Callable[[Range], None]:
    """What one thread does with a block, with tiles of its own. Raises `not_finite`."""
    length = min(TILE, parameters)
    rows = Rows(work.updates, work.weights, length)
    result, base = np.empty(length, np.float32), np.empty(length, np.float32)
    room, fold = work.memory.tiles(length), _folder(work, length)

    def block(whole: Range) -> None:
        for part in cut(whole, TILE):
            tile = result[: len(part)]
            state = work.memory.read(part, room)
            # Large finite numbers may overflow; the look at the result says so.
            with np.errstate(over="ignore", invalid="ignore"):
                fold(part, state)
                work.tile(rows, part, tile)
                work.step.tile(work.base.read(part, base), tile, state)
            if not all(np.isfinite(numbers).all() for numbers in (tile, *state)):
                raise FedportalError("not_finite")
            put(part, tile, state)
        on_block()

    return block


def put_weights(out: int, layout: Layout, part: Range, tile: Float32) -> None:
    """Write these numbers to their places in a model file. Raises OSError."""
    for numbers, position in layout.places(part):
        piece = tile[numbers.start - part.start : numbers.stop - part.start]
        write_all(out, piece.data.cast("B"), position)


def _folder(work: Work, length: int) -> Callable[[Range, Sequence[Float32]], None]:
    """Folds the updates into the state of a part; does nothing for a strategy without variates."""
    if work.fold is None:
        return lambda part, state: None
    rows, moved, keep = Rows(work.all, work.fold.weights, length), np.empty(length, np.float32), work.fold.keep

    def fold(part: Range, state: Sequence[Float32]) -> None:
        (mean,) = state
        weighted_sum(rows.of(part), rows.weights, moved[: len(part)])
        np.multiply(mean, np.float32(keep), out=mean)
        np.add(mean, moved[: len(part)], out=mean)

    return fold


def copy_rest(base: Path, layout: Layout, out: int) -> None:
    """The header, the tensors that stay on the devices, and those that are not averaged."""
    for start, stop in layout.rest():
        _copy(base, out, start, stop)


def _copy(source: Path, out: int, start: int, stop: int) -> None:
    with open(source, "rb") as file:
        file.seek(start)
        while start < stop:
            piece = file.read(min(COPY_BYTES, stop - start))
            if not piece:
                raise EOFError(f"{source.name} is shorter than its model")
            write_all(out, memoryview(piece), start)
            start += len(piece)


def _sha256(path: Path, start: int) -> str:
    with open(path, "rb") as file:
        file.seek(start)
        return hashlib.file_digest(file, "sha256").hexdigest()
