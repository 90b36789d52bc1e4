"""A program of a hospital that is told what happens: it checks the signature of each webhook and keeps its kind."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from fedwire import webhooks
from fedwire.errors import FedportalError


class Receiver:
    """A context: an HTTP server on a free port. `secret` is what the portal showed when the webhook was added."""

    def __init__(self) -> None:
        self.secret = ""
        self.kinds: list[str] = []  # of the messages whose signature is right
        receiver = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                try:
                    receiver.kinds.append(webhooks.verify(receiver.secret, dict(self.headers.items()), body)["kind"])
                    self.send_response(204)
                except FedportalError:
                    self.send_response(403)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Silence: the portal's page shows the deliveries."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.host}/fedportal"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
