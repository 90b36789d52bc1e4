"""Other forms of a model file: which there are for a version, and how each is written. Runs in a worker.

A state_dict is written, never read: what was written is checked by comparing the bytes in its archive with the model's
tensors, without the reader that could run code. The forms that compute are in `registry.converting`.
"""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.formats import DESCRIBED, ENDINGS, NAMES, ONNX, STATE_DICT
from fedwire.tensors import DTYPES, MAX_HEADER, TensorSpec, parse_header
from registry.converting import ConversionFailed, onnx, torchscript

if TYPE_CHECKING:
    import torch


def canonical(name: str) -> str:
    """The form called `name`. Raises `format_unavailable`."""
    if name not in NAMES:
        raise FedportalError("format_unavailable", format=name[:40], available=", ".join(ENDINGS))
    return NAMES[name]


def possible(architecture: Mapping[str, Any] | None) -> list[str]:
    """The forms that a version with this described architecture, or with none, can be fetched in."""
    return [form for form in ENDINGS if architecture is not None or form not in DESCRIBED]


def write(form: str, source: Path, architecture: Mapping[str, Any] | None, target: Path) -> None:
    """Write the model file `source` in this form to `target`, and check it. Raises `ConversionFailed`."""
    if form == STATE_DICT:
        write_state_dict(source, target)
        return
    if architecture is None:
        raise ConversionFailed("the version has no described architecture")
    found = Architecture.parse(architecture)
    (onnx if form == ONNX else torchscript).write(source, found, target)


def write_state_dict(source: Path, target: Path) -> None:
    """Write the model file `source` as `torch.save` of a dict of tensors to `target`, and check what was written.

    Needs torch, which takes seconds to load. Raises `ConversionFailed`.
    """
    try:
        import torch  # noqa: PLC0415  # slow to load; the web process never comes here
    except ImportError as error:
        raise ConversionFailed("torch is not installed where the portal's jobs run") from error

    with open(source, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        found, start = parse_header(mapped[: MAX_HEADER + 8], total=len(mapped))
        places = _places(found.tensors, start)
        state = {spec.name: _tensor(torch, mapped, spec, offset) for spec, offset in places}
        # Into an open file: torch writes the name of a path into the archive, and twice must be the same bytes.
        with open(target, "wb") as out:
            torch.save(state, out)
        # The tensors are views into the mapping, which cannot be closed before they are gone.
        state.clear()
        _compare(target, mapped, places)


def _places(tensors: tuple[TensorSpec, ...], start: int) -> list[tuple[TensorSpec, int]]:
    places = []
    for spec in tensors:
        places.append((spec, start))
        start += spec.nbytes
    return places


def _tensor(torch: Any, mapped: mmap.mmap, spec: TensorSpec, offset: int) -> torch.Tensor:
    if not spec.size:  # an empty view would share its address with its neighbour, which torch.save refuses
        return torch.from_numpy(np.empty(spec.shape, DTYPES[spec.dtype])).view(_type(torch, spec))
    view = np.frombuffer(mapped, DTYPES[spec.dtype], count=spec.size, offset=offset)
    return torch.from_numpy(view).view(_type(torch, spec)).reshape(spec.shape)


def _type(torch: Any, spec: TensorSpec) -> Any:
    if spec.dtype == "BF16":
        return torch.bfloat16
    return torch.from_numpy(np.empty(0, DTYPES[spec.dtype])).dtype


def _compare(target: Path, mapped: mmap.mmap, places: list[tuple[TensorSpec, int]]) -> None:
    """Compare names and bytes in the archive with the model's. The n-th tensor of the dict is the record `data/n`."""
    with zipfile.ZipFile(target) as archive:
        records = {name.partition("/")[2]: name for name in archive.namelist()}
        table = archive.read(records["data.pkl"])
        position = 0
        for number, (spec, offset) in enumerate(places):
            # As it stands in the table: a four-byte length and the text.
            name = spec.name.encode()
            position = table.find(b"X" + len(name).to_bytes(4, "little") + name, position)
            if position < 0:
                raise ConversionFailed(f"the tensor {spec.name!r} is missing in what was written")
            if not _same_bytes(archive, records.get(f"data/{number}", ""), mapped, offset, spec.nbytes):
                raise ConversionFailed(f"the tensor {spec.name!r} differs in what was written")


def _same_bytes(archive: zipfile.ZipFile, record: str, mapped: mmap.mmap, offset: int, length: int) -> bool:
    if record not in archive.NameToInfo or archive.getinfo(record).file_size != length:
        return False
    with archive.open(record) as content:
        while piece := content.read(1 << 20):
            if piece != mapped[offset : offset + len(piece)]:
                return False
            offset += len(piece)
    return True
