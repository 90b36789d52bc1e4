"""Uploads: PUT continues at `Upload-Offset` to the end, HEAD says how much is there.

Who asks, whether they may and how long the body must be is known before its first byte is read. While the socket is
read, a thread checks and writes what came before; two pieces are in memory at most, of a megabyte for one upload alone
and of less where many come at once. The answer leaves after the file is synced and the upper floor has noted it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fedportal.door import parts, replies, threads
from fedportal.door.hooks import DoorRequest, UploadResolver, UploadTicket
from fedportal.door.parts import Busy, Part
from fedportal.door.replies import Receive, Send
from fedwire.errors import FedportalError

T = TypeVar("T")

# Bodies up to this length are read whole, checked and stored in one go.
SMALL_BYTES = 64 << 10
PIECE_BYTES = 1 << 20
LEAST_PIECE_BYTES = 128 << 10
# What is gathered of all uploads of this process together, until they are so many that each has the least.
GATHERED_BYTES = 4 << 20
# A sender slower than this after its grace is cut off; it may continue later.
GRACE_SECONDS = 10.0
LEAST_BYTES_PER_SECOND = 16 << 10
# How long to wait for another connection to let go of the same upload.
BUSY_SECONDS = 3.0
# Troubles on the way, which the sender mends by itself: they say nothing about what it sends.
PASSING = frozenset({"body_short", "digest_mismatch"})
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Cut(Exception):
    """The sender went away."""


@dataclass(frozen=True)
class Announcement:
    """What the request's headers say about the body."""

    length: int
    offset: int
    digest: str | None
    complete: bool  # whether the body reaches to the end of the upload

    def check(self, ticket: UploadTicket) -> None:
        """Raises `length_wrong` unless the body ends where the upload ends (or before, when it says so)."""
        total = self.offset + self.length
        if total == ticket.expected_bytes or (not self.complete and total < ticket.expected_bytes):
            return
        raise FedportalError("length_wrong", expected=ticket.expected_bytes, announced=total)


def announced(headers: Mapping[str, str]) -> Announcement:
    """Raises `length_missing` without a length, `field_invalid` for headers that cannot be meant."""
    if "content-length" not in headers or "transfer-encoding" in headers:
        raise FedportalError("length_missing")
    digest = headers.get("upload-digest")
    if digest is not None and not _SHA256.fullmatch(digest):
        raise FedportalError("field_invalid", field="Upload-Digest", reason="it is not a SHA-256 in hexadecimal.")
    return Announcement(
        length=natural(headers["content-length"], "Content-Length"),
        offset=natural(headers.get("upload-offset", "0"), "Upload-Offset"),
        digest=digest,
        complete=headers.get("upload-complete", "?1") != "?0",
    )


def natural(text: str, field: str) -> int:
    """A whole number of a header. Raises `field_invalid`."""
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise FedportalError("field_invalid", field=field, reason="it is not a whole number of at most 15 digits.")
    return int(text)


async def head(request: DoorRequest, resolver: UploadResolver, send: Send) -> None:
    """HEAD: how much of the upload is there. Whoever asks means to continue, so a connection that still writes, but
    is dead for all the device knows, lets go first; otherwise the answer would be out of date when it arrives."""
    ticket = await threads.ask(resolver, request)
    if (writing := _active.get(ticket.staging_name)) is not None:
        await writing._yield()
    stored = await threads.work(parts.stored_bytes, ticket)
    headers = [(b"upload-offset", b"%d" % stored), (b"upload-length", b"%d" % ticket.expected_bytes)]
    await replies.send_bytes(send, 200, b"", headers)


async def put(request: DoorRequest, resolver: UploadResolver, receive: Receive, send: Send) -> None:
    """PUT: the rest of the upload, or with `Upload-Complete: ?0` a piece of it."""
    upload = Upload(request, resolver, receive)
    try:
        stored, expected = await upload.run()
    except FedportalError as error:
        await replies.finish_error(send, receive, error, unread=upload.unread)
        await upload.tell_refused(error)
    except Cut:
        pass
    else:
        value, headers = {"stored": stored, "complete": stored == expected}, [(b"upload-offset", b"%d" % stored)]
        await replies.finish(send, receive, 200, value, headers, unread=upload.unread)


# The connection that writes each part in this process, so that a newer one can take over from a dead one.
_active: dict[str, Upload] = {}


