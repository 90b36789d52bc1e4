"""The new model's file: from the base, the updates and a strategy, written range by range.

Memory: a few tiles per thread, whatever the length of the model and the number of updates.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedwire.codecs import Codec, Plain
from fedwire.errors import FedportalError
from fedwire.tensors import DTYPES, Float32, Manifest
from training.aggregation.combine import Tile
from training.aggregation.kernels import Encoded, Rows, Vector, Weights, in_blocks, opened, weighted_sum, write_all
from training.aggregation.layout import TILE, Layout, Range, cut
from training.aggregation.memory import Memory, StateFiles
from training.aggregation.server_opt import ServerStep
from training.aggregation.strategy import Strategy, Values
from training.aggregation.transforms import Update, in_order
from training.aggregation.variates import Fold

COPY_BYTES = 1 << 20
# Files below this are hashed one after the other: a second thread costs more than it gains.
SMALL_BYTES = 1 << 18
# Called after every block that is written; what it raises ends the work.
OnBlock = Callable[[], object]


@dataclass(frozen=True)
class Digests:
    """Of a model file: SHA-256 of all its bytes, and over the tensor bytes only. `state`: SHA-256 of the state's file,
    "" when the strategy remembers nothing."""

    sha256: str
    digest: str
    state: str = ""


@dataclass(frozen=True)
class _Work:
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
    write_weights(strategy, values, manifest, base, updates, out, threads, on_block, state, codec, local)
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
    layout = Layout.of(manifest, local)
    ordered = in_order(updates)
    if not ordered:
        raise ValueError("there is nothing to combine")
    strategy.check_updates(values, len(ordered))
    vectors = vectors_of(ordered, layout, codec)
    base_vector = Weights(base, layout)
    step = strategy.server(values)
    memory = Memory(step.state, layout.parameters, state)
    with open(out, "xb", buffering=0) as file, opened([base_vector, *vectors]), memory.opened():
        os.ftruncate(file.fileno(), layout.model_bytes)
        plan = strategy.combine(values).plan(vectors, strategy.weights(ordered, values), threads)
        counted = [place for place, weight in enumerate(plan.weights) if weight]
        work = _Work(
            base_vector,
            [vectors[place] for place in counted],
            [plan.weights[place] for place in counted],
            plan.tile,
            step,
            memory,
            vectors,
            strategy.fold(values)(ordered, state.cohort) if strategy.fold is not None and state is not None else None,
        )
        in_blocks(layout.parameters, threads, lambda: _worker(work, layout, file.fileno(), on_block))
        _copy_rest(base, layout, file.fileno())


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


def _worker(work: _Work, layout: Layout, out: int, on_block: OnBlock) -> Callable[[Range], None]:
    """What one thread does with a block, with tiles of its own."""
    length = min(TILE, layout.parameters)
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
            if not np.isfinite(tile).all():
                raise FedportalError("not_finite")
            work.memory.write(part, state)
            for numbers, position in layout.places(part):
                piece = tile[numbers.start - part.start : numbers.stop - part.start]
                write_all(out, piece.data.cast("B"), position)
        on_block()

    return block


def _folder(work: _Work, length: int) -> Callable[[Range, Sequence[Float32]], None]:
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


def _copy_rest(base: Path, layout: Layout, out: int) -> None:
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
