"""HTTP as an edge speaks it: the standard library's server, with limits to whatever a sender could draw out.

A thread for each connection is enough for the hundreds of devices of one organization. Heads, bodies and idle
connections have their time; there are so many connections and no more; a refused body is thrown away, not kept.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import secrets
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fedwire.errors import FedportalError
from fedwire.version import VERSION

log = logging.getLogger("fedportal")

IDLE_SECONDS = 75.0  # longer than a device waits for a task
BODY_SECONDS = 15.0
HANDSHAKE_SECONDS = 10.0
# A sender slower than this after its grace is cut off; it may continue later.
GRACE_SECONDS = 10.0
LEAST_BYTES_PER_SECOND = 16 << 10
JSON_BYTES = 256 << 10
PIECE_BYTES = 1 << 20
DRAIN_BYTES, DRAIN_SECONDS = 8 << 20, 2.0
END_SECONDS = 5.0  # for what is being answered when the edge stops
MOST_CONNECTIONS = 1000


class Clocked(io.RawIOBase):
    """What a socket receives, until a deadline that may be moved."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = time.monotonic() + IDLE_SECONDS

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises TimeoutError at the deadline."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class Connection(BaseHTTPRequestHandler):
    """One connection; a subclass answers its requests in `serve`."""

    protocol_version = "HTTP/1.1"
    server_version = f"fedportal-edge/{VERSION}"
    sys_version = ""
    disable_nagle_algorithm = True
    json_bytes = JSON_BYTES

    def setup(self) -> None:
        """Put the clock into what is read."""
        super().setup()
        self.clock = Clocked(self.connection)
        self.rfile = io.BufferedReader(self.clock, 1 << 16)
        self.unread = 0

    def handle_one_request(self) -> None:
        """One request, for which the time begins now."""
        self.clock.deadline = time.monotonic() + IDLE_SECONDS
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            super().handle_one_request()
            return
        self.close_connection = True

    def serve(self) -> None:
        """Answer the request. A `FedportalError` that is raised is the answer."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Any request."""
        try:
            self.unread = self._announced()
            self.serve()
            self._drain()
        except FedportalError as error:
            self.refuse(error)
        except (ConnectionError, TimeoutError, ssl.SSLError):
            self.close_connection = True
        except Exception:
            reference = secrets.token_hex(4)
            log.exception("reference %s at %s", reference, self.path)
            self.refuse(FedportalError("internal", reference=reference))

    do_HEAD = do_POST = do_PUT = do_GET

    # -- what came

    @property
    def token(self) -> str:
        """The key in `Authorization: Bearer …`, "" without one."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    def json(self) -> dict[str, Any]:
        """The object in the body. Raises `bad_request`, `body_too_large`, `body_short`."""
        body = self.body()
        try:
            value = json.loads(body) if body.strip() else {}
        except (ValueError, RecursionError) as error:
            raise FedportalError("bad_request", reason="The body is not JSON.") from error
        if not isinstance(value, dict):
            raise FedportalError("bad_request", reason="The body is not a JSON object.")
        return value

    def body(self) -> bytes:
        """The whole short body."""
        if self.unread > self.json_bytes:
            raise FedportalError("body_too_large", limit=self.json_bytes)
        self.clock.deadline = time.monotonic() + BODY_SECONDS
        try:
            found = self.rfile.read(self.unread)
        except TimeoutError:
            raise FedportalError("body_late") from None
        if len(found) < self.unread:
            raise FedportalError("body_short", unread=self.unread - len(found))
        self.unread = 0
        return found

    def pieces(self) -> Iterator[bytes]:
        """A long body as it comes. Raises `body_short` for a sender that is too slow, or goes away."""
        began, came = time.monotonic(), 0
        while self.unread:
            self.clock.deadline = time.monotonic() + GRACE_SECONDS
            try:
                piece = self.rfile.read1(min(PIECE_BYTES, self.unread))
            except (TimeoutError, OSError):
                piece = b""
            seconds = time.monotonic() - began
            if not piece or (seconds > GRACE_SECONDS and came < seconds * LEAST_BYTES_PER_SECOND):
                self.close_connection = True
                raise FedportalError("body_short", unread=self.unread)
            came += len(piece)
            self.unread -= len(piece)
            yield piece

    def is_gone(self) -> bool:
        """Whether the device closed the connection while it waited."""
        if isinstance(self.connection, ssl.SSLSocket) or not select.select([self.connection], [], [], 0)[0]:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def cut(self) -> None:
        """End the connection, from any thread."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.connection, socket.SHUT_RDWR)

    # -- what leaves

    def give(self, status: int, value: Any = None, headers: Mapping[str, str] | None = None) -> None:
        """A JSON answer, or none."""
        content = b"" if value is None else json.dumps(value, separators=(",", ":")).encode()
        self.begin(status, len(content), {"Content-Type": "application/json", **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(content)

    def give_file(self, path: Path, digest: str) -> None:
        """A file, from the byte that `Range` names."""
        with open(path, "rb") as file:
            size = path.stat().st_size
            start, stop = _range(self.headers.get("Range", ""), size)
            headers = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
            if start >= stop and size:
                self.begin(416, 0, {"Content-Range": f"bytes */{size}"})
                return
            if (start, stop) != (0, size):
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            self.begin(200 if (start, stop) == (0, size) else 206, stop - start, headers)
            if self.command == "HEAD":
                return
            self.connection.settimeout(IDLE_SECONDS)
            self.connection.sendfile(file, start, stop - start)

    def begin(self, status: int, length: int, headers: Mapping[str, str]) -> None:
        """Status and headers. A body that was not read must not be taken for the next request."""
        if self.unread:
            self.close_connection = True
        self.connection.settimeout(IDLE_SECONDS)
        self.send_response(status)
        for name, value in {"Cache-Control": "no-store", **headers}.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def refuse(self, error: FedportalError) -> None:
        """Answer with the error; what is still to come of the body is thrown away for a moment."""
        headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
        if error.status == 503:
            headers["Retry-After"] = "1"
        if isinstance(error.context.get("stored"), int):
            headers["Upload-Offset"] = str(error.context["stored"])
        with contextlib.suppress(OSError):
            self.give(error.status, error.body(), headers)
            self._drain()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what matters is logged by whoever knows what it means."""

    def _announced(self) -> int:
        """The length of the body. Raises `length_missing`, and `field_invalid` for what is no length, or two."""
        said = self.headers.get_all("Content-Length", [])
        if "Transfer-Encoding" in self.headers or (not said and self.command in ("PUT", "POST")):
            self.close_connection = True
            raise FedportalError("length_missing")
        length = said[0] if said else "0"
        if len(said) > 1 or not length.isascii() or not length.isdigit() or len(length) > 15:
            self.close_connection = True
            raise FedportalError("field_invalid", field="Content-Length", reason="it is not a whole number.")
        return int(length)

    def _drain(self) -> None:
        """Closing on a sender that is still sending would destroy the answer on its way."""
        self.clock.deadline, left = time.monotonic() + DRAIN_SECONDS, min(self.unread, DRAIN_BYTES)
        while left > 0 and (piece := self.rfile.read1(min(PIECE_BYTES, left))):
            left -= len(piece)


class Server(ThreadingHTTPServer):
    """Listens at `host` and `port`; with a `context` it speaks TLS. Tell it what answers by `handler`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, host: str, port: int, handler: type[Connection], context: ssl.SSLContext | None = None) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._context = context
        self._room = threading.Semaphore(MOST_CONNECTIONS)
        self._connections: set[socket.socket] = set()
        self._ended = False
        super().__init__((host, port), handler)

    @property
    def url(self) -> str:
        """Where devices find it, if they are on this machine or the host is a public name."""
        host, port = self.server_address[0], self.server_address[1]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"{'https' if self._context else 'http'}://{shown}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread of its own, while there is room; beyond that connections are closed at once."""
        if not self._room.acquire(blocking=False):
            self.close_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Give the room back at the end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """The handshake, which may take its time, and then the requests."""
        if self._context is not None:
            request.settimeout(HANDSHAKE_SECONDS)
            request = self._context.wrap_socket(request, server_side=True)
        self._connections.add(request)
        try:
            if not self._ended:
                super().finish_request(request, client_address)
        finally:
            self._connections.discard(request)
            if self._context is not None:
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections break; that is no news."""
        log.debug("A connection of %s broke.", client_address, exc_info=True)

    def end(self) -> None:
        """Listen no more and end every connection; nothing is being answered any more when it returns.

        Whoever is still at it after END_SECONDS is left behind.
        """
        self._ended = True
        self.shutdown()
        self.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        until = time.monotonic() + END_SECONDS
        while self._connections and time.monotonic() < until:
            time.sleep(0.01)


def _range(text: str, size: int) -> tuple[int, int]:
    """The first byte and the one behind the last of `bytes=N-` or `bytes=N-M`; what is not understood means all."""
    unit, _, span = text.partition("=")
    first, dash, last = span.partition("-")
    plain = unit == "bytes" and dash and first.isascii() and first.isdigit() and len(first) < 16
    if not plain or (last and not (last.isascii() and last.isdigit() and len(last) < 16)):
        return 0, size
    return int(first), min(int(last) + 1, size) if last else size
