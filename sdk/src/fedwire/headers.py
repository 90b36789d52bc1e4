"""The header of a safetensors file: reading what comes from outside strictly, and writing ours in one spelling.

The format's own loader promises memory safety only; names, types, places and lengths are checked here, before a byte of
data is touched.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fedwire.errors import FedportalError

Role = Literal["weight", "buffer"]

DTYPES: Mapping[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of a float32; numpy has no such type, so arrays of it are float32
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
MAX_HEADER = 1 << 20
MAX_TENSORS = 20_000
MAX_NAME = 200
MAX_SIZE = 1 << 48  # elements of one tensor, not counting dimensions of length 0
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
        raise broken("it is shorter than 8 bytes")
    length = int.from_bytes(head[:8], "little")
    if length < 2 or length > MAX_HEADER or 8 + length > total or len(head) < 8 + length:
        raise broken("its header length is not possible")
    if head[8:9] != b"{" or head[8 : 8 + length].rstrip(b" ")[-1:] != b"}":
        raise broken("its header is not an object")
    try:
        header = json.loads(
            head[8 : 8 + length].decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_no_number,
            parse_constant=_no_number,
        )
    except (ValueError, RecursionError) as error:
        raise broken("its header is not the JSON it should be") from error
    if not isinstance(header, dict):
        raise broken("its header is not an object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise broken("its metadata are not strings")
    if not header or len(header) > MAX_TENSORS:
        raise broken(f"it holds {len(header)} tensors")
    buffers = set(filter(None, metadata.get("buffers", "").split("\n")))
    rows = sorted((_row(name, row, name in buffers) for name, row in header.items()), key=lambda item: item[0])
    position = 0
    for (start, stop), spec in rows:
        if start != position or stop != start + spec.nbytes:
            raise broken(f"the tensor {spec.name!r} does not lie where it should")
        position = stop
    if 8 + length + position != total:
        raise broken("its length is not the sum of its tensors")
    return Found(tuple(spec for _, spec in rows)), 8 + length


def parse_metadata(header: bytes) -> dict[str, str]:
    """The metadata of a header that this code wrote. Raises `not_safetensors` for another."""
    try:
        said = json.loads(header[8:]).get("__metadata__", {})
        return {str(name): str(value) for name, value in said.items()}
    except (ValueError, AttributeError) as error:
        raise broken("its header is not the JSON it should be") from error


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


def write_header(specs: Iterable[TensorSpec], metadata: dict[str, str]) -> bytes:
    """8 length bytes, the JSON that describes `specs` lying one behind the other, and spaces up to a multiple of 64."""
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
    if len(text) > MAX_HEADER:
        raise FedportalError("tensor_names", reason="the list of names takes more than 1 MiB")
    return len(text).to_bytes(8, "little") + text


def _row(name: str, row: Any, is_buffer: bool) -> tuple[tuple[int, int], TensorSpec]:
    check_name(name)
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise broken(f"the tensor {name!r} is not described as it should be")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise FedportalError("tensor_dtype", name=name, got=str(dtype)[:40], expected="one of " + ", ".join(DTYPES))
    if not _naturals(shape) or len(shape) > 8 or not _naturals(offsets) or len(offsets) != 2:
        raise broken(f"the tensor {name!r} has an impossible shape or place")
    if math.prod(n for n in shape if n) > MAX_SIZE:
        raise broken(f"the tensor {name!r} is impossibly large")
    role: Role = "buffer" if is_buffer else "weight"
    return (offsets[0], offsets[1]), TensorSpec(name, dtype, tuple(shape), role)


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < MAX_SIZE for n in values)


def check_name(name: str) -> None:
    """Raises `tensor_names` for a name that could mislead a reader or a file system."""
    usable = 0 < len(name) <= MAX_NAME and name.isprintable() and name != "__metadata__"
    if not usable or ".." in name or "/" in name or "\\" in name:
        raise FedportalError("tensor_names", reason=f"{name[:MAX_NAME]!r} is not a usable name")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} has no place in a header")


def broken(reason: str) -> FedportalError:
    """The error that says why a content is not a safetensors file."""
    return FedportalError("not_safetensors", reason=reason)
