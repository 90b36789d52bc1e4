"""Downloads: a file in pieces, whole or from a byte on, without ever being in memory.

A piece is read in a thread while the one before is on its way out. `Range` lets a device continue after a cut, and the
ETag is the content's digest, so nobody continues another file by mistake.
"""

from __future__ import annotations

import asyncio
import os
import re
from urllib.parse import quote

from fedportal.door import replies, threads
from fedportal.door.hooks import DoorRequest, DownloadResolver, DownloadTicket
from fedportal.door.replies import Header, Receive, Send
from fedwire.errors import FedportalError

PIECE_BYTES = 1 << 20
# Files up to this length are read together with the question whether they may be.
SMALL_BYTES = 256 << 10
_RANGE = re.compile(r"bytes=(\d{1,15})?-(\d{1,15})?")


async def get(request: DoorRequest, resolver: DownloadResolver, receive: Receive, send: Send) -> None:
    """GET (and HEAD): 200 with the file, 206 with a part, 304 when the caller has it, 416 beyond its end."""
    ticket, content = await threads.ask(_resolve, request, resolver)
    headers = _headers(ticket)
    if request.headers.get("if-none-match") == f'"{ticket.etag}"':
        await replies.send_bytes(send, 304, b"", headers)
        return
    wanted = _range(request, ticket)
    if wanted is None:
        refusal = FedportalError("bad_request", reason=f"The file has {ticket.size} bytes only.")
        await replies.send_json(send, 416, refusal.body(), [(b"content-range", b"bytes */%d" % ticket.size)])
        return
    start, stop = wanted
    status = 200 if (start, stop) == (0, ticket.size) else 206
    if status == 206:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (start, stop - 1, ticket.size)))
    if content is not None and request.method != "HEAD":
        await replies.send_bytes(send, status, content[start:stop], headers)
        return
    headers.append((b"content-length", b"%d" % (stop - start)))
    await send({"type": "http.response.start", "status": status, "headers": [*replies.SAFE, *headers]})
    if request.method == "HEAD":
        await send({"type": "http.response.body", "body": b""})
    else:
        await _send_file(receive, send, ticket, start, stop)


def _resolve(request: DoorRequest, resolver: DownloadResolver) -> tuple[DownloadTicket, bytes | None]:
    """The ticket, and the content when it is small."""
    ticket = resolver(request)
    return ticket, (ticket.path.read_bytes() if ticket.size <= SMALL_BYTES else None)


def _headers(ticket: DownloadTicket) -> list[Header]:
    headers = [
        (b"content-type", ticket.content_type.encode("latin-1")),
        (b"etag", f'"{ticket.etag}"'.encode("latin-1")),
        (b"accept-ranges", b"bytes"),
    ]
    if ticket.filename:
        disposition = f"attachment; filename*=UTF-8''{quote(ticket.filename, safe='')}"
        headers.append((b"content-disposition", disposition.encode("ascii")))
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in ticket.headers.items()]
    return headers


def _range(request: DoorRequest, ticket: DownloadTicket) -> tuple[int, int] | None:
    """The first byte and the one behind the last; None when the file is shorter. What is not understood means all."""
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if_range = request.headers.get("if-range")
    if match is None or (if_range is not None and if_range != f'"{ticket.etag}"'):
        return 0, ticket.size
    first, last = match.groups()
    if first is None and last is None:
        return 0, ticket.size
    if first is None:
        start, stop = max(0, ticket.size - int(last)), ticket.size
    else:
        start, stop = int(first), min(int(last) + 1 if last is not None else ticket.size, ticket.size)
    return (start, stop) if start < stop else None


async def _send_file(receive: Receive, send: Send, ticket: DownloadTicket, start: int, stop: int) -> None:
    descriptor = await threads.work(os.open, ticket.path, os.O_RDONLY | os.O_CLOEXEC)
    gone = asyncio.ensure_future(_disconnected(receive))
    reading: asyncio.Future[bytes] = threads.work(_read, descriptor, start, stop)
    try:
        while start < stop and not gone.done():
            piece = await asyncio.shield(reading)
            start += len(piece)
            if start < stop:
                reading = threads.work(_read, descriptor, start, stop)
            await send({"type": "http.response.body", "body": piece, "more_body": start < stop})
    finally:
        gone.cancel()
        if not reading.done():
            await asyncio.wait([reading])
        os.close(descriptor)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _read(descriptor: int, start: int, stop: int) -> bytes:
    piece = os.pread(descriptor, min(PIECE_BYTES, stop - start), start)
    if not piece:
        raise FedportalError("internal", reference="a stored file is shorter than it should be")
    return piece
