"""A model is a flat vector with a manifest.

A `Manifest` lists a model's tensors in one canonical order: the averaged ones (`role="weight"`) sorted by name, then the
others (`role="buffer"`: counters, standardisation statistics) sorted by name. A model file is a safetensors file whose
tensors lie in exactly that order and whose header is padded so that the data begins at a multiple of 64 bytes. An
update file holds the weights only, always as little-endian float32. So the header of an update, its length and the place
of every number are known before its first byte arrives, a file is mapped and not parsed, and aggregation is arithmetic on
ranges of one vector. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedwire.errors import FedportalError

Role = Literal["weight", "buffer"]
Float32 = NDArray[np.float32]

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
MAX_HEADER = 1 << 20
MAX_TENSORS = 20_000
MAX_NAME = 200
ALIGNMENT = 64


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its name, safetensors type name, shape, and whether it is averaged."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    role: Role = "weight"

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.size * DTYPES[self.dtype].itemsize


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
            _check_name(spec.name)
        return cls(tuple(ordered))

    @property
    def weights(self) -> tuple[TensorSpec, ...]:
        """The averaged tensors, in order."""
        return tuple(spec for spec in self.tensors if spec.role == "weight")

    @property
    def buffers(self) -> tuple[TensorSpec, ...]:
        """The tensors that travel beside the vector, in order."""
        return tuple(spec for spec in self.tensors if spec.role == "buffer")

    @property
    def parameters(self) -> int:
        """P, the length of the flat weight vector."""
        return sum(spec.size for spec in self.weights)

    @property
    def trainable(self) -> bool:
        """Whether every weight is float32, which is what a run averages."""
        return bool(self.weights) and all(spec.dtype == "F32" for spec in self.weights)

    def model_header(self) -> bytes:
        """The header of a model file: 8 length bytes, JSON, padding."""
        return _header(self.tensors, {"fedportal": "model"})

    def update_header(self) -> bytes:
        """The header of an update file: the weights only, as float32."""
        specs = [TensorSpec(spec.name, "F32", spec.shape) for spec in self.weights]
        return _header(specs, {"fedportal": "update"})

    @property
    def model_bytes(self) -> int:
        """The exact length of a model file."""
        return len(self.model_header()) + sum(spec.nbytes for spec in self.tensors)

    @property
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
    """A model file of `arrays`, which must be exactly the manifest's tensors."""
    parts = [manifest.model_header()]
    parts += [_contiguous(spec, arrays) for spec in manifest.tensors]
    _check_complete(manifest.tensors, arrays)
    return b"".join(parts)


