"""The addresses of a served model, for programs of this machine only.

A page in a browser could ask 127.0.0.1 in its visitor's name: what says that it comes from elsewhere, or asks for
another host's name, is refused.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import secrets
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from fedportal_sdk.edge.connection import IDLE_SECONDS, Connection, Server
from fedportal_sdk.serving import shapes
from fedportal_sdk.serving.desk import Desk
from fedportal_sdk.serving.limits import Limits
from fedwire.errors import FedportalError
from fedwire.version import VERSION

log = logging.getLogger("fedportal")

HOST = "127.0.0.1"
OWN_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
BODY_BYTES = 32 << 20
# So many requests at once are read and computed, each of which may take some hundred megabytes; the others wait.
AT_ONCE = 4
END = b"data: [DONE]\n\n"


class Doors(Connection):
    """One connection. A subclass made by `doors` knows the desk."""

    server_version = f"fedportal-serve/{VERSION}"
    json_bytes = BODY_BYTES
    desk: ClassVar[Desk]
    turns: ClassVar[threading.Semaphore]

    def serve(self) -> None:
        """Find the address; raises `only_local`, `not_found`, `method_not_allowed`."""
        self._only_local()
        path = self.path.partition("?")[0]
        for pattern, method, answer in ADDRESSES:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if method != ("GET" if self.command == "HEAD" else self.command):
                raise FedportalError("method_not_allowed", method=self.command)
            return answer(self, *match.groups())
        raise FedportalError("not_found", what="address")

    def models(self) -> None:
        """GET /v1/models."""
        self.give(200, self.desk.models())

    def model(self, name: str) -> None:
        """GET /v1/models/{name}."""
        self.give(200, self.desk.one(unquote(name)))

    def health(self) -> None:
        """GET /health."""
        self.give(200, self.desk.health())

    def predict(self) -> None:
        """POST /predict."""
        with self.turns:
            found = self.desk.predict(self.json())
        self.give(200, found)

    def embeddings(self) -> None:
        """POST /v1/embeddings."""
        with self.turns:
            found = self.desk.embeddings(self.json())
        self.give(200, found)

    def chat(self) -> None:
        """POST /v1/chat/completions."""
        self._say(shapes.chat)

    def complete(self) -> None:
        """POST /v1/completions."""
        self._say(shapes.completion)

    def refuse(self, error: FedportalError) -> None:
        """Answer with the error in OpenAI's shape."""
        if error.code == "internal":
            error = FedportalError("serve_failed", reference=error.context["reference"])
        with contextlib.suppress(OSError):
            self.give(error.status, shapes.refusal(error))
            self._drain()

    def _say(self, read: Callable[[Mapping[str, Any], Limits], shapes.Asked]) -> None:
        with self.turns:
            body = self.json()
            asked = read(body, self.desk.limits)
            telling, model, pieces = self.desk.answer(asked, body.get("model"))
            del body
        if asked.stream:
            self._stream(_chunks(telling, model.measure, pieces))
            return
        texts = ["".join(some) for some in pieces]
        self.give(200, telling.whole(texts, [model.measure(text) for text in texts]))

    def _stream(self, chunks: Iterator[dict[str, Any]]) -> None:
        """Server-sent events, each as it comes; the last one says that it is the last."""
        self.close_connection = self.close_connection or self.request_version == "HTTP/1.0"
        self.connection.settimeout(IDLE_SECONDS)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close" if self.close_connection else "keep-alive")
        if not self.close_connection:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for chunk in chunks:
                self._piece(b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n")
        except OSError:  # whoever asked is gone
            raise
        except Exception as error:  # the status has left already
            self._piece(b"data: " + json.dumps(shapes.refusal(_told(error))).encode() + b"\n\n")
        self._piece(END)
        if not self.close_connection:
            self.wfile.write(b"0\r\n\r\n")

    def _piece(self, content: bytes) -> None:
        whole = content if self.close_connection else b"%x\r\n%b\r\n" % (len(content), content)
        self.wfile.write(whole)

    def _only_local(self) -> None:
        asked = f"//{self.headers.get('Host', HOST)}"
        origin = self.headers.get("Origin", "")
        for who in (asked, *([origin] if origin else [])):
            try:
                name = urlsplit(who).hostname
            except ValueError:
                name = None
            if name not in OWN_NAMES:
                raise FedportalError("only_local", who=who.removeprefix("//")[:100])


class LocalServer(Server):
    """Listens on this machine's own address and asks nobody for its name."""

    def server_bind(self) -> None:
        """As the standard library's, without looking up a name, which may ask another machine."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]


def listening(desk: Desk, port: int) -> LocalServer:
    """A server of this desk; it answers when `serve_forever` runs. Raises port_taken."""
    try:
        return LocalServer(
            HOST, port, type("DeskDoors", (Doors,), {"desk": desk, "turns": threading.Semaphore(AT_ONCE)})
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise FedportalError("port_taken", host=HOST, port=port, reason=reason) from error


def _told(error: Exception) -> FedportalError:
    """The error for whoever asked; what nobody foresaw is logged under a reference."""
    if isinstance(error, FedportalError):
        return error
    reference = secrets.token_hex(4)
    log.error("reference %s", reference, exc_info=error)
    return FedportalError("serve_failed", reference=reference)


def _chunks(
    telling: shapes.Telling, measure: Callable[[str], int], answers: list[Iterator[str]]
) -> Iterator[dict[str, Any]]:
    """The answers, one behind the other."""
    total = 0
    for place, pieces in enumerate(answers):
        text = ""
        if telling.asked.chat:
            yield telling.chunk(place, "", first=True)
        for piece in pieces:
            text += piece
            yield telling.chunk(place, piece)
        count = measure(text)
        total += count
        yield telling.chunk(place, None, finish=telling.finish(count))
    if telling.asked.with_usage:
        yield telling.last(total)


ADDRESSES: tuple[tuple[re.Pattern[str], str, Callable[..., None]], ...] = (
    (re.compile("/predict"), "POST", Doors.predict),
    (re.compile("/v1/models"), "GET", Doors.models),
    (re.compile("/v1/models/([^/]{1,300})"), "GET", Doors.model),
    (re.compile("/v1/chat/completions"), "POST", Doors.chat),
    (re.compile("/v1/completions"), "POST", Doors.complete),
    (re.compile("/v1/embeddings"), "POST", Doors.embeddings),
    (re.compile("/health"), "GET", Doors.health),
)
