"""Encoded updates for tests: codecs of any size, and files that are not what they claim."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedwire import codecs
from fedwire.codecs import Bytes, Codec, Float16, Int8, Sketch, TopK
from fedwire.errors import FedportalError
from fedwire.tensors import Float32


def generator(*seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(list(seed)))


def normal(numbers: int, seed: int = 0) -> Float32:
    return generator(seed).standard_normal(numbers, dtype=np.float32)


def every(numbers: int) -> list[Codec]:
    """One codec of every name that has a header of its own."""
    kept = max(1, numbers // 20)
    return [Float16(numbers), Int8(numbers), TopK(numbers, kept), Sketch(numbers, 3, max(1, numbers // 4), kept, 7)]


def admit(codec: Codec, content: bytes, pieces: int = 1 << 20) -> float:
    """What the door asks of an encoded file, in pieces of so many bytes; its norm."""
    if content[: len(codec.header)] != codec.header:
        codec.explain(content, len(content))
    if len(content) != codec.nbytes:
        raise FedportalError("length_wrong", expected=codec.nbytes, announced=len(content))
    scan, body = codec.scan(), memoryview(content)[len(codec.header) :]
    for start in range(0, len(body), pieces):
        scan.feed(body[start : start + pieces])
    return scan.measure(np.frombuffer(content, np.uint8))


@dataclass(frozen=True)
class Forged:
    """A file that is no update of `codec`, and the code that refuses it."""

    name: str
    codec: Codec
    content: bytes
    code: str


def forged() -> Iterator[Forged]:
    """Every way in which the numbers of an encoded file can be wrong."""
    yield from _of(Float16(50), "float16", {"nan": (0, 9, np.nan), "infinite": (0, 49, -np.inf)}, "not_finite")
    scales = {"nan": np.nan, "infinite": np.inf, "negative": -1.0, "minus zero": -0.0, "overflowing": 1e38}
    rows: dict[str, tuple[int, int, Any]] = {f"scale {name}": (0, 1, value) for name, value in scales.items()}
    yield from _of(Int8(3000), "int8", {**rows, "value -128": (1, 2999, -128)}, "codec_unusable")
    yield from _of(TopK(200_000, 100), "topk", _places(), "codec_unusable")
    yield from _of(TopK(200_000, 100), "topk", {"value nan": (3, 99, np.nan)}, "not_finite")
    yield from _of(
        Sketch(300, 3, 40, 5, 1), "sketch", {"nan": (0, (2, 39), np.nan), "inf": (0, (0, 0), np.inf)}, "not_finite"
    )
    yield from _headers()


def _places() -> dict[str, Any]:
    """What may be wrong with the places of 100 numbers of 200,000: three blocks of 65,536 and one of 3,392."""

    def swapped(parts: list[Any]) -> None:
        parts[2][[3, 4]] = parts[2][[4, 3]]

    def repeated(parts: list[Any]) -> None:
        parts[2][4] = parts[2][3]

    def outside(parts: list[Any]) -> None:
        parts[1][:] = [97, 0, 0, 3]
        parts[2][:] = [*range(97), 1, 2, 3392]

    def moved(parts: list[Any]) -> None:
        parts[1][:] = [0, 0, 0, 100]
        parts[2][:] = np.arange(65_436, 65_536)

    return {
        "scale nan": (0, 0, np.nan),
        "scale infinite": (0, 0, np.inf),
        "scale negative": (0, 0, -1.0),
        "a count too many": (1, 0, 2**32 - 1),
        "a count too few": (1, 0, 0),
        "more in a block than it has": lambda parts: parts[1].__setitem__(slice(None), [65_537, 0, 0, 0]),
        "unsorted": swapped,
        "repeated": repeated,
        "beyond the model's end": outside,
        "beyond the end by a block": moved,
        "value above the scale": (3, 0, 1.001),
    }


def _of(codec: Codec, name: str, wrongs: dict[str, Any], code: str) -> Iterator[Forged]:
    """`wrongs`: what is wrong → (tensor, place, value), or a function that changes the tensors."""
    good = codec.encode(normal(codec.numbers), generator(1))
    for what, wrong in wrongs.items():
        content = good.copy()
        change(codec.parts(content), wrong)
        yield Forged(f"{name}: {what}", codec, content.tobytes(), code)


def change(parts: list[Any], wrong: tuple[int, Any, Any] | Callable[[list[Any]], None]) -> None:
    if callable(wrong):
        wrong(parts)
    else:
        part, place, value = wrong
        parts[part][place] = value


def _headers() -> Iterator[Forged]:
    """Files of another codec, another size or another spelling under this one."""
    good, other = Int8(100), Float16(100)
    encoded = other.encode(normal(100), generator(1)).tobytes()
    yield Forged("another codec", good, encoded, "codec_unusable")
    smaller = TopK(100, 9).encode(normal(100), generator(1)).tobytes()
    yield Forged("fewer numbers kept", TopK(100, 10), smaller, "codec_unusable")
    seeded = Sketch(100, 3, 10, 5, 8).encode(normal(100), generator(1)).tobytes()
    yield Forged("another seed", Sketch(100, 3, 10, 5, 7), seeded, "codec_unusable")
    yield Forged("no header at all", good, b"", "not_safetensors")
    whole = good.encode(normal(100), generator(1)).tobytes()
    yield Forged("a byte too few", good, whole[:-1], "length_wrong")


def ranges(numbers: int) -> list[tuple[int, int]]:
    """Ranges that begin and end at, before and behind the borders of blocks and tiles."""
    edges = sorted({0, 1, 1023, 1024, 1025, codecs.TILE - 1, codecs.TILE, codecs.TILE + 1, numbers - 1, numbers})
    inside = [edge for edge in edges if 0 <= edge <= numbers]
    return [(low, high) for low in inside for high in inside if low < high <= low + codecs.TILE]


def part_of(codec: Codec, content: Bytes, start: int, stop: int) -> Float32:
    """The numbers [start, stop) as the aggregation reads them."""
    parts, out = codec.parts(content), np.full(stop - start, 9.0, np.float32)
    codec.read(parts, start, stop, out, codec.prepare(parts))
    return out
