"""Browsers that watch, without a browser: sockets of the real ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from channels.auth import AuthMiddlewareStack
from channels.layers import channel_layers

from fedportal.asgi import sockets
from fedportal.common import live
from tests.training.conftest import Stage, bells, stage

__all__ = ["bells", "stage"]

HOST = (b"host", b"testserver")


class Watcher:
    """One socket. `hear` gives the next message."""

    def __init__(self, path: str, headers: list[tuple[bytes, bytes]]) -> None:
        scope = {"type": "websocket", "path": path, "query_string": b"", "subprotocols": [], "headers": headers}
        # What stands behind the check of the origin: who is signed in, then the address.
        self._socket = ApplicationCommunicator(AuthMiddlewareStack(sockets), scope)

    async def arrive(self) -> dict[str, Any]:
        """Connect; the first message, or {"closed": code}."""
        await self._socket.send_input({"type": "websocket.connect"})
        return await self.hear()

    async def hear(self, seconds: float = 30.0) -> dict[str, Any]:
        """The next message, or {"closed": code}."""
        output = await self._socket.receive_output(seconds)
        if output["type"] == "websocket.accept":
            output = await self._socket.receive_output(seconds)
        if output["type"] == "websocket.close":
            return {"closed": output["code"]}
        found: dict[str, Any] = json.loads(output["text"])
        return found

    async def ask(self, what: Any) -> None:
        """Send JSON, or the very text."""
        text = what if isinstance(what, str) else json.dumps(what)
        await self._socket.send_input({"type": "websocket.receive", "text": text})

    async def leave(self) -> None:
        """Go away without a word."""
        await self._socket.send_input({"type": "websocket.disconnect", "code": 1001})
        await self._socket.wait(2)

    async def hear_until(self, kind: str) -> list[dict[str, Any]]:
        """All messages up to the first of this kind."""
        heard = [await self.hear()]
        while heard[-1].get("kind") != kind:
            heard.append(await self.hear())
        return heard


Watch = Callable[..., Watcher]


@pytest.fixture
async def watch(stage: Stage) -> AsyncIterator[Watch]:
    """`watch(run, "olga")` is a socket of that person's browser; with key=True one of their command line."""
    channel_layers.backends.clear()  # the layer of an earlier test belongs to that test's event loop
    live.attach_loop(asyncio.get_running_loop())
    opened: list[Watcher] = []
    cookies = {
        name: (await asyncio.to_thread(stage.cast.browser, name)).cookies["sessionid"].value
        for name in ("olga", "otto", "mia", "vera", "rex")
    }

    def begin(run_id: str, name: str = "", *, key: bool = False) -> Watcher:
        headers = []
        if name and key:
            headers = [(b"authorization", f"Bearer {stage.cast.keys[name]}".encode())]
        elif name:
            headers = [(b"cookie", f"sessionid={cookies[name]}".encode())]
        opened.append(Watcher(f"/ws/runs/{run_id}", headers))
        return opened[-1]

    yield begin
    live.attach_loop(None)
    for watcher in opened:
        with contextlib.suppress(Exception):
            await watcher.leave()
