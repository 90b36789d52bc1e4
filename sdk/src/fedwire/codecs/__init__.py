"""Codecs: how an update is written in fewer bytes. Both ends use this one spelling.

A codec is made of a run's plan and the model's manifest. From then on everything but the numbers is known: the header,
the place of every byte and the exact length, so the door refuses another length before the first byte. The file is a
safetensors file like every other; nothing in it is ever executed or unpickled.

| name      | what travels                                                        | bytes for P numbers         |
|-----------|---------------------------------------------------------------------|-----------------------------|
| `none`    | float32                                                             | 4·P                         |
| `float16` | each number rounded to the nearest half                             | 2·P                         |
| `int8`    | whole numbers from -127 to 127, a float32 scale for each 1024       | P + 4·⌈P/1024⌉              |
| `topk`    | the k numbers of the largest magnitude, as halves with their places | 4·k + 4·⌈P/65536⌉ + 4       |
| `sketch`  | a count sketch, of which the k heaviest numbers are read back       | 4·rows·columns              |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedwire.codecs.base import TILE, Bytes, Codec, Reader, Scan
from fedwire.codecs.plain import Float16, Int8, Plain
from fedwire.codecs.sketch import MOST_COLUMNS, MOST_ROWS, Sketch
from fedwire.codecs.topk import TopK
from fedwire.errors import FedportalError
from fedwire.headers import parse_metadata
from fedwire.tensors import Manifest

__all__ = [
    "ABILITIES",
    "MOST_COLUMNS",
    "MOST_ROWS",
    "NAMES",
    "NONE",
    "READ_BACK",
    "TILE",
    "Bytes",
    "Codec",
    "Float16",
    "Int8",
    "Plain",
    "Reader",
    "Scan",
    "Sketch",
    "TopK",
    "ability",
    "draws",
    "of",
    "of_header",
]

NONE = "none"
_CODECS: Mapping[str, type[Codec]] = {codec.name: codec for codec in (Float16, Int8, TopK, Sketch)}
# Sets these draws apart from those that order the rows, whose third word is the epoch.
_DRAWS = 1 << 31
_ENCODED = b'{"__metadata__":{"fedportal":"update","codec":'
NAMES: tuple[str, ...] = (NONE, *_CODECS)


def ability(name: str) -> str:
    """What a task requires of a device, in `training["requires"]`, so that it can encode with the codec `name`."""
    return f"codec.{name}"


# What a task requires besides, where a device moves a vector that it keeps by its update: that it does so by the update
# as the portal reads it.
READ_BACK = ability("read_back")
ABILITIES: frozenset[str] = frozenset((*(ability(name) for name in _CODECS), READ_BACK))


def draws(seed: int, number: int) -> np.random.Generator:
    """What a device draws when it encodes its update of round `number`: the same for another attempt."""
    return np.random.Generator(np.random.PCG64([seed, number, _DRAWS]))


def of(plan: Mapping[str, Any] | None, manifest: Manifest) -> Codec:
    """The codec of a run's plan ({"name": …, whole numbers}; None is `none`). Raises `codec_unusable`."""
    name = (plan or {}).get("name", NONE)
    if name == NONE:
        return Plain(manifest)
    return _made(name, manifest.parameters, plan or {})


def of_header(header: bytes) -> Codec | None:
    """The codec that wrote this header; None when it is that of a plain update. Raises `codec_unusable`."""
    if not header[8:].startswith(_ENCODED):  # the list of a large model's tensors is not read for nothing
        return None
    said = parse_metadata(header)
    try:
        numbers = {name: int(text) for name, text in said.items() if name not in ("fedportal", "codec")}
        codec = _made(said["codec"], numbers.pop("numbers"), numbers)
    except (KeyError, ValueError):
        raise FedportalError("codec_unusable", reason="the header does not describe it") from None
    if codec.header != header:
        raise FedportalError("codec_unusable", reason="the header is not written the canonical way")
    return codec


def _made(name: Any, numbers: int, plan: Mapping[str, Any]) -> Codec:
    if name not in _CODECS:
        raise FedportalError("codec_unusable", reason=f"there is no codec {str(name)[:40]!r}")
    return _CODECS[name].planned(numbers, plan)
