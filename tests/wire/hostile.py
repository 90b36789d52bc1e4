"""Files that claim to be an update of one small model and are not, each with the code that refuses it.

The model is a logistic regression on four columns: `layers.0.bias` [1] and `layers.0.weight` [1, 4].
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedwire.architectures import Architecture
from fedwire.tensors import encode_update

ARCHITECTURE = Architecture.parse({"kind": "logistic", "inputs": 4})
MANIFEST = ARCHITECTURE.manifest()
GOOD = encode_update(MANIFEST, {"layers.0.bias": np.float32([1]), "layers.0.weight": np.float32([[2, 3, 4, 5]])})
BIAS = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
WEIGHT = {"dtype": "F32", "shape": [1, 4], "data_offsets": [4, 20]}
NUMBERS = np.arange(1, 6, dtype="<f4").tobytes()


@dataclass(frozen=True)
class Hostile:
    """`code`: what refuses it as an update. `as_model`: whether it is just as unusable as a model file."""

    name: str
    content: bytes
    code: str
    as_model: bool = True


def raw(text: bytes, data: bytes = NUMBERS, length: int | None = None) -> bytes:
    """A file with this header text, telling `length` (by default the truth)."""
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def file(rows: dict[str, Any], data: bytes = NUMBERS) -> bytes:
    """A file with this header, as JSON."""
    return raw(json.dumps(rows, separators=(",", ":")).encode(), data)


def two(bias: dict[str, Any] | None = None, weight: dict[str, Any] | None = None, **more: Any) -> bytes:
    """The good rows, some replaced."""
    return file({"layers.0.bias": bias or BIAS, "layers.0.weight": weight or WEIGHT, **more})


def renamed(name: str) -> bytes:
    """The good file with another name for the weight."""
    return file({"layers.0.bias": BIAS, name: WEIGHT})


def corpus() -> list[Hostile]:
    """Every hostile file."""
    groups: tuple[Callable[[], Iterator[Hostile]], ...] = (
        _lengths,
        _texts,
        _rows,
        _places,
        _names,
        _other_models,
        _other_formats,
        _values,
        _bombs,
    )
    return [hostile for group in groups for hostile in group()]


def _lengths() -> Iterator[Hostile]:
    broken = "not_safetensors"
    yield Hostile("empty", b"", broken)
    yield Hostile("seven bytes", GOOD[:7], broken)
    yield Hostile("length only", GOOD[:8], broken)
    yield Hostile("header cut", GOOD[:40], broken)
    yield Hostile("header without data", GOOD[:-20], broken)
    yield Hostile("last byte missing", GOOD[:-1], broken)
    yield Hostile("last number missing", GOOD[:-4], broken)
    yield Hostile("one byte too many", GOOD + b"\0", broken)
    yield Hostile("one number too many", GOOD + b"\0\0\0\0", broken)
    yield Hostile("file twice", GOOD + GOOD, broken)
    yield Hostile("header length 0", raw(b"", length=0), broken)
    yield Hostile("header length 1", raw(b"{", length=1), broken)
    yield Hostile("header length one too small", raw(GOOD[8:-20], length=len(GOOD) - 30), broken)
    yield Hostile("header length beyond the file", raw(GOOD[8:-20], length=len(GOOD)), broken)
    yield Hostile("header length 2⁶⁴-1", raw(GOOD[8:-20], length=2**64 - 1), broken)
    yield Hostile("header length 2⁶³", raw(GOOD[8:-20], length=2**63), broken)
    yield Hostile("header length big-endian", struct.pack(">Q", len(GOOD) - 28) + GOOD[8:], broken)
    yield Hostile("header of 2 MiB", raw(b"{" + b" " * (2 << 20) + b"}"), broken)


def _texts() -> Iterator[Hostile]:
    broken = "not_safetensors"
    good = GOOD[8:-20].rstrip()
    yield Hostile("header is a list", raw(b"[]"), broken)
    yield Hostile("header is null", raw(b"null"), broken)
    yield Hostile("header is a string", raw(b'"{}"'), broken)
    yield Hostile("header is empty", raw(b"{}", b""), broken)
    yield Hostile("header has metadata only", raw(b'{"__metadata__":{}}', b""), broken)
    yield Hostile("header is not JSON", raw(b"{'layers.0.bias': 1}"), broken)
    yield Hostile("header ends in a comma", raw(good[:-1] + b",}"), broken)
    yield Hostile("header begins with a space", raw(b" " + good), broken)
    yield Hostile("header begins with a byte order mark", raw("\ufeff".encode() + good), broken)
    yield Hostile("header is padded with NUL", raw(good + b"\0" * 8), broken)
    yield Hostile("header is padded with line ends", raw(good + b"\n" * 8), broken)
    yield Hostile("header is UTF-16", raw(good.decode().encode("utf-16")), broken)
    yield Hostile("header is not UTF-8", raw(good.replace(b"bias", b"bi\xff\xfe")), broken)
    yield Hostile("header with a comment", raw(b"{/* */" + good[1:]), broken)
    yield Hostile("two objects", raw(good + good), broken)
    yield Hostile("nested 100,000 deep", raw(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), broken)
    yield Hostile("lists nested 400,000 deep", raw(b'{"a":' + b"[" * 400_000 + b"]" * 400_000 + b"}"), broken)
    yield Hostile("a tensor twice", raw(good[:-1] + b',"layers.0.bias":' + json.dumps(BIAS).encode() + b"}"), broken)
    yield Hostile("a field twice", raw(good.replace(b'"dtype":"F32"', b'"dtype":"F32","dtype":"F32"', 1)), broken)
    yield Hostile("metadata is a list", two(__metadata__=[]), broken)
    yield Hostile("metadata holds a number", two(__metadata__={"a": 1}), broken)
    yield Hostile("metadata twice", raw(b'{"__metadata__":{},"__metadata__":{},' + good[1:]), broken)


def _rows() -> Iterator[Hostile]:
    broken = "not_safetensors"
    yield Hostile("row is a list", file({"layers.0.bias": [], "layers.0.weight": WEIGHT}), broken)
    yield Hostile("row is null", file({"layers.0.bias": None, "layers.0.weight": WEIGHT}), broken)
    yield Hostile("row without offsets", two(bias={"dtype": "F32", "shape": [1]}), broken)
    yield Hostile("row with a further field", two(bias={**BIAS, "url": "file:///etc/passwd"}), broken)
    yield Hostile("shape is a number", two(bias={**BIAS, "shape": 1}), broken)
    yield Hostile("shape is negative", two(bias={**BIAS, "shape": [-1]}), broken)
    yield Hostile("shape is twice negative", two(weight={**WEIGHT, "shape": [-1, -4]}), broken)
    yield Hostile("shape is a float", two(bias={**BIAS, "shape": [1.0]}), broken)
    yield Hostile("shape is true", two(bias={**BIAS, "shape": [True]}), broken)
    yield Hostile("shape is text", two(bias={**BIAS, "shape": ["1"]}), broken)
    yield Hostile("shape overflows 64 bits", two(weight={**WEIGHT, "shape": [2**33, 2**33]}), broken)
    yield Hostile(
        "shape of 5,000 digits",
        raw(b'{"a":{"dtype":"F32","shape":[1' + b"0" * 5000 + b'],"data_offsets":[0,4]}}'),
        broken,
    )
    yield Hostile("shape of 1,000 dimensions", two(bias={**BIAS, "shape": [1] * 1000}), broken)
    yield Hostile(
        "nothing of impossible size",
        two(more={"dtype": "F32", "shape": [0, 2**47, 2**47], "data_offsets": [20, 20]}),
        broken,
    )
    yield Hostile("offset is NaN", raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[NaN,4]}}'), broken)
    yield Hostile("offset is 1e1", raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4e0]}}'), broken)
    yield Hostile("offset is -Infinity", raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-Infinity,4]}}'), broken)
    yield Hostile("type is a list", two(bias={**BIAS, "dtype": ["F32"]}), "tensor_dtype")
    yield Hostile("type is unknown", two(bias={**BIAS, "dtype": "OBJECT"}), "tensor_dtype")
    yield Hostile("type in lower case", two(bias={**BIAS, "dtype": "f32"}), "tensor_dtype")


def _places() -> Iterator[Hostile]:
    broken = "not_safetensors"
    yield Hostile("tensors overlap", two(weight={**WEIGHT, "data_offsets": [0, 16]}), broken)
    yield Hostile("a hole between tensors", two(weight={**WEIGHT, "data_offsets": [8, 24]}), broken)
    yield Hostile("a hole in front", two({**BIAS, "data_offsets": [4, 8]}, {**WEIGHT, "data_offsets": [8, 24]}), broken)
    yield Hostile("offsets reversed", two(bias={**BIAS, "data_offsets": [4, 0]}), broken)
    yield Hostile("offsets beyond the file", two(weight={**WEIGHT, "data_offsets": [4, 2**40]}), broken)
    yield Hostile("offsets beyond 64 bits", two(weight={**WEIGHT, "data_offsets": [2**64, 2**64 + 16]}), broken)
    yield Hostile("offset is negative", two(bias={**BIAS, "data_offsets": [-4, 0]}), broken)
    yield Hostile("three offsets", two(bias={**BIAS, "data_offsets": [0, 4, 4]}), broken)
    yield Hostile("length is not the shape's", two(weight={**WEIGHT, "shape": [1, 3]}), broken)
    yield Hostile(
        "data hidden behind the tensors",
        file({"layers.0.bias": BIAS, "layers.0.weight": WEIGHT}, NUMBERS + b"#!/bin/sh\n"),
        broken,
    )


def _names() -> Iterator[Hostile]:
    code = "tensor_names"
    yield Hostile("name is empty", renamed(""), code)
    yield Hostile("name climbs folders", renamed("../../etc/cron.d/x"), code)
    yield Hostile("name is a path", renamed("/etc/passwd"), code)
    yield Hostile("name is a Windows path", renamed("C:\\x"), code)
    yield Hostile("name holds NUL", renamed("layers.0.weight\0"), code)
    yield Hostile("name holds a line end", renamed("layers.0.weight\n"), code)
    yield Hostile("name holds a terminal sequence", renamed("\x1b[2Jlayers"), code)
    yield Hostile("name is written right to left", renamed("layers.0.\u202ethgiew"), code)
    yield Hostile("name holds an invisible space", renamed("layers.0.weight\u200b"), code)
    yield Hostile("name holds half a character", renamed("layers.0.weight\ud800"), code)
    yield Hostile("name of 100,000 characters", renamed("a" * 100_000), code)


def _other_models() -> Iterator[Hostile]:
    """Files that are valid in themselves, but not this model's update."""
    yield Hostile("a look-alike name", renamed("layers.0.wеight"), "tensor_names", as_model=False)  # a Cyrillic е
    yield Hostile("another name", renamed("layers.0.weights"), "tensor_names", as_model=False)
    yield Hostile("name in upper case", renamed("LAYERS.0.WEIGHT"), "tensor_names", as_model=False)
    yield Hostile("a tensor missing", file({"layers.0.bias": BIAS}, NUMBERS[:4]), "tensor_names", as_model=False)
    extra = {"dtype": "F32", "shape": [1], "data_offsets": [20, 24]}
    rows = {"layers.0.bias": BIAS, "layers.0.weight": WEIGHT, "patients": extra}
    yield Hostile("a tensor too many", file(rows, NUMBERS + b"\0\0\0\0"), "tensor_names", as_model=False)
    nothing = {"dtype": "F32", "shape": [0], "data_offsets": [20, 20]}
    yield Hostile("an empty tensor too many", two(patients=nothing), "tensor_names", as_model=False)
    yield Hostile("weight transposed", two(weight={**WEIGHT, "shape": [4, 1]}), "tensor_shape", as_model=False)
    yield Hostile("weight flat", two(weight={**WEIGHT, "shape": [4]}), "tensor_shape", as_model=False)
    yield Hostile("bias a scalar", two(bias={**BIAS, "shape": []}), "tensor_shape", as_model=False)
    yield Hostile("integers instead", two(weight={**WEIGHT, "dtype": "I32"}), "tensor_dtype", as_model=False)
    half = {"dtype": "F16", "shape": [1, 4], "data_offsets": [4, 12]}
    yield Hostile(
        "half precision",
        file({"layers.0.bias": BIAS, "layers.0.weight": half}, NUMBERS[:12]),
        "tensor_dtype",
        as_model=False,
    )
    brain = {**half, "dtype": "BF16"}
    yield Hostile(
        "brain floats",
        file({"layers.0.bias": BIAS, "layers.0.weight": brain}, NUMBERS[:12]),
        "tensor_dtype",
        as_model=False,
    )
    first, second = {**WEIGHT, "data_offsets": [0, 16]}, {**BIAS, "data_offsets": [16, 20]}
    swapped = file({"layers.0.weight": first, "layers.0.bias": second})
    yield Hostile("another order", swapped, "tensor_order", as_model=False)
    yield Hostile("not padded as agreed", two(), "not_safetensors", as_model=False)
    yield Hostile("metadata of its own", two(__metadata__={"note": "x" * 1000}), "not_safetensors", as_model=False)


