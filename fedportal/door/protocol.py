"""HTTP as uvicorn speaks it, with limits to what comes before a body and our words for what is no HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fedwire.errors import FedportalError

# The longest head of a request, and how long a sender may take for it.
HEAD_BYTES = 64 << 10
HEAD_SECONDS = 15.0


class Signal:
    """What `asyncio.Event` is, without the queue of 600 bytes that it makes before anybody waits."""

    __slots__ = ("_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._waiters: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        """Whether it was set and not cleared since."""
        return self._set

    def set(self) -> None:
        """Wake everybody who waits."""
        self._set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def clear(self) -> None:
        """Let everybody wait who comes from now on."""
        self._set = False

    async def wait(self) -> bool:
        """Until it is set."""
        if not self._set:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        return True


class Pipeline(list[Any]):
    """What uvicorn asks of the queue of pipelined requests, which is empty nearly always: a list is a tenth of it."""

    __slots__ = ()

    def appendleft(self, one: Any) -> None:
        """Put it behind those that are there."""
        self.insert(0, one)


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools, which by itself reads a head of any length for ever.

    Connections that say nothing are closed; a request that cannot be parsed gets an error of the catalogue. What every
    connection holds is kept small, because thousands of devices wait on one each.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pipeline = Pipeline()  # type: ignore[assignment]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.flow = _flow(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_came()
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:  # its task has been made and has not begun
            self.cycle.message_event = Signal()  # type: ignore[assignment]

    def send_400_response(self, msg: str) -> None:
        self._head_came()
        error = FedportalError("bad_request", reason=msg)
        body = json.dumps(error.body()).encode()
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close"
        self.transport.write(head % len(body) + b"\r\n\r\n" + body)
        self.transport.close()

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _head_came(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


def _flow(transport: Any) -> FlowControl:
    """uvicorn's brake for a receiver that is slow, released."""
    flow = FlowControl(transport)
    writable = Signal()
    writable.set()
    flow._is_writable_event = writable  # type: ignore[assignment]
    return flow
