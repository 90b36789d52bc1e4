"""A device's update on its way in: checked while it comes, kept where it broke off, on disk when it is acknowledged.

The checks are those of the portal: the header must be the model's to the byte, the numbers finite, the length and the
SHA-256 the announced ones. Nothing is ever unpickled. What is refused leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fedwire.codecs import Plain
from fedwire.errors import FedportalError
from fedwire.headers import MAX_HEADER
from fedwire.tensors import Manifest, check_update_header

BLOCK = 1 << 20
# How long to wait for another connection to let go of the same upload.
BUSY_SECONDS = 5.0


class Incoming:
    """The bytes of one update in order, checked as they come."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._header = manifest.update_header()
        self._scan = Plain(manifest).scan()
        self._sha = hashlib.sha256()
        self._head = b""  # the header as far as it came
        self._foreign = False
        self.seen = 0

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes. Raises `length_wrong`, `not_finite`, or what is wrong with the header."""
        self.seen += len(piece)
        if self.seen > self._manifest.update_bytes:
            raise FedportalError("length_wrong", expected=self._manifest.update_bytes, announced=self.seen)
        self._sha.update(piece)
        if self._foreign or len(self._head) < len(self._header):
            piece = self._take_header(piece)
        self._scan.feed(piece)

    @property
    def storable(self) -> bool:
        """Whether nothing speaks against writing down what came so far."""
        return not self._foreign

    @property
    def sha256(self) -> str:
        """Of everything fed, in hexadecimal."""
        return self._sha.hexdigest()

    def _take_header(self, piece: memoryview) -> memoryview:
        """What of the piece lies behind the header. A foreign header is gathered until it can be said what it is."""
        wanted = MAX_HEADER + 8 if self._foreign else len(self._header)
        room = wanted - len(self._head)
        self._head += bytes(piece[:room])
        if not self._foreign and self._header.startswith(self._head):
            return piece[room:]
        if not self._foreign:
            self._foreign = True
            self._head += bytes(piece[room : MAX_HEADER + 8])
        length = int.from_bytes(self._head[:8], "little") if len(self._head) >= 8 else 0
        total = self._manifest.update_bytes
        if self.seen < total and (len(self._head) < 8 or (length <= MAX_HEADER and len(self._head) < 8 + length)):
            return piece[:0]
        check_update_header(self._head, self._manifest, total=total)
        raise FedportalError("not_safetensors", reason="its header is not the expected one")


class Desk:
    """The uploads in work. A newer connection for the same file takes over from one that may be dead."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writing: dict[Path, tuple[threading.Event, Callable[[], None]]] = {}

    @contextmanager
    def writing(self, path: Path, cut: Callable[[], None]) -> Iterator[None]:
        """Be the only one who writes the file; `cut` ends this connection when a newer one comes.

        Raises `unavailable` when the one before does not let go, and leaves it to the next who comes.
        """
        done = threading.Event()
        with self._lock:
            before = self._writing.get(path)
            self._writing[path] = (done, cut)
        try:
            if before is not None and not _ended(before):
                raise FedportalError("unavailable")
            yield
        finally:
            with self._lock:
                if self._writing.get(path, (None,))[0] is done:
                    del self._writing[path]
                    if before is not None and not before[0].is_set():
                        self._writing[path] = before
            done.set()

    def settle(self, path: Path) -> None:
        """Whoever asks how much is there means to continue: end the connection that still writes."""
        with self._lock:
            before = self._writing.get(path)
        if before is not None:
            _ended(before)


def _ended(before: tuple[threading.Event, Callable[[], None]]) -> bool:
    """Cut an earlier connection, and wait until it has let go; whether it has."""
    done, cut = before
    cut()
    return done.wait(BUSY_SECONDS)


def stored_bytes(path: Path) -> int:
    """How much of the upload is there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def receive(path: Path, manifest: Manifest, offset: int, pieces: Iterator[bytes], announced: str | None) -> str | None:
    """Write the pieces from `offset` on; the file's SHA-256 once it is whole and synced, None before.

    What an iterator that raises gave before stays. Raises `offset_mismatch`, `task_closed` where the round is over,
    `digest_mismatch` and what is wrong with the content; after the last two nothing stays.
    """
    stored = stored_bytes(path)
    if offset not in (0, stored):
        raise FedportalError("offset_mismatch", stored=stored, offset=offset)
    incoming = Incoming(manifest)
    flags = os.O_RDWR | os.O_CREAT | (0 if offset else os.O_TRUNC)
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:  # the round ended a moment ago, and its folder with it
        raise FedportalError("task_closed", state="expired") from None
    with open(descriptor, "r+b", buffering=0) as file:
        try:
            while incoming.seen < offset:
                incoming.feed(memoryview(file.read(min(BLOCK, offset - incoming.seen))))
            for piece in pieces:
                incoming.feed(memoryview(piece))
                if incoming.storable:
                    _write(file.fileno(), piece)
            if incoming.seen < manifest.update_bytes:
                return None
            if announced is not None and announced != incoming.sha256:
                raise FedportalError("digest_mismatch")
            os.fsync(file.fileno())
        except FedportalError as error:
            if error.code not in ("body_short", "conflict", "storage_full"):
                path.unlink(missing_ok=True)
            raise
    return incoming.sha256


def _write(descriptor: int, piece: bytes) -> None:
    view = memoryview(piece)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise FedportalError("storage_full") from error
