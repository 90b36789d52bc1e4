"""A model is a flat vector with a manifest.

A `Manifest` lists a model's tensors in one canonical order: the averaged ones (`role="weight"`) sorted by name, then
the others (`role="buffer"`: counters, standardisation statistics) sorted by name. A model file is a safetensors file
whose tensors lie in exactly that order and whose header is padded so that the data begins at a multiple of 64 bytes. An
update file holds the weights only, always as little-endian float32. So the header of an update, its length and the
place of every number are known before its first byte arrives, a file is mapped and not parsed, and aggregation is
arithmetic on ranges of one vector. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedwire.errors import FedportalError
from fedwire.headers import (
    ALIGNMENT,
    DTYPES,
    FLOATING,
    MAX_HEADER,
    MAX_NAME,
    MAX_TENSORS,
    Found,
    Role,
    TensorSpec,
    broken,
    check_name,
    check_same,
    parse_header,
    write_header,
)

__all__ = [
    "ALIGNMENT",
    "DTYPES",
    "FLOATING",
    "MAX_HEADER",
    "MAX_NAME",
    "MAX_TENSORS",
    "Float32",
    "Found",
    "Manifest",
    "Role",
    "TensorSpec",
    "all_finite",
    "check_same",
    "check_update_header",
    "decode_model",
    "decode_update",
    "digest_of",
    "encode_model",
    "encode_update",
    "flatten",
    "parse_header",
    "spec_of",
    "unflatten",
]

Float32 = NDArray[np.float32]
_NAMES = {dtype: name for name, dtype in DTYPES.items() if name != "BF16"}


@dataclass(frozen=True)
class Manifest:
    """The canonical list of a model's tensors. Build it with `Manifest.of`, which sorts."""

    tensors: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, specs: Iterable[TensorSpec]) -> Manifest:
        """The manifest of `specs` in canonical order. Raises `tensor_names` on a repeated or unusable name."""
        ordered = sorted(specs, key=lambda spec: (spec.role != "weight", spec.name))
        names = [spec.name for spec in ordered]
        if len(set(names)) != len(names):
            raise FedportalError("tensor_names", reason="a name stands twice")
        for spec in ordered:
            check_name(spec.name)
        return cls(tuple(ordered))

    @cached_property
    def weights(self) -> tuple[TensorSpec, ...]:
        """The averaged tensors, in order."""
        return tuple(spec for spec in self.tensors if spec.role == "weight")

    @cached_property
    def buffers(self) -> tuple[TensorSpec, ...]:
        """The tensors that travel beside the vector, in order."""
        return tuple(spec for spec in self.tensors if spec.role == "buffer")

    @cached_property
    def parameters(self) -> int:
        """P, the length of the flat weight vector."""
        return sum(spec.size for spec in self.weights)

    @cached_property
    def trainable(self) -> bool:
        """Whether every weight is float32, which is what a run averages."""
        return bool(self.weights) and all(spec.dtype == "F32" for spec in self.weights)

    def model_header(self) -> bytes:
        """The header of a model file: 8 length bytes, JSON, padding."""
        return self._model_header

    def update_header(self) -> bytes:
        """The header of an update file: the weights only, as float32."""
        return self._update_header

    @cached_property
    def _model_header(self) -> bytes:
        return write_header(self.tensors, {"fedportal": "model"})

    @cached_property
    def _update_header(self) -> bytes:
        specs = [TensorSpec(spec.name, "F32", spec.shape) for spec in self.weights]
        return write_header(specs, {"fedportal": "update"})

    @cached_property
    def model_bytes(self) -> int:
        """The exact length of a model file."""
        return len(self.model_header()) + sum(spec.nbytes for spec in self.tensors)

    @cached_property
    def update_bytes(self) -> int:
        """The exact length of an update file."""
        return len(self.update_header()) + 4 * self.parameters

    def to_json(self) -> list[dict[str, Any]]:
        """The manifest as it travels and is stored."""
        return [{"name": s.name, "dtype": s.dtype, "shape": list(s.shape), "role": s.role} for s in self.tensors]

    @classmethod
    def from_json(cls, rows: Iterable[Mapping[str, Any]]) -> Manifest:
        """The manifest that `to_json` wrote."""
        return cls.of(
            TensorSpec(row["name"], row["dtype"], tuple(int(n) for n in row["shape"]), row.get("role", "weight"))
            for row in rows
        )


def spec_of(name: str, array: NDArray[Any], role: Role = "weight") -> TensorSpec:
    """The spec that describes `array`. Raises `tensor_dtype` for a type that does not travel."""
    dtype = _NAMES.get(array.dtype.newbyteorder("<"))
    if dtype is None:
        raise FedportalError("tensor_dtype", name=name, got=str(array.dtype), expected="one of " + ", ".join(DTYPES))
    return TensorSpec(name, dtype, tuple(array.shape), role)


