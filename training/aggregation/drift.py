"""How far a model has moved: the relative change of its weights, streamed over two files."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from fedwire.tensors import Manifest
from training.aggregation.kernels import Weights, in_blocks, opened
from training.aggregation.layout import TILE, Layout, Range, cut


def relative_change(
    manifest: Manifest, before: Path, after: Path, threads: int = 1, local: Collection[str] = ()
) -> float | None:
    """‖after − before‖ / ‖before‖ (L2) over the weights of two files of the model; None when that is no finite number.

    Buffers and the tensors in `local`, which stay on the devices, are left out. Sums are in float64 by tile and then
    rounded once, so the result does not depend on `threads`. Memory: four tiles per thread. Raises kernels.Truncated
    and OSError.
    """
    layout = Layout.of(manifest, local)
    old, new = (Weights(path, layout) for path in (before, after))
    moved: dict[int, float] = {}
    length: dict[int, float] = {}

    def start() -> Callable[[Range], None]:
        size = min(TILE, layout.parameters)
        first, second = np.empty(size, np.float32), np.empty(size, np.float32)
        work = np.empty(size, np.float64)

        def block(whole: Range) -> None:
            for part in cut(whole, TILE):
                one, other, room = old.read(part, first), new.read(part, second), work[: len(part)]
                np.subtract(other, one, out=room, dtype=np.float64)
                moved[part.start] = float(np.add.reduce(np.square(room, out=room)))
                np.square(one, out=room, dtype=np.float64)
                length[part.start] = float(np.add.reduce(room))

        return block

    with opened([old, new]):
        in_blocks(layout.parameters, threads, start)
    step, norm = (math.sqrt(math.fsum(squares.values())) for squares in (moved, length))
    return step / norm if norm and math.isfinite(step / norm) else None