def _other_formats() -> Iterator[Hostile]:
    broken = "not_safetensors"
    # Opcodes that would call os.system; written by hand, so that nothing here can run them.
    call = b"cos\nsystem\n(S'touch /tmp/canary'\ntR."
    yield Hostile("a pickle", call, broken)
    yield Hostile("a pickle of protocol 4", b"\x80\x04\x95\x20\0\0\0\0\0\0\0" + call, broken)
    yield Hostile("a pickle behind a good header", GOOD[:-20] + call[:20] + call, broken)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("archive/data.pkl", call)
        written.writestr("archive/data/0", NUMBERS)
    yield Hostile("a torch archive", archive.getvalue(), broken)
    array = io.BytesIO()
    np.save(array, np.arange(5, dtype=np.float32))
    yield Hostile("a numpy file", array.getvalue(), broken)
    yield Hostile("a CSV of patients", b"age,weight,diagnosis\n" + b"63,81.5,1\n" * 50, broken)
    yield Hostile("JSON", json.dumps({"weights": [1, 2, 3]}).encode(), broken)
    yield Hostile("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + b"\0" * 100, broken)
    yield Hostile("zeros", bytes(len(GOOD)), broken)
    yield Hostile("text", b"PROC" * 50, broken)
    yield Hostile("HTML", b"<!doctype html><script>alert(1)</script>" * 4, broken)
    yield Hostile("ONNX", b"\x08\x07\x12\x07pytorch" + b"\0" * 200, broken)


def _values() -> Iterator[Hostile]:
    for name, value in (("NaN", np.nan), ("infinity", np.inf), ("minus infinity", -np.inf)):
        for place in (0, 2, 4):
            numbers = np.arange(1, 6, dtype="<f4")
            numbers[place] = value
            yield Hostile(f"{name} at {place}", GOOD[:-20] + numbers.tobytes(), "not_finite")


def _bombs() -> Iterator[Hostile]:
    broken = "not_safetensors"
    nothing = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    rows = b",".join(b'"%d":%s' % (number, nothing) for number in range(100_000))
    yield Hostile("100,000 empty tensors", raw(b"{" + rows + b"}", b""), broken)
    rows = b",".join(b'"%d":0' % number for number in range(60_000))
    yield Hostile("60,000 tensors in a small header", raw(b"{" + rows + b"}", b""), broken)
    yield Hostile("20 MB of metadata", two(__metadata__={"a": "x" * 20_000_000}), broken)
    yield Hostile(
        "a terabyte announced", two(weight={**WEIGHT, "shape": [1, 2**38], "data_offsets": [4, 4 + 2**40]}), broken
    )
