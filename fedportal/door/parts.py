"""A part of an upload on disk: opened by one at a time, checked as it grows, made a blob when it is whole.

All functions here block on files and belong into the door's threads. What is refused leaves nothing behind; a cut
connection leaves the part, and whoever continues it has its bytes checked again from the first.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fedportal.common import blobs, faults
from fedportal.door.checks import Checks
from fedportal.door.hooks import Stored, UploadTicket
from fedwire.codecs import Bytes
from fedwire.errors import FedportalError

READ_BYTES = 1 << 20


class Busy(Exception):
    """Another connection is writing the part of this name."""


class Part:
    """An open, locked part. In the end call `close` (it stays) or `discard` (it goes)."""

    def __init__(self, ticket: UploadTicket, path: Path, descriptor: int) -> None:
        self._ticket = ticket
        self._path = path
        self._descriptor = descriptor
        self._checks = Checks(
            total=ticket.expected_bytes,
            header=ticket.header,
            explain=ticket.explain,
            float32_finite=ticket.float32_finite,
            codec=ticket.codec,
        )
        self._written = 0
        self._sealed = False

    @property
    def stored(self) -> int:
        """How many bytes are on disk."""
        return self._written

    @property
    def begun_well(self) -> bool:
        """Whether the header is there, and as it should be."""
        return self._checks.header_seen

    def feed(self, pieces: Iterable[bytes]) -> None:
        """Check the next bytes and write them down. Raises what is wrong with them."""
        for piece in pieces:
            self._checks.feed(piece)
            if self._checks.storable:
                _write_all(self._descriptor, piece, self._written)
                self._written += len(piece)
        if 0 < self._written < self._ticket.expected_bytes:
            faults.point("mid_upload")

    def resume(self, offset: int) -> None:
        """Continue at `offset`: check again what is stored. Offset 0 starts over. Raises `offset_mismatch`."""
        stored = os.fstat(self._descriptor).st_size
        if offset == 0:
            if stored:  # cutting an empty file makes its closing slow
                os.ftruncate(self._descriptor, 0)
            return
        if offset != stored:
            raise FedportalError("offset_mismatch", stored=stored, offset=offset)
        while self._written < stored:
            piece = os.pread(self._descriptor, READ_BYTES, self._written)
            self._checks.feed(piece)
            self._written += len(piece)

    def seal(self, announced: str | None) -> Stored:
        """Make the whole part a blob, or leave it in staging, synced. Raises `digest_mismatch`.

        Tell the upper floor afterwards.
        """
        sha256 = self._checks.sha256
        if any(wanted and wanted != sha256 for wanted in (announced, self._ticket.sha256)):
            raise FedportalError("digest_mismatch")
        norm = self._checks.measure(self._content)
        if self._ticket.adopt:
            blobs.adopt(self._path, sha256)
        else:
            os.fsync(self._descriptor)
        self._sealed = True
        faults.point("after_blob")
        return Stored(sha256, self._ticket.expected_bytes, norm)

    def _content(self) -> Bytes:
        """The whole part, mapped."""
        return np.frombuffer(mmap.mmap(self._descriptor, self._written, access=mmap.ACCESS_READ), np.uint8)

    def close(self) -> None:
        """Keep what is there for whoever continues; nothing when nothing came."""
        if not self._sealed and not os.fstat(self._descriptor).st_size:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def discard(self) -> None:
        """Leave nothing behind."""
        if not self._sealed:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def begin(ticket: UploadTicket, offset: int) -> Part:
    """Open the ticket's part for writing at `offset`.

    Raises Busy when someone else writes it, `offset_mismatch`, `storage_full`, and what is wrong with the bytes that
    are stored; in that last case the part is gone.
    """
    blobs.ensure_room(ticket.expected_bytes - offset)
    path = blobs.staging(ticket.staging_name)
    part = Part(ticket, path, _locked(path))
    try:
        part.resume(offset)
    except FedportalError as error:
        if error.code == "offset_mismatch":
            part.close()
        else:
            part.discard()
        raise
    except BaseException:
        part.close()
        raise
    return part


def store(ticket: UploadTicket, content: bytes, sha256: str | None) -> Stored:
    """Check, store and tell of an upload that is there as a whole; what is refused leaves nothing.

    Raises `length_wrong`, `digest_mismatch`, what is wrong with the bytes, Busy when another connection writes it, and
    what `on_stored` raises.
    """
    if len(content) != ticket.expected_bytes:
        raise FedportalError("length_wrong", expected=ticket.expected_bytes, announced=len(content))
    part = begin(ticket, 0)
    keep = False
    try:
        part.feed([content])
        stored = part.seal(sha256)
        ticket.on_stored(stored)
        keep = True
        return stored
    finally:
        part.close() if keep else part.discard()


def stored_bytes(ticket: UploadTicket) -> int:
    """How much of the ticket's upload is there."""
    if ticket.stored_sha256:
        return ticket.expected_bytes
    try:
        return blobs.staging(ticket.staging_name).stat().st_size
    except FileNotFoundError:
        return 0


def _locked(path: Path) -> int:
    """A descriptor of the file at `path`, locked against this and every other process."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise Busy(path.name) from None
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # it was finished or refused between the opening and the lock


def _write_all(descriptor: int, piece: bytes, position: int) -> None:
    view = memoryview(piece)
    try:
        while view:
            written = os.pwrite(descriptor, view, position)
            view, position = view[written:], position + written
    except OSError as error:
        raise FedportalError("storage_full") from error
