"""HTTP as uvicorn speaks it, with our words for what is no HTTP."""

from __future__ import annotations

import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fedwire.errors import FedportalError


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools; a request that cannot be parsed gets an error of the catalogue."""

    def send_400_response(self, msg: str) -> None:
        error = FedportalError("bad_request", reason="This is not a valid HTTP request.")
        body = json.dumps(error.body()).encode()
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close"
        self.transport.write(head % len(body) + b"\r\n\r\n" + body)
        self.transport.close()