def encode_update(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An update file: the weights of `arrays` as float32. Raises on missing names or other shapes."""
    flat = flatten(manifest, arrays)
    return manifest.update_header() + flat.tobytes()


def flatten(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> Float32:
    """The weights of `arrays` as one float32 vector of length P."""
    flat = np.empty(manifest.parameters, dtype=np.float32)
    position = 0
    for spec in manifest.weights:
        if spec.name not in arrays:
            raise FedportalError("tensor_names", reason=f"{spec.name!r} is missing")
        array = np.asarray(arrays[spec.name])
        if tuple(array.shape) != spec.shape:
            raise FedportalError("tensor_shape", name=spec.name, got=list(array.shape), expected=list(spec.shape))
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

    With `manifest` the file must match it exactly. Without, roles are taken from the header's metadata.
    """
    buffer = content if isinstance(content, bytes) else _mapped(content)
    found, start = parse_header(memoryview(buffer)[: MAX_HEADER + 8], total=len(buffer))
    if manifest is not None:
        check_same(found.tensors, manifest.tensors)
    arrays: dict[str, NDArray[Any]] = {}
    position = start
    for spec in found.tensors:
        view = np.frombuffer(buffer, dtype=DTYPES[spec.dtype], count=spec.size, offset=position)
        arrays[spec.name] = view.reshape(spec.shape)
        position += spec.nbytes
    return (manifest or Manifest.of(found.tensors)), arrays


def decode_update(content: bytes, manifest: Manifest) -> Float32:
    """The flat float32 vector (P) of an update file in memory."""
    header = manifest.update_header()
    if content[: len(header)] != header:
        check_update_header(content[: MAX_HEADER + 8], manifest, total=len(content))
    return np.frombuffer(content, dtype="<f4", offset=len(header))


@dataclass(frozen=True)
class Found:
    """What a header said: the tensors in file order."""

    tensors: tuple[TensorSpec, ...]


def parse_header(head: bytes | memoryview, *, total: int) -> tuple[Found, int]:
    """The tensors of a safetensors header, in file order, and the offset of the data.

    Strict: no repeated keys, no gaps, overlaps or trailing bytes, plain integers, known types, at most 20,000 tensors,
    at most 1 MiB. `total` is the length of the whole file. Raises `not_safetensors`.
    """
    head = bytes(head[: MAX_HEADER + 8])
    if len(head) < 8:
        raise _broken("it is shorter than 8 bytes")
    length = int.from_bytes(head[:8], "little")
    if length < 2 or length > MAX_HEADER or 8 + length > total or len(head) < 8 + length:
        raise _broken("its header length is not possible")
    try:
        header = json.loads(
            head[8 : 8 + length].decode("utf-8"), object_pairs_hook=_unique, parse_float=_no_number, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise _broken("its header is not the JSON it should be") from error
    if not isinstance(header, dict):
        raise _broken("its header is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _broken("its metadata are not strings")
    if not header or len(header) > MAX_TENSORS:
        raise _broken(f"it holds {len(header)} tensors")
    buffers = set(filter(None, metadata.get("buffers", "").split("\n")))
    rows = sorted((_row(name, row, name in buffers) for name, row in header.items()), key=lambda item: item[0])
    position = 0
    for (start, stop), spec in rows:
        if start != position or stop != start + spec.nbytes:
            raise _broken(f"the tensor {spec.name!r} does not lie where it should")
        position = stop
    if 8 + length + position != total:
        raise _broken("its length is not the sum of its tensors")
    return Found(tuple(spec for _, spec in rows)), 8 + length


def check_update_header(head: bytes, manifest: Manifest, *, total: int) -> int:
    """The offset of the vector in an update whose first bytes are `head`. Raises what is wrong with it."""
    expected = manifest.update_header()
    if head[: len(expected)] == expected and total == manifest.update_bytes:
        return len(expected)
    found, _ = parse_header(head, total=total)
    check_same(found.tensors, tuple(TensorSpec(s.name, "F32", s.shape) for s in manifest.weights))
    # Same tensors, other spelling: a padding or metadata that is not ours would move the vector.
    raise _broken("its header is not written the canonical way")


def check_same(found: tuple[TensorSpec, ...], expected: tuple[TensorSpec, ...]) -> None:
    """Raises the first difference between what a file holds and what the manifest says."""
    by_name = {spec.name: spec for spec in found}
    names = {spec.name for spec in expected}
    missing, extra = sorted(names - by_name.keys()), sorted(by_name.keys() - names)
    if missing or extra:
        reason = "; ".join(
            part
            for part in (
                f"missing {', '.join(map(repr, missing[:5]))}" if missing else "",
                f"unexpected {', '.join(map(repr, extra[:5]))}" if extra else "",
            )
            if part
        )
        raise FedportalError("tensor_names", reason=reason)
    for spec in expected:
        got = by_name[spec.name]
        if got.dtype != spec.dtype:
            raise FedportalError("tensor_dtype", name=spec.name, got=got.dtype, expected=spec.dtype)
        if got.shape != spec.shape:
            raise FedportalError("tensor_shape", name=spec.name, got=list(got.shape), expected=list(spec.shape))
    if tuple(spec.name for spec in found) != tuple(spec.name for spec in expected):
        raise FedportalError("tensor_order")


def all_finite(values: NDArray[Any]) -> bool:
    """Whether no element is NaN or infinite. Integers always are finite."""
    return values.dtype.kind not in "f" or bool(np.isfinite(values).all())


def digest_of(content: bytes | Path) -> str:
    """SHA-256 over the tensor bytes only, in hexadecimal: the header does not count."""
    buffer = content if isinstance(content, bytes) else _mapped(content)
    start = 8 + int.from_bytes(buffer[:8], "little")
    return hashlib.sha256(memoryview(buffer)[start:]).hexdigest()


def _header(specs: Iterable[TensorSpec], metadata: dict[str, str]) -> bytes:
    specs = list(specs)
    buffers = [spec.name for spec in specs if spec.role == "buffer"]
    if buffers:
        metadata = {**metadata, "buffers": "\n".join(buffers)}
    rows: dict[str, Any] = {"__metadata__": metadata}
    position = 0
    for spec in specs:
        rows[spec.name] = {
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "data_offsets": [position, position + spec.nbytes],
        }
        position += spec.nbytes
    text = json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _row(name: str, row: Any, is_buffer: bool) -> tuple[tuple[int, int], TensorSpec]:
    _check_name(name)
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise _broken(f"the tensor {name!r} is not described as it should be")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if dtype not in DTYPES:
        raise FedportalError("tensor_dtype", name=name, got=str(dtype), expected="one of " + ", ".join(DTYPES))
    if not _naturals(shape) or len(shape) > 8 or not _naturals(offsets) or len(offsets) != 2:
        raise _broken(f"the tensor {name!r} has an impossible shape or place")
    role: Role = "buffer" if is_buffer else "weight"
    return (offsets[0], offsets[1]), TensorSpec(name, dtype, tuple(shape), role)


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 1 << 48 for n in values)


def _check_name(name: str) -> None:
    if not name or len(name) > MAX_NAME or not name.isprintable() or ".." in name or "/" in name or "\\" in name:
        raise FedportalError("tensor_names", reason=f"{name[:MAX_NAME]!r} is not a usable name")


def _check_complete(specs: Iterable[TensorSpec], arrays: Mapping[str, NDArray[Any]]) -> None:
    extra = sorted(arrays.keys() - {spec.name for spec in specs})
    if extra:
        raise FedportalError("tensor_names", reason=f"unexpected {', '.join(map(repr, extra[:5]))}")


def _contiguous(spec: TensorSpec, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    if spec.name not in arrays:
        raise FedportalError("tensor_names", reason=f"{spec.name!r} is missing")
    array = np.asarray(arrays[spec.name])
    if tuple(array.shape) != spec.shape:
        raise FedportalError("tensor_shape", name=spec.name, got=list(array.shape), expected=list(spec.shape))
    return np.ascontiguousarray(array, dtype=DTYPES[spec.dtype]).tobytes()


def _mapped(path: Path) -> mmap.mmap:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise _broken("it is empty")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} has no place in a header")


def _broken(reason: str) -> FedportalError:
    return FedportalError("not_safetensors", reason=reason)
