"""PNG files as numbers, with the standard library: grey, colour and palettes of 8 bits, as most programs write them.

The size must be the model's and is checked before anything is unpacked, and no more than that size is unpacked: a small
file cannot become a large one.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fedwire.errors import FedportalError

PREFIX = "data:image/png;base64,"
SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Colour type → numbers for each point.
PLANES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# What a colour counts in grey (ITU-R BT.601).
GREY = np.array([0.299, 0.587, 0.114])
Bytes = NDArray[np.uint8]


def decoded(url: str, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """The picture in a data URL as [channels, height, width] in 0 … 255, its transparency left out.

    `shape` is what the model takes: colours become grey for one channel, grey is repeated for three. Raises
    `picture_unusable`.
    """
    if not url[: len(PREFIX)].lower() == PREFIX:
        raise _unusable(f"it does not begin with {PREFIX}")
    try:
        content = base64.b64decode(url[len(PREFIX) :].strip(), validate=True)
    except (binascii.Error, ValueError):
        raise _unusable("its base64 is damaged") from None
    points = _points(content, shape[1], shape[2])
    planes = points.shape[2]
    if planes in (2, 4):
        points = points[:, :, :-1]
    if shape[0] == 1 and points.shape[2] == 3:
        points = (points @ GREY)[:, :, None]
    if shape[0] == 3 and points.shape[2] == 1:
        points = np.repeat(points, 3, axis=2)
    if points.shape[2] != shape[0]:
        raise _unusable(f"it has {points.shape[2]} channels and the model takes {shape[0]}")
    return np.ascontiguousarray(points.transpose(2, 0, 1), dtype=np.float64)


def _points(content: bytes, height: int, width: int) -> NDArray[np.float64]:
    """[height, width, planes], a palette looked up."""
    if content[:8] != SIGNATURE:
        raise _unusable("it is no PNG file")
    head, palette, packed = b"", b"", []
    for kind, data in _chunks(content):
        if kind == b"IHDR":
            head = data
        elif kind == b"PLTE":
            palette = data
        elif kind == b"IDAT":
            packed.append(data)
    if len(head) != 13:
        raise _unusable("its head is missing")
    wide, high, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", head)
    if (high, wide) != (height, width):
        raise _unusable(f"it is {wide} × {high} points and the model takes {width} × {height}")
    if bits != 8 or colour not in PLANES or interlaced:
        raise _unusable("only 8 bits a channel without interlacing are read")
    lines = _unpacked(b"".join(packed), height, width * PLANES[colour])
    found = _unfiltered(lines, PLANES[colour]).reshape(height, width, PLANES[colour])
    if colour != 3:
        return found.astype(np.float64)
    colours = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
    if not len(colours) or int(found.max()) >= len(colours):
        raise _unusable("its palette is too short")
    return colours[found[:, :, 0]].astype(np.float64)


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        if place + 12 + length > len(content):
            break
        yield content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        place += 12 + length


def _unpacked(packed: bytes, height: int, line: int) -> Bytes:
    """The lines [height, 1 + line], each with the number of its filter before it."""
    wanted = height * (line + 1)
    try:
        plain = zlib.decompressobj().decompress(packed, wanted)
    except zlib.error:
        raise _unusable("its data are damaged") from None
    if len(plain) != wanted:
        raise _unusable("its data are too short")
    return np.frombuffer(plain, np.uint8).reshape(height, line + 1)


def _unfiltered(lines: Bytes, step: int) -> Bytes:
    """The bytes [height, line] that the filters of PNG (specification, chapter 9) were applied to."""
    found = np.zeros((len(lines), lines.shape[1] - 1), np.uint8)
    above = np.zeros(lines.shape[1] - 1, np.uint8)
    for number, line in enumerate(lines):
        kind, values = int(line[0]), line[1:]
        if kind == 0:
            found[number] = values
        elif kind == 1:
            found[number] = np.cumsum(values.reshape(-1, step), axis=0, dtype=np.uint8).reshape(-1)
        elif kind == 2:
            found[number] = values + above
        elif kind in (3, 4):
            found[number] = _from_left(values.tolist(), above.tolist(), step, mean=kind == 3)
        else:
            raise _unusable("it has a filter that PNG does not know")
        above = found[number]
    return found


def _from_left(values: list[int], above: list[int], step: int, *, mean: bool) -> list[int]:
    """The filters Average and Paeth, in which each byte needs the one before it."""
    line = [0] * len(values)
    for place, value in enumerate(values):
        left = line[place - step] if place >= step else 0
        up = above[place]
        if mean:
            guess = (left + up) // 2
        else:
            corner = above[place - step] if place >= step else 0
            by_left, by_up, by_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
            guess = left if by_left <= by_up and by_left <= by_corner else up if by_up <= by_corner else corner
        line[place] = (value + guess) & 255
    return line


def _unusable(reason: str) -> FedportalError:
    return FedportalError("picture_unusable", reason=reason)
