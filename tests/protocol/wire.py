"""HTTP by hand: what a well-behaved library would never send."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fedwire import routes
from fedwire.tensors import Manifest, TensorSpec, encode_update
from tests.running import Portal


@dataclass(frozen=True)
class Reply:
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The catalogue's code in the body."""
        return str(self.json()["error"])


class Wire:
    """One TCP connection to the portal."""

    def __init__(self, portal: Portal, key: str = "", timeout: float = 30.0) -> None:
        self.key = key
        self.socket = socket.create_connection(("127.0.0.1", portal.port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def head(self, method: str, path: str, headers: Mapping[str, object] | None = None) -> None:
        """Send a request's head and nothing else."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
        if self.key:
            lines.append(f"Authorization: Bearer {self.key}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send(self, body: bytes) -> None:
        self.socket.sendall(body)

    def reply(self, *, to: str = "GET") -> Reply:
        """The next response."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        top, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *rest = top.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
        status = int(first.split(" ")[1])
        if status == 100:
            return Reply(status, headers, b"")
        length = 0 if to == "HEAD" else int(headers.get("content-length", "0"))
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return Reply(status, headers, body)

    def request(
        self, method: str, path: str, headers: Mapping[str, object] | None = None, body: bytes | None = None
    ) -> Reply:
        """A whole exchange."""
        length = {} if body is None else {"Content-Length": len(body)}
        self.head(method, path, {**length, **(headers or {})})
        if body:
            self.send(body)
        return self.reply(to=method)

    def post(self, path: str, value: Any) -> Reply:
        return self.request("POST", path, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _more(self) -> None:
        data = self.socket.recv(1 << 20)
        if not data:
            raise ConnectionError("the portal closed the connection")
        self._buffer += data


def exchange(portal: Portal, key: str, method: str, path: str, **kwargs: Any) -> Reply:
    """One request on a connection of its own."""
    with Wire(portal, key) as wire:
        return wire.request(method, path, **kwargs)


def manifest(size: int = 31) -> Manifest:
    """A model of one vector and one bias."""
    return Manifest.of([TensorSpec("layer.bias", "F32", (1,)), TensorSpec("layer.weight", "F32", (size - 1,))])


def update(shape: Manifest, seed: int = 0) -> bytes:
    """A proper update file."""
    draw = np.random.default_rng(seed)
    return encode_update(shape, {spec.name: draw.normal(size=spec.shape).astype("<f4") for spec in shape.weights})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Device:
    """A device of the test, with its key, and the requests it makes."""

    def __init__(self, portal: Portal, made: Mapping[str, Any]) -> None:
        self.portal, self.pk, self.id, self.key = portal, made["pk"], made["id"], made["key"]

    def offered(self, shape: Manifest | None = None, **values: Any) -> str:
        """A fresh task for this device; its id."""
        rows = shape.to_json() if shape else None
        return str(self.portal.do("offer", device_pks=[self.pk], manifest=rows, **values)["ids"][0])

    def wire(self, **kwargs: Any) -> Wire:
        return Wire(self.portal, self.key, **kwargs)

    def request(self, method: str, path: str, **kwargs: Any) -> Reply:
        return exchange(self.portal, self.key, method, path, **kwargs)

    def next(self, wait: float = 0) -> Reply:
        return self.request("GET", f"{routes.TASK_NEXT}?wait={wait}")

    def put(self, task: str, body: bytes, **headers: object) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("PUT", routes.TASK_UPDATE.format(task=task), headers=named, body=body)

    def stored(self, task: str) -> int:
        reply = self.request("HEAD", routes.TASK_UPDATE.format(task=task))
        assert reply.status == 200, reply
        return int(reply.headers["upload-offset"])

    def answer(self, task: str, value: Any) -> Reply:
        with self.wire() as wire:
            return wire.post(routes.TASK_ANSWER.format(task=task), value)


def eventually(question: Any, seconds: float = 30.0) -> Any:
    """The first true answer to `question()`. Fails when there is none in time."""
    give_up = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < give_up, f"still {answer!r} after {seconds} s"
        time.sleep(0.02)


def at_rest(question: Any) -> Any:
    """The first true answer to `question()` that is the same a moment later: what was on its way has arrived."""
    while (answer := eventually(question)) != (time.sleep(0.2), question())[1]:
        pass
    return answer
