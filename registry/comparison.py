"""How far two versions lie from each other, tensor by tensor, read in pieces: memory does not grow with the model."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fedportal.common import blobs
from fedwire.tensors import DTYPES, TensorSpec
from registry import files
from registry.models import ModelVersion

Places = dict[str, tuple[TensorSpec, int]]

PIECE = 1 << 18  # elements of a tensor read at a time
MOST_READ = 4 << 30  # bytes of both files together that a page may ask for
MOST_KEPT = 20_000  # differences that are remembered, of all comparisons together
PATIENCE = 3.0  # seconds to wait for another comparison
_reading, _looking = threading.Lock(), threading.Lock()
_kept: OrderedDict[tuple[str, str], Comparison] = OrderedDict()


@dataclass(frozen=True)
class Difference:
    """A tensor that is not the same in both. `what`: changed, added, gone, or reshaped (its shape or type differs)."""

    name: str
    what: str
    before: str
    after: str
    role: str
    distance: float | None = None  # L2, for one that can be subtracted
    share: float | None = None  # the distance in parts of the length it had before

    @property
    def percent(self) -> str:
        """`share` as a person reads it."""
        return percent(self.share)


@dataclass(frozen=True)
class Comparison:
    """What differs, the farthest first, and how many tensors hold the same numbers."""

    differences: tuple[Difference, ...]
    same: int
    distance: float | None  # of all weights together; None when they are not the same tensors
    share: float | None
    cosine: float | None = None  # one less the cosine between all weights before and after; None as above

    @property
    def percent(self) -> str:
        """`share` as a person reads it."""
        return percent(self.share)


def percent(share: float | None) -> str:
    """A share as a person reads it: "0.031 %", "49 %", "126 times"; "" for none."""
    if share is not None and share >= 10:
        return f"{share:,.0f} times"
    return "" if share is None else f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:,.0f} %"


def compare(before: ModelVersion, after: ModelVersion, patience: float = PATIENCE) -> Comparison | None:
    """Compare the tensors of two versions. Reads both files once; a pair that was compared lately is remembered.

    None while this process reads another pair: one at a time, so that looking cannot keep all its threads busy.
    Raises FileNotFoundError when a file is gone.
    """
    pair = before.blob, after.blob
    if (known := _recall(pair)) is not None:
        return known
    if not _reading.acquire(timeout=patience):
        return None
    try:
        return _recall(pair) or _remember(pair, _compared(*pair))
    finally:
        _reading.release()


def _recall(pair: tuple[str, str]) -> Comparison | None:
    with _looking:
        if pair in _kept:
            _kept.move_to_end(pair)
        return _kept.get(pair)


def _remember(pair: tuple[str, str], found: Comparison) -> Comparison:
    with _looking:
        _kept[pair] = found
        while len(_kept) > 1 and sum(1 + len(row.differences) for row in _kept.values()) > MOST_KEPT:
            _kept.popitem(last=False)
    return found


def _compared(before: str, after: str) -> Comparison:
    # Files are named by their digests, so that what was found once stays true.
    with open(blobs.path(before), "rb") as one, open(blobs.path(after), "rb") as other:
        first, second = _places(before, one), _places(after, other)
        if before == after:
            return Comparison((), len(first), 0.0, 0.0, 0.0)
        return _summed(first, second, one, other)


def _summed(first: Places, second: Places, one: BinaryIO, other: BinaryIO) -> Comparison:
    found: list[Difference] = []
    squares, lengths, afters, alike, same = 0.0, 0.0, 0.0, True, 0
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second or not _fit(first[name][0], second[name][0]):
            found.append(_other(name, first, second))
            alike = alike and found[-1].role != "weight"
            continue
        spec = first[name][0]
        square, length, after = _distance(one, other, first[name], second[name])
        if spec.role == "weight":
            squares, lengths, afters = squares + square, lengths + length, afters + after
        if square == 0.0:
            same += 1
            continue
        share = math.sqrt(square / length) if length else None
        found.append(Difference(name, "changed", _form(spec), _form(spec), spec.role, math.sqrt(square), share))
    found.sort(key=lambda row: (-(row.distance if row.distance is not None else math.inf), row.name))
    total = math.sqrt(squares) if alike else None
    share = math.sqrt(squares / lengths) if alike and lengths else None
    return Comparison(tuple(found), same, total, share, _cosine(squares, lengths, afters) if alike else None)


def _cosine(square: float, before: float, after: float) -> float | None:
    """One less the cosine, from ‖after - before‖², ‖before‖² and ‖after‖². Near 0 it does not drown in rounding, as
    1 - cos would: 2 ‖a‖ ‖b‖ (1 - cos) = ‖a - b‖² - (‖a‖ - ‖b‖)²."""
    if not before or not after:
        return None
    lengths = math.sqrt(before) * math.sqrt(after)
    return max(square - (math.sqrt(before) - math.sqrt(after)) ** 2, 0.0) / (2 * lengths)


def _fit(one: TensorSpec, other: TensorSpec) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _other(name: str, first: Places, second: Places) -> Difference:
    before, after = first.get(name), second.get(name)
    what = "reshaped" if before and after else "gone" if before else "added"
    either = before or after
    assert either is not None  # a name stands in one of them
    return Difference(name, what, _form(before[0]) if before else "", _form(after[0]) if after else "", either[0].role)


def _form(spec: TensorSpec) -> str:
    """ "30 × 2, F32"; a single number has no shape."""
    return f"{' × '.join(map(str, spec.shape)) or 'one number'}, {spec.dtype}"


def _distance(
    one: BinaryIO, other: BinaryIO, first: tuple[TensorSpec, int], second: tuple[TensorSpec, int]
) -> tuple[float, float, float]:
    """‖after - before‖², ‖before‖² and ‖after‖² of one tensor, summed in float64."""
    square, length, far = 0.0, 0.0, 0.0
    for before, after in zip(_pieces(one, *first), _pieces(other, *second), strict=True):
        apart = after - before
        square += float(np.dot(apart, apart))
        length += float(np.dot(before, before))
        far += float(np.dot(after, after))
    return square, length, far


def _pieces(file: BinaryIO, spec: TensorSpec, offset: int) -> Iterator[NDArray[np.float64]]:
    """The tensor's numbers as float64, a piece at a time."""
    dtype, left, place = DTYPES[spec.dtype], spec.size, offset
    while left:
        count = min(left, PIECE)
        file.seek(place)
        values: NDArray[Any] = np.frombuffer(file.read(count * dtype.itemsize), dtype, count)
        if spec.dtype == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        yield values.astype(np.float64)
        left -= count
        place += count * dtype.itemsize


def _places(blob: str, file: BinaryIO) -> Places:
    """Name → the tensor and where its bytes begin, of a stored model file."""
    specs = files.manifest_of(blob).tensors
    starts = accumulate((spec.nbytes for spec in specs), initial=8 + int.from_bytes(file.read(8), "little"))
    return {spec.name: (spec, start) for spec, start in zip(specs, starts, strict=False)}
