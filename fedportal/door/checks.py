"""What is measured and refused while an upload's bytes pass: digest, header, finiteness, norm. Pure; one pass."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np

from fedwire.codecs import Bytes, Codec, Scan
from fedwire.errors import FedportalError
from fedwire.tensors import MAX_HEADER, Float32

# Sums are formed over rows of this many numbers: short enough for float32 to stay exact to about 1e-6, for the row to
# stay in the first cache, and for the library not to start threads of its own.
ROW = 8192
ROW_BYTES = 4 * ROW


class Floats:
    """The finiteness and L2 norm of little-endian float32 numbers that arrive in pieces of any length.

    Rows begin at fixed places, so the norm is the same to the bit however the pieces were cut: some strategies weigh
    updates by it.
    """

    def __init__(self) -> None:
        self._squares = 0.0
        self._row = bytearray()  # the beginning of the next row

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes. Raises `not_finite`."""
        if self._row:
            missing = ROW_BYTES - len(self._row)
            self._row += piece[:missing]
            piece = piece[missing:]
            if len(self._row) < ROW_BYTES:
                self._check_begun()
                return
            self._add(_numbers(self._row))
            self._row.clear()
        whole = len(piece) - len(piece) % ROW_BYTES
        if whole:
            self._add(np.frombuffer(piece[:whole], "<f4"))
        self._row += piece[whole:]
        self._check_begun()

    @property
    def norm(self) -> float:
        """√(Σ x²) of everything fed."""
        return math.sqrt(self._squares + _square(_numbers(self._row)))

    def _add(self, rows: Float32) -> None:
        for row, square in zip(rows.reshape(-1, ROW), squares(rows), strict=True):
            if math.isfinite(square):
                self._squares += square
            else:
                _check(row)
                self._squares += _square(row)

    def _check_begun(self) -> None:
        _check(_numbers(self._row))


def squares(values: Float32) -> list[float]:
    """Σ x² of each whole row, in float32; not finite when a number is not or when the row overflows."""
    rows = values.reshape(-1, ROW)
    with np.errstate(over="ignore", invalid="ignore"):
        found: list[float] = np.einsum("ij,ij->i", rows, rows).tolist()
    return found


def _numbers(content: bytearray) -> Float32:
    """The whole numbers in these bytes, copied."""
    return np.frombuffer(bytes(content[: len(content) - len(content) % 4]), "<f4")


def _square(values: Float32) -> float:
    """Σ x² of at most a row of finite numbers, in float64."""
    wide = values.astype(np.float64)
    return float(np.dot(wide, wide))


def _check(values: Float32) -> None:
    """Raises `not_finite`."""
    if not np.isfinite(values).all():
        raise FedportalError("not_finite")


class Checks:
    """Everything asked of an upload's bytes. `feed` them in order; it raises as soon as something is wrong.

    `header` is what the first bytes must be; when they are not, the whole header that did come (at most 1 MiB) goes to
    `explain(head, total)`, which raises what is wrong with it. Behind it lie float32 numbers, or what `codec` writes.
    """

    def __init__(
        self,
        *,
        total: int,
        header: bytes = b"",
        explain: Callable[[bytes, int], object] | None = None,
        float32_finite: bool = False,
        codec: Codec | None = None,
    ) -> None:
        self._sha = hashlib.sha256()
        self._total = total
        self._header = header
        self._explain = explain
        self._numbers = codec.scan() if codec is not None else Floats() if float32_finite else None
        self._head = b""  # what came of the header so far
        self._foreign = False  # it is not ours; more of it may be needed to say why
        self.seen = 0

    def feed(self, piece: bytes | memoryview) -> None:
        """Take the next bytes. Raises `not_finite`, `codec_unusable`, or what is wrong with the header."""
        view = memoryview(piece)
        self.seen += len(view)
        if self.seen > self._total:
            raise FedportalError("length_wrong", expected=self._total, announced=self.seen)
        self._sha.update(view)
        if len(self._head) < len(self._header) or self._foreign:
            view = self._take_header(view)
        if self._numbers is not None and len(view):
            self._numbers.feed(view)

    @property
    def storable(self) -> bool:
        """Whether nothing speaks against writing down what came so far."""
        return not self._foreign

    @property
    def header_seen(self) -> bool:
        """Whether the whole header came and is the expected one."""
        return not self._foreign and len(self._head) == len(self._header)

    @property
    def sha256(self) -> str:
        """Of everything fed, in hexadecimal."""
        return self._sha.hexdigest()

    @property
    def norm(self) -> float | None:
        """L2 norm of the numbers behind the header, if they were asked for and the bytes that passed tell it."""
        return self._numbers.norm if self._numbers is not None else None

    def measure(self, content: Callable[[], Bytes]) -> float | None:
        """The norm; from the whole file, which `content` gives, where the bytes that passed did not tell it."""
        if isinstance(self._numbers, Scan) and self._numbers.norm is None:
            return self._numbers.measure(content())
        return self.norm

    def _take_header(self, view: memoryview) -> memoryview:
        wanted = MAX_HEADER + 8 if self._foreign else len(self._header)
        room = wanted - len(self._head)
        self._head += bytes(view[:room])
        if not self._foreign and self._header.startswith(self._head):
            return view[room:]
        if not self._foreign:
            self._foreign = True
            self._head += bytes(view[room : MAX_HEADER + 8])
        self._say_what_is_wrong()
        return view[:0]

    def _say_what_is_wrong(self) -> None:
        """Raise once the foreign header is here as far as it can be read; until then nothing of it is stored."""
        head = self._head
        length = int.from_bytes(head[:8], "little") if len(head) >= 8 else 0
        if self.seen < self._total and (len(head) < 8 or (length <= MAX_HEADER and len(head) < 8 + length)):
            return
        if self._explain is not None:
            self._explain(head, self._total)
        raise FedportalError("not_safetensors", reason="its header is not the expected one")
