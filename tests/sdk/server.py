"""A small portal-shaped server whose connections break where a test says, to see what the SDK makes of it."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fedwire.errors import FedportalError


@dataclass
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Cut(Exception):
    """Close the connection here, without a word."""


@dataclass
class Reply:
    """What to answer; `cut_after`: close the connection after so many bytes of the body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None


def refusal(code: str, **context: Any) -> Reply:
    """The answer that a portal gives with this code."""
    error = FedportalError(code, **context)
    return Reply(error.status, json.dumps(error.body()).encode())


def found(value: Any, status: int = 200) -> Reply:
    """A JSON answer."""
    return Reply(status, json.dumps(value).encode())


class Server:
    """`answer(request number, Seen)` decides; `read_at_most` bytes of a body are read before a `Cut` may be raised."""

    def __init__(self, answer: Callable[[int, Seen], Reply], certificate: Path | None = None) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self._answer = answer
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                outer.connections += 1

            def handle_one(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                limit = outer.read_at_most if outer.read_at_most is not None else length
                body = self.rfile.read(min(length, limit))
                seen = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                with outer._lock:
                    outer.seen.append(seen)
                    number = len(outer.seen)
                try:
                    reply = outer._answer(number, seen)
                except Cut:
                    self._close()
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in reply.headers:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body[: reply.cut_after])
                if reply.cut_after is not None:
                    self._close()

            def _close(self) -> None:
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

            do_GET = do_POST = do_PUT = do_HEAD = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self.read_at_most: int | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # broken connections are the point
        self.url = f"http{'s' if certificate else ''}://127.0.0.1:{self._server.server_port}"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def serving(answer: Callable[[int, Seen], Reply], certificate: Path | None = None) -> Iterator[Server]:
    """A running server; with `certificate` it speaks TLS."""
    server = Server(answer, certificate)
    server.start()
    try:
        yield server
    finally:
        server.stop()