class Upload:
    """One PUT."""

    def __init__(self, request: DoorRequest, resolver: UploadResolver, receive: Receive) -> None:
        self._request = request
        self._resolver = resolver
        self._receive = receive
        length = request.headers.get("content-length", "")
        self.unread = int(length) if re.fullmatch(r"[0-9]{1,15}", length) else 0
        self._ticket: UploadTicket | None = None
        self._superseded = False
        self._early: bytes | None = None  # the whole body, where it was read before it was known what it is
        self._task: asyncio.Task[object] | None = None
        self._let_go = asyncio.Event()

    async def run(self) -> tuple[int, int]:
        """Take the body in; how many bytes are stored now, and of how many. Raises FedportalError, or Cut."""
        said = announced(self._request.headers)
        if said.offset == 0 and said.length <= SMALL_BYTES:
            body = b"".join([message async for message in self._bodies()])
            if done := await self._patiently(lambda: threads.record(self._store_at_once, said, body)):
                return done
            self._early = body
        self._ticket = ticket = await threads.ask(self._resolver, self._request)
        if (done := _already(ticket, said)) is not None:
            return done
        part = await self._patiently(lambda: threads.work(parts.begin, ticket, said.offset), ticket.staging_name)
        return await self._stream(ticket, said, part)

    async def tell_refused(self, error: FedportalError) -> None:
        """Tell the upper floor of content that was refused. The sender has its answer and does not wait for this."""
        if self._ticket is None or self._ticket.on_refused is None or error.status != 400 or error.code in PASSING:
            return
        await threads.record(self._ticket.on_refused, error)

    def _store_at_once(self, said: Announcement, body: bytes) -> tuple[int, int] | None:
        """Everything about a small upload, in one thread and one go; None for one that takes long to measure."""
        self._ticket = ticket = self._resolver(self._request)
        if (done := _already(ticket, said)) is not None:
            return done
        if ticket.codec is not None and ticket.codec.late:
            return None
        if said.length == ticket.expected_bytes:
            return parts.store(ticket, body, said.digest).size, ticket.expected_bytes
        part = parts.begin(ticket, said.offset)
        keep = False
        try:
            part.feed([body])
            keep = True
            return part.stored, ticket.expected_bytes
        finally:
            part.close() if keep else part.discard()

    async def _stream(self, ticket: UploadTicket, said: Announcement, part: Part) -> tuple[int, int]:
        """Read the socket while a thread checks and writes; then seal. Refusals leave nothing, cuts leave the part."""
        keep = False
        try:
            await self._interruptibly(ticket.staging_name, self._feed(part))
            if part.stored == ticket.expected_bytes:
                stored = await _to_the_end(threads.work(part.seal, said.digest))
                await threads.record(ticket.on_stored, stored)
            keep = True
            return part.stored, ticket.expected_bytes
        except FedportalError as error:
            keep = error.code in ("body_short", "conflict")
            raise
        except (Cut, asyncio.CancelledError):
            keep = True
            raise
        finally:
            await _to_the_end(threads.work(part.close if keep else part.discard))
            self._let_go.set()

    async def _interruptibly(self, name: str, reading: Coroutine[Any, Any, None]) -> None:
        """Read, until a newer connection for the same part wants it; then raise `conflict`.

        Only reading is interrupted: whoever lets go of a part while a thread still works on it lets two write one file.
        """
        self._task = running = asyncio.current_task()
        assert running is not None, "an upload runs in a task"
        _active[name] = self
        try:
            await reading
        except asyncio.CancelledError:
            if not self._superseded:
                raise
            running.uncancel()
            raise FedportalError("conflict") from None
        finally:
            self._task = None
            if _active.get(name) is self:
                del _active[name]

    async def _feed(self, part: Part) -> None:
        pieces: list[bytes] = []
        gathered = 0
        writing: asyncio.Future[None] | None = None
        try:
            async for body in self._bodies():
                pieces.append(body)
                gathered += len(body)
                if writing is not None and writing.done():
                    writing.result()  # what is refused is refused now, not at the end of the body
                if gathered >= _piece_bytes() or not part.begun_well:
                    if writing is not None:
                        await asyncio.shield(writing)
                    writing, pieces, gathered = threads.work(part.feed, pieces), [], 0
                    if not part.begun_well:
                        await asyncio.shield(writing)  # a foreign header is refused before more is read
        finally:
            if writing is not None:
                await _to_the_end(writing)
            # What came before a cut is kept too, so that nobody has to send it again.
            if pieces:
                await _to_the_end(threads.work(part.feed, pieces))

    async def _bodies(self) -> AsyncIterator[bytes]:
        """The body's pieces as they come. Raises Cut, or `body_short` for a sender that is too slow."""
        if self._early is not None:
            yield self._early
            return
        began, came = time.monotonic(), 0
        while True:
            try:
                async with asyncio.timeout(GRACE_SECONDS):
                    message = await self._receive()
            except TimeoutError:
                raise self._too_slow() from None
            if message["type"] == "http.disconnect":
                raise Cut
            body = message.get("body", b"")
            came += len(body)
            self.unread -= len(body)
            if body:
                yield body
            if not message.get("more_body", False):
                self.unread = 0
                return
            seconds = time.monotonic() - began
            if seconds > GRACE_SECONDS and came < seconds * LEAST_BYTES_PER_SECOND:
                raise self._too_slow()

    def _too_slow(self) -> FedportalError:
        return FedportalError("body_short", unread=self.unread)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], name: str = "") -> T:
        """Repeat `attempt` while another connection writes the same part; take over from one in this process."""
        patience = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return await attempt()
            except Busy as busy:
                other = _active.get(name or str(busy))
                if other is not None:
                    await other._yield()
                elif time.monotonic() > patience:
                    raise FedportalError("unavailable") from None
                else:
                    await asyncio.sleep(0.02)

    async def _yield(self) -> None:
        """A newer connection wants the part: stop reading, keep what is stored, let go of it."""
        if self._task is not None and not self._superseded:
            self._superseded = True
            self._task.cancel()
        await self._let_go.wait()


def _piece_bytes() -> int:
    """So much of an upload is gathered before a thread takes it."""
    return max(LEAST_PIECE_BYTES, min(PIECE_BYTES, GATHERED_BYTES // max(len(_active), 1)))


async def _to_the_end(work: asyncio.Future[T]) -> T:
    """The result of a thread's work, which is waited for even when the waiting is cancelled."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


def _already(ticket: UploadTicket, said: Announcement) -> tuple[int, int] | None:
    """What to answer when the upload is complete already and this is a repetition; None when bytes are to be taken.

    Raises `length_wrong`, and `offset_mismatch` for who would continue what is complete.
    """
    whole = ticket.expected_bytes
    if ticket.stored_sha256 and (said.digest == ticket.stored_sha256 or (said.offset, said.length) == (whole, 0)):
        return whole, whole
    said.check(ticket)
    if ticket.stored_sha256 and said.offset:
        raise FedportalError("offset_mismatch", stored=whole, offset=said.offset)
    return None
