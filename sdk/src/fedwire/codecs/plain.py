"""The codecs that write every number: as it is, as a half, or as a whole number of a scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedwire.codecs.base import TILE, Codec, Scan, check_finite, unusable
from fedwire.errors import FedportalError
from fedwire.headers import TensorSpec
from fedwire.tensors import Float32, Manifest

# Numbers that share a scale: so many that their squares still add up exactly in float32, 1024·127² < 2²⁴.
BLOCK = 1024
MOST = 127
LARGEST_HALF = 65504.0


class Plain(Codec):
    """float32, each tensor by its name: the update as it is."""

    name = "none"

    def __init__(self, manifest: Manifest) -> None:
        self.numbers = manifest.parameters
        self.specs = tuple(TensorSpec(spec.name, "F32", spec.shape) for spec in manifest.weights)
        self.header = manifest.update_header()
        self.nbytes = manifest.update_bytes

    @classmethod
    def planned(cls, numbers: int, plan: Mapping[str, Any]) -> Self:
        """Refused: it is made of a manifest."""
        raise unusable("a plain update has no plan")

    def write(self, values: Float32, generator: np.random.Generator, parts: Sequence[NDArray[Any]]) -> None:
        """Copy them."""
        position = 0
        for part in parts:
            part.reshape(-1)[:] = values[position : position + part.size]
            position += part.size

    def read(self, parts: Sequence[NDArray[Any]], start: int, stop: int, out: Float32, state: Any) -> None:
        """Copy those of the range."""
        position = 0
        for part in parts:
            low, high = max(start, position), min(stop, position + part.size)
            if low < high:
                out[low - start : high - start] = part.reshape(-1)[low - position : high - position]
            position += part.size

    def scan(self) -> Scan:
        """Finiteness and norm."""

        def take(values: NDArray[Any]) -> None:
            check_finite(values)
            scan.squares += squares_of(values)

        scan = Scan(self, [take] * len(self.specs))
        return scan


class Float16(Codec):
    """Each number as the nearest IEEE half, ties to even: eleven significant bits.

    Below 2⁻¹⁴ steps are 2⁻²⁴ wide. Numbers up to 65,519 saturate at the largest half, 65,504; beyond that they are
    refused rather than cut, because a cut update says something else.
    """

    name = "float16"

    def __init__(self, numbers: int) -> None:
        super().__init__(numbers, [TensorSpec("values", "F16", (numbers,))], {})

    @classmethod
    def planned(cls, numbers: int, plan: Mapping[str, Any]) -> Self:
        """There is nothing to choose."""
        return cls(numbers)

    def write(self, values: Float32, generator: np.random.Generator, parts: Sequence[NDArray[Any]]) -> None:
        """Round them. Raises `codec_overflow`."""
        with np.errstate(over="ignore", under="ignore"):
            parts[0][:] = values
        if not np.isfinite(parts[0]).all():
            raise FedportalError("codec_overflow", codec=self.name, most=LARGEST_HALF)

    def read(self, parts: Sequence[NDArray[Any]], start: int, stop: int, out: Float32, state: Any) -> None:
        """Widen those of the range."""
        out[:] = parts[0][start:stop]

    def scan(self) -> Scan:
        """Finiteness and norm."""

        def take(values: NDArray[Any]) -> None:
            check_finite(values)
            scan.squares += squares_of(values)

        scan = Scan(self, [take])
        return scan


class Int8(Codec):
    """Stochastic rounding to whole numbers of a scale (QSGD: Alistarh et al. 2017, arXiv:1610.02132).

    Blocks of 1024 numbers share the scale s = max|x| / 127, rounded up to float32; x becomes ⌊x/s + u⌋ with u uniform
    on [0, 1), drawn for every number in order. So E[s·q] = x, and |s·q - x| ≤ s up to the rounding of the product.
    """

    name = "int8"

    def __init__(self, numbers: int) -> None:
        blocks = -(-numbers // BLOCK)
        super().__init__(numbers, [TensorSpec("scales", "F32", (blocks,)), TensorSpec("values", "I8", (numbers,))], {})

    @classmethod
    def planned(cls, numbers: int, plan: Mapping[str, Any]) -> Self:
        """There is nothing to choose."""
        return cls(numbers)

    def write(self, values: Float32, generator: np.random.Generator, parts: Sequence[NDArray[Any]]) -> None:
        """Scale and round them, tile by tile. Raises `codec_overflow`."""
        scales, codes = parts
        for start in range(0, self.numbers, TILE):
            tile = values[start : start + TILE]
            rows = np.zeros(-(-len(tile) // BLOCK) * BLOCK, np.float32)
            rows[: len(tile)] = np.abs(tile)
            fitting = scale_for(rows.reshape(-1, BLOCK).max(axis=1))
            scales[start // BLOCK : start // BLOCK + len(fitting)] = fitting
            steps = np.repeat(np.where(fitting > 0, fitting, 1).astype(np.float64), BLOCK)[: len(tile)]
            rounded = np.floor(tile / steps + generator.random(len(tile)))
            codes[start : start + len(tile)] = np.clip(rounded, -MOST, MOST)
        if not fits(scales):
            raise FedportalError("codec_overflow", codec=self.name, most=float(np.finfo(np.float32).max))

    def read(self, parts: Sequence[NDArray[Any]], start: int, stop: int, out: Float32, state: Any) -> None:
        """s·q for those of the range."""
        scales, codes = parts
        first = start // BLOCK
        steps = np.repeat(scales[first : -(-stop // BLOCK)], BLOCK)
        np.multiply(codes[start:stop], steps[start - first * BLOCK : stop - first * BLOCK], out=out)

    def scan(self) -> Scan:
        """The scales as a whole before the first value; then Σ q² for each block, which is exact."""
        scales = np.empty(-(-self.numbers // BLOCK), np.float64)
        have = seen = 0

        def take_scales(values: NDArray[Any]) -> None:
            nonlocal have
            if not fits(values) or np.signbit(values).any():
                raise unusable("a scale is NaN, infinite, negative or too large")
            scales[have : have + len(values)] = values
            have += len(values)

        def take_values(values: NDArray[Any]) -> None:
            nonlocal seen
            if values.min() < -MOST:
                raise unusable(f"a value is below -{MOST}")
            squares = np.square(values, dtype=np.float32)
            first = seen // BLOCK
            edges = np.arange(first, (seen + len(values) - 1) // BLOCK + 1) * BLOCK - seen
            sums = np.add.reduceat(squares, np.maximum(edges, 0)).astype(np.float64)
            scan.squares += float(np.add.reduce(sums * np.square(scales[first : first + len(sums)])))
            seen += len(values)

        scan = Scan(self, [take_scales, take_values])
        return scan


def scale_for(largest: Float32) -> Float32:
    """The least float32 s with 127·s ≥ `largest`, element by element."""
    scales = (largest.astype(np.float64) / MOST).astype(np.float32)
    short = scales.astype(np.float64) * MOST < largest
    return np.where(short, np.nextafter(scales, np.float32(np.inf)), scales)


def fits(scales: NDArray[Any]) -> bool:
    """Whether every product of a scale and a value is a finite float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(scales.astype(np.float32) * np.float32(MOST)).all())


def squares_of(values: NDArray[Any]) -> float:
    """Σ x² in float64, in one order whatever the number of threads."""
    return float(np.add.reduce(np.square(values, dtype=np.float64)))
