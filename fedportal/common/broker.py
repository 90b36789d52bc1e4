"""The broker of the embedded portal: messages in memory, of which each wakes the worker that waits for one.

Kombu's own broker in memory looks every so often. Often enough for a round not to wait, that is two hundred times a
second, day and night.
"""

from __future__ import annotations

import threading
import time
from queue import Empty
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, memory

SCHEME = "waking"
# A worker looks again after this long, whatever it was told: of two that wait, one may hear the other's bell.
LONGEST_WAIT = 0.05

_rung = threading.Event()


class Channel(memory.Channel):
    """Rings for whatever lets a worker go on: a message, or that one was taken, which makes room for the next."""

    def _put(self, queue: str, message: Any, **kwargs: Any) -> None:
        super()._put(queue, message, **kwargs)
        _rung.set()

    def _put_fanout(self, exchange: str, message: Any, routing_key: str | None = None, **kwargs: Any) -> None:
        super()._put_fanout(exchange, message, routing_key, **kwargs)
        _rung.set()

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        super().basic_ack(delivery_tag, multiple)
        _rung.set()


class Transport(memory.Transport):
    """Kombu's transport in memory with a bell instead of a pause."""

    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> None:
        """Deliver the next message. Raises TimeoutError when none came within `timeout` seconds."""
        give_up = None if timeout is None else time.monotonic() + timeout
        while True:
            _rung.clear()  # before the look, so that what comes after it is heard
            try:
                self.cycle.get(self._deliver, timeout=timeout)  # type: ignore[union-attr]
                return
            except Empty:
                left = LONGEST_WAIT if give_up is None else min(LONGEST_WAIT, give_up - time.monotonic())
            if left <= 0:
                raise TimeoutError
            _rung.wait(left)


def register() -> None:
    """Let addresses that begin with `SCHEME` mean this broker."""
    TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"
