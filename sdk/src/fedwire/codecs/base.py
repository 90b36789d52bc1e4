"""What every codec has: a header known in advance, encoding, decoding by ranges, and checks while bytes pass."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fedwire.errors import FedportalError
from fedwire.headers import DTYPES, TensorSpec, check_same, parse_header, write_header
from fedwire.tensors import Float32

Bytes = NDArray[np.uint8]
# Takes the next whole numbers of one tensor, in order. Raises what is wrong with them.
Sink = Callable[[NDArray[Any]], None]

# Bytes that are given to a sink at once: of fixed places in the file, so that sums do not depend on how it was cut.
CHUNK = 1 << 16
# Numbers worked on at a time: a multiple of every block of every codec.
TILE = 1 << 16


class Codec(ABC):
    """Writes `numbers` float32 numbers into a file of exactly `nbytes` bytes that begins with `header`.

    The same numbers and the same draws give the same bytes. Decoding gives the same numbers whatever ranges are asked
    for, in whatever order.
    """

    name: ClassVar[str]
    # Whether the norm is known only when the whole file is there, and takes as long to compute as decoding.
    late: ClassVar[bool] = False

    def __init__(self, numbers: int, specs: Sequence[TensorSpec], own: Mapping[str, int]) -> None:
        self.numbers = numbers
        self.specs = tuple(specs)
        said = {"fedportal": "update", "codec": self.name, "numbers": str(numbers)}
        self.header = write_header(self.specs, {**said, **{name: str(value) for name, value in own.items()}})
        self.nbytes = len(self.header) + sum(spec.nbytes for spec in self.specs)

    @classmethod
    @abstractmethod
    def planned(cls, numbers: int, plan: Mapping[str, Any]) -> Self:
        """The codec with what `plan` says of it. Raises `codec_unusable`."""

    @abstractmethod
    def write(self, values: Float32, generator: np.random.Generator, parts: Sequence[NDArray[Any]]) -> None:
        """Fill `parts`, the file's tensors, with the finite numbers `values`. Raises `codec_overflow`."""

    @abstractmethod
    def read(self, parts: Sequence[NDArray[Any]], start: int, stop: int, out: Float32, state: Any) -> None:
        """Write the numbers [start, stop) into `out`; `state` is what `prepare` gave."""

    @abstractmethod
    def scan(self) -> Scan:
        """Checks for the bytes behind the header, to be fed as they come."""

    def prepare(self, parts: Sequence[NDArray[Any]]) -> Any:
        """What reading any range needs to know of the whole file. It is small and does not change."""
        return None

    def encode(self, values: Float32, generator: np.random.Generator) -> Bytes:
        """The file. Raises `not_finite`, and `codec_overflow` for numbers too large for the codec."""
        if not np.isfinite(values).all():
            raise FedportalError("not_finite")
        content = np.zeros(self.nbytes, np.uint8)
        content[: len(self.header)] = np.frombuffer(self.header, np.uint8)
        self.write(values, generator, self.parts(content))
        return content

    def decode(self, content: Bytes) -> Float32:
        """All the numbers of a file that was checked."""
        out = np.empty(self.numbers, np.float32)
        reader = Reader(self, content, self.prepare(self.parts(content)))
        for start in range(0, self.numbers, TILE):
            stop = min(start + TILE, self.numbers)
            reader.read(start, stop, out[start:stop])
        return out

    def parts(self, content: Bytes) -> list[NDArray[Any]]:
        """The file's tensors, as views. Raises `length_wrong`."""
        if len(content) != self.nbytes:
            raise FedportalError("length_wrong", expected=self.nbytes, announced=len(content))
        found, position = [], len(self.header)
        for spec in self.specs:
            view = content[position : position + spec.nbytes].view(DTYPES[spec.dtype])
            found.append(view.reshape(spec.shape))
            position += spec.nbytes
        return found

    def explain(self, head: bytes, total: int) -> None:
        """Raise what is wrong with a file that begins with `head`, which is not this codec's header."""
        found, _ = parse_header(head, total=total)
        try:
            check_same(found.tensors, self.specs)
        except FedportalError as error:
            raise unusable(f"this task takes updates encoded as {self.name}. {error.message}") from None
        raise unusable(f"its header is not the one that {self.name} writes")


class Reader:
    """The numbers of one encoded file, with what `prepare` found of it. Threads may share it."""

    def __init__(self, codec: Codec, content: Bytes, state: Any) -> None:
        self._codec = codec
        self._parts = codec.parts(content)
        self._state = state

    def read(self, start: int, stop: int, out: Float32) -> None:
        """Write the numbers [start, stop) into `out`."""
        self._codec.read(self._parts, start, stop, out, self._state)


class Scan:
    """Checks an encoded file's bytes behind the header, in pieces of any length, and measures what they stand for.

    A sink gets its tensor in chunks of fixed length, so the norm is the same to the bit however the pieces were cut.

    One sink for each tensor; after the last byte `norm` is the L2 norm of the decoded numbers. Where that cannot be
    known from the bytes as they pass, `measure` computes it from the whole file, and `norm` is None before.
    """

    def __init__(self, codec: Codec, sinks: Sequence[Sink], measure: Callable[[Bytes], float] | None = None) -> None:
        self._left = [(DTYPES[spec.dtype], spec.nbytes, sink) for spec, sink in zip(codec.specs, sinks, strict=True)]
        self._left = [row for row in self._left if row[1]]
        self._carry = bytearray()  # the beginning of the next chunk
        self._measure = measure
        self.squares = 0.0  # Σ x² of the decoded numbers so far

    @property
    def norm(self) -> float | None:
        """√(Σ x²); None where it has to be measured."""
        return math.sqrt(self.squares) if self._measure is None else None

    def measure(self, content: Bytes) -> float:
        """The norm of the whole file. It may take as long as decoding does."""
        return math.sqrt(self.squares) if self._measure is None else self._measure(content)

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes. Raises `not_finite`, `codec_unusable`."""
        while len(piece) and self._left:
            dtype, missing, sink = self._left[0]
            now, piece = piece[:missing], piece[missing:]
            self._left[0] = (dtype, missing - len(now), sink)
            self._pass(dtype, now, sink, last=missing == len(now))
            if missing == len(now):
                del self._left[0]

    def _pass(self, dtype: np.dtype[Any], now: memoryview, sink: Sink, last: bool) -> None:
        """Give whole chunks to the sink, and what is left at the tensor's end."""
        while len(now):
            wanted = CHUNK - len(self._carry)
            if not self._carry and len(now) >= CHUNK:
                sink(np.frombuffer(now[:CHUNK], dtype))
            else:
                self._carry += now[:wanted]
                if len(self._carry) == CHUNK:
                    self._give(dtype, sink)
            now = now[wanted:]
        if last and self._carry:
            self._give(dtype, sink)

    def _give(self, dtype: np.dtype[Any], sink: Sink) -> None:
        sink(np.frombuffer(bytes(self._carry), dtype))
        self._carry.clear()


def check_finite(values: NDArray[Any]) -> None:
    """Raises `not_finite`."""
    if not np.isfinite(values).all():
        raise FedportalError("not_finite")


def whole(plan: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """A whole number of a plan. Raises `codec_unusable`."""
    value = plan.get(name)
    if type(value) is not int or not low <= value <= high:
        raise unusable(f"{name} must be a whole number from {low} to {high}")
    return value


def unusable(reason: str) -> FedportalError:
    """The error that says why encoded content, or a plan, is refused."""
    return FedportalError("codec_unusable", reason=reason)
