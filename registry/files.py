"""Model files on their way into the store: read strictly, put into canonical order, hashed, stored.

Whatever order and header a valid safetensors file has, what is stored is the one spelling of `fedwire.tensors`: weights
sorted by name, then buffers. Files are copied in pieces, so memory does not grow with the model.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fedportal.common import blobs
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.tensors import DTYPES, FLOATING, MAX_HEADER, Manifest, TensorSpec, all_finite, check_same, parse_header

PIECE = 8 << 20  # bytes read at a time; a multiple of every element's size


@dataclass(frozen=True)
class StoredModel:
    """A canonical model file in the store. `digest` is over the tensor bytes only."""

    manifest: Manifest
    blob: str
    size: int
    digest: str


def read(path: Path) -> tuple[TensorSpec, ...]:
    """The tensors that the header of the safetensors file at `path` names, in file order. Raises `not_safetensors`."""
    found, _ = _parsed(path)
    return found


def store(path: Path, architecture: Architecture | None) -> StoredModel:
    """Check the safetensors file at `path` and store its canonical form.

    Integer tensors become buffers and floating ones weights; with an architecture its list decides, and the file must
    hold exactly its tensors. Raises `not_safetensors`, `tensor_…`, `not_finite` or `storage_full`; then nothing is
    stored. A file that is canonical already is moved, not copied; otherwise removing `path` is the caller's business.
    """
    specs, start = _parsed(path)
    manifest = _manifest(specs, architecture)
    offsets = dict(
        zip((spec.name for spec in specs), accumulate((s.nbytes for s in specs), initial=start), strict=False)
    )
    with open(path, "rb") as file:
        tensors: Iterator[Iterator[bytes]] = (_pieces(file, spec, offsets[spec.name]) for spec in manifest.tensors)
        if file.read(start) == manifest.model_header():
            return _adopt(path, manifest, tensors)
        return _write(manifest, tensors)


def store_arrays(manifest: Manifest, arrays: Mapping[str, NDArray[Any]]) -> StoredModel:
    """Store `arrays`, which are exactly the manifest's tensors in its types, as a model file."""
    return _write(manifest, (_array_pieces(arrays[spec.name]) for spec in manifest.tensors))


@lru_cache(maxsize=256)
def manifest_of(blob: str) -> Manifest:
    """The manifest that the header of a stored model file tells. Raises `not_safetensors`."""
    specs, _ = _parsed(blobs.path(blob))
    return Manifest.of(specs)


def digest_of(blob: str) -> str:
    """SHA-256 over the tensor bytes of a stored model file, read in pieces."""
    path = blobs.path(blob)
    _, start = _parsed(path)
    with open(path, "rb") as file:
        file.seek(start)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parsed(path: Path) -> tuple[tuple[TensorSpec, ...], int]:
    with open(path, "rb") as file:
        found, start = parse_header(file.read(MAX_HEADER + 8), total=os.fstat(file.fileno()).st_size)
    return found.tensors, start


def _manifest(specs: tuple[TensorSpec, ...], architecture: Architecture | None) -> Manifest:
    """What the file's tensors are to the model. Raises `tensor_…`."""
    if architecture is None:
        manifest = Manifest.of(replace(s, role="weight" if s.dtype in FLOATING else "buffer") for s in specs)
    else:
        manifest = architecture.manifest()
        check_same(tuple(sorted(specs, key=_place_in(manifest))), manifest.tensors)
    if not manifest.weights:
        raise FedportalError("tensor_names", reason="there is no tensor of floating-point numbers")
    return manifest


def _place_in(manifest: Manifest) -> Callable[[TensorSpec], tuple[int, str]]:
    place = {spec.name: index for index, spec in enumerate(manifest.tensors)}
    return lambda spec: (place.get(spec.name, len(place)), spec.name)


def _pieces(file: BinaryIO, spec: TensorSpec, offset: int) -> Iterator[bytes]:
    """The bytes of one tensor. Raises `not_finite`, and `not_safetensors` for a truth value that is neither 0 nor 1."""
    file.seek(offset)
    left = spec.nbytes
    while left:
        piece = file.read(min(PIECE, left))
        if not piece:
            raise FedportalError("not_safetensors", reason="it ends early")
        left -= len(piece)
        _check_values(spec, piece)
        yield piece


def _check_values(spec: TensorSpec, piece: bytes) -> None:
    values = np.frombuffer(piece, DTYPES["U8"] if spec.dtype == "BOOL" else DTYPES[spec.dtype])
    if spec.dtype == "BOOL" and len(values) and values.max() > 1:
        raise FedportalError("not_safetensors", reason=f"{spec.name!r} holds truth values other than 0 and 1")
    # A BF16 whose eight exponent bits are all set is infinite or NaN.
    finite = not ((values & 0x7F80) == 0x7F80).any() if spec.dtype == "BF16" else all_finite(values)
    if not finite:
        raise FedportalError("not_finite")


def _array_pieces(array: NDArray[Any]) -> Iterator[memoryview]:
    yield np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _adopt(path: Path, manifest: Manifest, tensors: Iterator[Iterator[bytes]]) -> StoredModel:
    """Make the canonical file at `path` a blob once all of it is checked and hashed."""
    whole, data = hashlib.sha256(manifest.model_header()), hashlib.sha256()
    for piece in chain.from_iterable(tensors):
        whole.update(piece)
        data.update(piece)
    blobs.adopt(path, whole.hexdigest())
    return StoredModel(manifest, whole.hexdigest(), manifest.model_bytes, data.hexdigest())


def _write(manifest: Manifest, tensors: Iterable[Iterable[bytes | memoryview]]) -> StoredModel:
    """Write header and tensors into a scratch file and make it a blob."""
    blobs.ensure_room(manifest.model_bytes)
    header = manifest.model_header()
    whole, data = hashlib.sha256(header), hashlib.sha256()
    scratch = blobs.scratch()
    try:
        with open(scratch, "wb") as out:
            out.write(header)
            for piece in chain.from_iterable(tensors):
                out.write(piece)
                whole.update(piece)
                data.update(piece)
        blobs.adopt(scratch, whole.hexdigest())
    finally:
        scratch.unlink(missing_ok=True)
    return StoredModel(manifest, whole.hexdigest(), manifest.model_bytes, data.hexdigest())
