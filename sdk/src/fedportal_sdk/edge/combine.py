"""The arithmetic of an edge: the mean of its devices' updates, a range at a time, summed in float64.

Memory is that of three tiles, whatever the size of the model and the number of devices. Updates are folded in the order
of their SHA-256, so the order of their arrival leaves no trace in the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path

import numpy as np

from fedwire.errors import FedportalError
from fedwire.tensors import Float32

ITEM = 4  # bytes of a float32
TILE = 1 << 15
# Beyond so many files each tile opens its file anew, far below what a process may hold open.
MOST_OPEN = 200


@dataclass(frozen=True)
class Piece:
    """One device's update: its file, what it is named by, the rows it comes from, and the reports that came with it."""

    path: Path
    sha256: str
    samples: int
    reports: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Mean:
    """How pieces become one update: Δ = Σ cᵢ·Δᵢ in the order of `pieces`, and what is reported of the whole."""

    pieces: tuple[Piece, ...]
    coefficients: tuple[float, ...]
    samples: int
    reports: Mapping[str, float]


def in_order(pieces: Sequence[Piece]) -> list[Piece]:
    """By digest; equal updates by what gives them their weight."""
    return sorted(pieces, key=lambda piece: (piece.sha256, piece.samples, sorted(piece.reports.items())))


def mean_of(pieces: Sequence[Piece]) -> Mean:
    """The mean of at least one piece, weighted by rows: cᵢ = nᵢ/n, n = Σ nᵢ.

    Where the pieces report how often their gradients count (`normaliser` aᵢ, FedNova), the whole reports
    a = Σ (nᵢ/n)·aᵢ and cᵢ = (nᵢ/n)·a/aᵢ. Then n·Δ/a = Σ nᵢ·Δᵢ/aᵢ and n·a = Σ nᵢ·aᵢ, which is all that FedNova's step
    depends on: the round comes out as if the devices had taken part one by one.
    """
    ordered = in_order(pieces)
    samples = sum(piece.samples for piece in ordered)
    shares = [piece.samples / samples for piece in ordered]
    reports: dict[str, float] = {}
    if all("steps" in piece.reports for piece in ordered):
        reports["steps"] = math.floor(_weighted(shares, ordered, "steps"))
    if all("normaliser" in piece.reports for piece in ordered):
        whole = _weighted(shares, ordered, "normaliser")
        reports["normaliser"] = whole
        shares = [share * (whole / piece.reports["normaliser"]) for share, piece in zip(shares, ordered, strict=True)]
    return Mean(tuple(ordered), tuple(shares), samples, reports)


def fold(mean: Mean, offset: int, out: Float32) -> None:
    """out = Σ cᵢ·Δᵢ, each Δᵢ being the float32 numbers behind the first `offset` bytes of its file.

    Every number is summed in float64 and rounded once. Raises `not_finite` for a sum that is no float32, and OSError
    for a file that is too short.
    """
    values, wide, total = np.empty(TILE, "<f4"), np.empty(TILE), np.empty(TILE)
    with _opened([piece.path for piece in mean.pieces]) as files:
        for start in range(0, len(out), TILE):
            stop = min(start + TILE, len(out))
            tile, product, summed = values[: stop - start], wide[: stop - start], total[: stop - start]
            summed[:] = 0
            for file, coefficient in zip(files, mean.coefficients, strict=True):
                file.read(offset + ITEM * start, tile)
                np.multiply(tile, coefficient, out=product, dtype=np.float64)
                np.add(summed, product, out=summed)
            with np.errstate(over="ignore"):
                out[start:stop] = summed
            if not np.isfinite(out[start:stop]).all():
                raise FedportalError("not_finite")


class _File:
    """A file that is read at given places; kept open where there are few."""

    def __init__(self, path: Path, opened: FileIO | None) -> None:
        self._path, self._opened = path, opened

    def read(self, position: int, into: Float32) -> None:
        """Fill `into` with the bytes from `position` on. Raises OSError."""
        if self._opened is not None:
            return _fill(self._opened, position, into)
        with open(self._path, "rb", buffering=0) as file:
            return _fill(file, position, into)


@contextmanager
def _opened(paths: Sequence[Path]) -> Iterator[list[_File]]:
    with ExitStack() as stack:
        kept = [stack.enter_context(open(path, "rb", buffering=0)) for path in paths[:MOST_OPEN]]
        yield [_File(path, kept[number] if number < MOST_OPEN else None) for number, path in enumerate(paths)]


def _fill(file: FileIO, position: int, into: Float32) -> None:
    view = into.data.cast("B")
    file.seek(position)
    while view:
        done = file.readinto(view)
        if not done:
            raise OSError(f"{file.name} ends before its numbers do")
        view = view[done:]


def _weighted(shares: Sequence[float], pieces: Sequence[Piece], name: str) -> float:
    return math.fsum(share * piece.reports[name] for share, piece in zip(shares, pieces, strict=True))
