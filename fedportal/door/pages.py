"""Django behind the door, as a WSGI application in a bounded pool of threads.

Django's own ASGI handler makes a thread for every request, and with it a fresh database connection, and hops between
the threads for every middleware. Here a thread is lent for the whole request and keeps its connection. What reaches it
has a short body of known length (`front` sees to that), so the body is read first, without a thread.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, NamedTuple

from fedportal.door.replies import Header, Receive, Scope, Send

THREADS = 8
# A response up to this length is made in one go; what is longer leaves in pieces.
PIECE_BYTES = 256 << 10
# How long the sender of a short body may take.
BODY_SECONDS = 30.0

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Begun(NamedTuple):
    """A response so far: its beginning, and where the rest comes from (None: there is none)."""

    status: int
    headers: list[Header]
    body: bytes
    rest: Iterator[bytes] | None
    close: Callable[[], object]


class Pages:
    """An ASGI application that runs a WSGI application in its threads."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(THREADS, "door-page")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(BODY_SECONDS):
            body = await _body(receive)
        if body is None:
            return
        begun = await loop.run_in_executor(self._threads, self._begin, environ(scope, body))
        await send({"type": "http.response.start", "status": begun.status, "headers": begun.headers})
        rest = begun.rest
        await send({"type": "http.response.body", "body": begun.body, "more_body": rest is not None})
        try:
            while rest is not None:
                piece, more = await loop.run_in_executor(self._threads, _gather, rest)
                await send({"type": "http.response.body", "body": piece, "more_body": more})
                rest = rest if more else None
        finally:
            if begun.rest is not None:
                await loop.run_in_executor(self._threads, begun.close)

    def _begin(self, environment: dict[str, Any]) -> Begun:
        said: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            said[:] = [int(status[:3]), [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in headers]]

        response = self._application(environment, start_response)
        close = getattr(response, "close", lambda: None)
        rest = iter(response)
        try:
            piece, more = _gather(rest)
        except BaseException:
            close()
            raise
        if not more:
            close()
        return Begun(said[0], said[1], piece, rest if more else None, close)


def _gather(pieces: Iterator[bytes]) -> tuple[bytes, bool]:
    """The next pieces together, and whether there may be more."""
    gathered, size = [], 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            return b"".join(gathered), True
    return b"".join(gathered), False


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when the sender went away."""
    pieces = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        pieces.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(pieces)


def environ(scope: Scope, body: bytes) -> dict[str, Any]:
    """The request as WSGI describes it."""
    server, client = scope.get("server") or ("localhost", 80), scope.get("client") or ("", 0)
    found: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": scope.get("root_path", ""),
        "PATH_INFO": scope["path"].encode("utf-8").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or 0),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in scope["headers"]:
        # With an underscore a header could pretend to be another one.
        if b"_" not in name and name not in (b"content-length", b"transfer-encoding"):
            _add_header(found, name.decode("latin-1"), value.decode("latin-1"))
    return found


def _add_header(found: dict[str, Any], name: str, value: str) -> None:
    key = "CONTENT_TYPE" if name == "content-type" else f"HTTP_{name.upper().replace('-', '_')}"
    if key in found:
        value = found[key] + ("; " if name == "cookie" else ",") + value
    found[key] = value