def encode_model(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A model file of `arrays`, which must be exactly the manifest's tensors (BF16 is written from float32)."""
    _check_complete(manifest.tensors, arrays)
    return b"".join([manifest.model_header(), *(_contiguous(spec, arrays) for spec in manifest.tensors)])


def encode_update(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An update file: the weights of `arrays` as float32. Raises on missing names or other shapes."""
    flat = flatten(manifest, arrays)
    return manifest.update_header() + flat.tobytes()


def flatten(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> Float32:
    """The weights of `arrays` as one float32 vector of length P."""
    flat = np.empty(manifest.parameters, dtype=np.float32)
    position = 0
    for spec in manifest.weights:
        array = _fitting(spec, arrays, "F32")
        flat[position : position + spec.size] = array.reshape(-1)
        position += spec.size
    return flat


def unflatten(manifest: Manifest, flat: Float32) -> dict[str, Float32]:
    """The weights by name, as views into `flat` (length P)."""
    arrays: dict[str, Float32] = {}
    position = 0
    for spec in manifest.weights:
        arrays[spec.name] = flat[position : position + spec.size].reshape(spec.shape)
        position += spec.size
    return arrays


def decode_model(content: bytes | Path, manifest: Manifest | None = None) -> tuple[Manifest, dict[str, NDArray[Any]]]:
    """The manifest and tensors of a model file, read-only; a path is mapped, not read.

    With `manifest` the file must match it exactly. Without, roles are taken from the header's metadata. BF16 comes as
    float32, which holds every one of its values.
    """
    buffer = content if isinstance(content, bytes) else _mapped(content)
    found, start = parse_header(memoryview(buffer)[: MAX_HEADER + 8], total=len(buffer))
    if manifest is not None:
        check_same(found.tensors, manifest.tensors)
    arrays: dict[str, NDArray[Any]] = {}
    position = start
    for spec in found.tensors:
        view = np.frombuffer(buffer, dtype=DTYPES[spec.dtype], count=spec.size, offset=position)
        arrays[spec.name] = (_widened(view) if spec.dtype == "BF16" else view).reshape(spec.shape)
        position += spec.nbytes
    return (manifest or Manifest.of(found.tensors)), arrays


def decode_update(content: bytes, manifest: Manifest) -> Float32:
    """The flat float32 vector (P) of an update file in memory."""
    start = check_update_header(content[: MAX_HEADER + 8], manifest, total=len(content))
    return np.frombuffer(content, dtype="<f4", offset=start)


def check_update_header(head: bytes, manifest: Manifest, *, total: int) -> int:
    """The offset of the vector in an update whose first bytes are `head`. Raises what is wrong with it."""
    expected = manifest.update_header()
    if head[: len(expected)] == expected and total == manifest.update_bytes:
        return len(expected)
    found, _ = parse_header(head, total=total)
    check_same(found.tensors, tuple(TensorSpec(s.name, "F32", s.shape) for s in manifest.weights))
    # Same tensors, other spelling: a padding or metadata that is not ours would move the vector.
    raise broken("its header is not written the canonical way")


def all_finite(values: NDArray[Any]) -> bool:
    """Whether no element is NaN or infinite. Integers always are finite."""
    return values.dtype.kind not in "f" or bool(np.isfinite(values).all())


def digest_of(content: bytes | Path) -> str:
    """SHA-256 over the tensor bytes only, in hexadecimal: the header does not count."""
    buffer = content if isinstance(content, bytes) else _mapped(content)
    start = 8 + int.from_bytes(buffer[:8], "little")
    return hashlib.sha256(memoryview(buffer)[start:]).hexdigest()


def _check_complete(specs: Iterable[TensorSpec], arrays: Mapping[str, NDArray[Any]]) -> None:
    extra = sorted(arrays.keys() - {spec.name for spec in specs})
    if extra:
        raise FedportalError("tensor_names", reason=f"unexpected {', '.join(map(repr, extra[:5]))}")


def _contiguous(spec: TensorSpec, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    array = _fitting(spec, arrays, spec.dtype)
    if spec.dtype == "BF16":
        return _narrowed(array).tobytes()
    return np.ascontiguousarray(array, dtype=DTYPES[spec.dtype]).tobytes()


def _fitting(spec: TensorSpec, arrays: Mapping[str, NDArray[Any]], dtype: str) -> NDArray[Any]:
    """The array of `spec`, of its shape and of a kind that may be written as `dtype`."""
    if spec.name not in arrays:
        raise FedportalError("tensor_names", reason=f"{spec.name!r} is missing")
    array = np.asarray(arrays[spec.name])
    if tuple(array.shape) != spec.shape:
        raise FedportalError("tensor_shape", name=spec.name, got=list(array.shape), expected=list(spec.shape))
    if array.dtype.kind not in "fiub" or (dtype not in FLOATING and not np.can_cast(array.dtype, DTYPES[dtype])):
        raise FedportalError("tensor_dtype", name=spec.name, got=str(array.dtype), expected=dtype)
    return array


def _widened(halves: NDArray[Any]) -> Float32:
    """BF16 as float32."""
    return (halves.astype("<u4") << 16).view("<f4")


def _narrowed(values: NDArray[Any]) -> NDArray[Any]:
    """float32 as BF16, rounded to nearest, ties to even."""
    words = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded = (words + np.uint32(0x7FFF) + ((words >> 16) & np.uint32(1))) >> 16
    return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype("<u2")


def _mapped(path: Path) -> mmap.mmap:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise broken("it is empty")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
