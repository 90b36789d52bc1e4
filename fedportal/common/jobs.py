"""Background work. `@job` is the only use of Celery's decorators in the portal.

A message is only a doorbell: it carries ids, the row is the truth, and every job may run twice or never; the sweeper
rings again. `ring(job, …)` sends after the surrounding unit is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from celery import current_app, shared_task
from django.db import close_old_connections, connection

from fedportal.common.transactions import after_commit

log = logging.getLogger(__name__)


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


def ring(work: Any, *args: Any, after: float | None = None) -> None:
    """Have a worker run `work(*args)` once the present unit is committed, and so many seconds are over.

    The sweeper makes up for a lost message.
    """

    def send() -> None:
        try:
            work.apply_async(args, retry=False, countdown=after)
        except Exception:  # the broker may be away; the row is the truth and the sweeper rings again
            log.warning("the broker did not take %s%r; the sweeper will ring again", work.name, args, exc_info=True)

    after_commit(send)
