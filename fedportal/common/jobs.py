"""Background work. `@job` is the only use of Celery's decorators in the portal.

A message is only a doorbell: it carries ids, the row is the truth, and every job may run twice or never; the sweeper
rings again. `ring(job, …)` sends after the surrounding unit is committed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import current_app, shared_task
from django.db import close_old_connections, connection

from fedportal.common.transactions import after_commit

log = logging.getLogger(__name__)

# What was rung for longer ago is forgotten beyond so many.
MOST_RHYTHMS = 1_000


def job(function: Callable[..., object]) -> Any:
    """Make `function` a background job. Its arguments must be plain JSON values: ids, not rows."""

    def run(*args: Any) -> None:
        _drop_old_connections()
        try:
            function(*args)
        finally:
            _drop_old_connections()

    run.__doc__ = function.__doc__
    run.__module__ = function.__module__
    return shared_task(name=f"{function.__module__}.{function.__name__}", ignore_result=True)(run)


def _drop_old_connections() -> None:
    """Let go of connections that are too old or broken, but not of one that a unit around this job still needs."""
    if not connection.in_atomic_block:
        close_old_connections()


def waiting() -> int:
    """How many messages wait for a worker. Raises what a broker that is away raises."""
    with current_app.connection_for_read() as broker:
        channel = broker.default_channel
        try:
            return int(channel.queue_declare(current_app.conf.task_default_queue, passive=True).message_count)
        except broker.channel_errors:
            return 0  # nobody has rung or listened yet


class _Rhythm:
    """When each thing was rung for last, or will be."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[tuple[Any, ...], float] = {}

    def wait(self, key: tuple[Any, ...], seconds: float) -> float | None:
        """How long to wait before the next ring; None when one that is still to come will do."""
        now = time.monotonic()
        with self._lock:
            last = self._next.get(key, now - seconds)
            if last > now:
                return None
            due = self._next[key] = max(now, last + seconds)
            if len(self._next) > MOST_RHYTHMS:
                self._next = {known: at for known, at in self._next.items() if at > now - seconds}
            return due - now


_rhythm = _Rhythm()


def ring_at_times(work: Any, *args: Any, seconds: float) -> None:
    """Like `ring`, at most once in so many seconds in this process: what was asked for meanwhile is done once, later.

    Every call is followed by a run that begins after the present unit is committed.
    """

    def send() -> None:
        wait = _rhythm.wait((work.name, *args), seconds)
        if wait is not None:
            _send(work, args, wait or None)

    after_commit(send)


def ring(work: Any, *args: Any, after: float | None = None) -> None:
    """Have a worker run `work(*args)` once the present unit is committed, and so many seconds are over.

    The sweeper makes up for a lost message.
    """
    after_commit(lambda: _send(work, args, after))


def _send(work: Any, args: tuple[Any, ...], after: float | None) -> None:
    try:
        work.apply_async(args, retry=False, countdown=after)
    except Exception:  # the broker may be away; the row is the truth and the sweeper rings again
        log.warning("the broker did not take %s%r; the sweeper will ring again", work.name, args, exc_info=True)
