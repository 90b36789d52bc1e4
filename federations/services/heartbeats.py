"""Signs of life of the workers: the sweeper rings, whoever does the job notes when and how long it had waited.

So the health page sees the whole way: the sweeper runs, the broker takes messages, a worker does jobs, the database
takes rows.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta

from federations.models import Heartbeat
from fedportal.common import clock
from fedportal.common.transactions import unit

EVERY_SECONDS = 20.0
# Processes that have not been heard of for so long are gone for good.
FORGET_AFTER = timedelta(hours=1)
_doorbells: list[Callable[[float], object]] = []
_rung_at = 0.0


def on_beat(bell: Callable[[float], object]) -> None:
    """Call `bell(moment)` when it is time for a worker to show itself."""
    _doorbells.append(bell)


def ask() -> None:
    """Have some worker show itself, if the last time is long enough ago. A pass of the sweeper."""
    global _rung_at
    if time.monotonic() - _rung_at < EVERY_SECONDS:
        return
    _rung_at = time.monotonic()
    for bell in _doorbells:
        bell(clock.now().timestamp())


def note(rung_at: float) -> None:
    """This process does jobs; it was asked at `rung_at` (seconds since 1970)."""
    now = clock.now()
    waited = max(0.0, now.timestamp() - rung_at)
    with unit():
        Heartbeat.objects.update_or_create(
            name=f"{socket.gethostname()} {os.getpid()}"[:200], defaults={"at": now, "waited_seconds": waited}
        )
        Heartbeat.objects.filter(at__lt=now - FORGET_AFTER).delete()
