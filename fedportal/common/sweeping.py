"""The sweeper: what must happen again and again because a doorbell may be lost and a process may be killed.

Upper floors register their passes; the embedded portal and `python -m fedportal.sweeper` run them every
`FEDPORTAL_SWEEP_SECONDS`. A pass must be harmless when it runs twice, in two processes, or late.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db import close_old_connections

from fedportal.common import blobs, sql

log = logging.getLogger(__name__)

# A part of an upload that nobody continued for so long is given up.
PART_AGE = timedelta(hours=24)
# How long the database may plan by old statistics: its tables grow in days, and to look at a sample is quick.
STATISTICS_SECONDS = 600.0


def _remove_old_parts() -> None:
    blobs.sweep(PART_AGE)


class _Statistics:
    """Gathers the database's statistics now and then: they are out of date once tables have grown."""

    def __init__(self) -> None:
        self._due = 0.0

    def gather(self) -> None:
        if time.monotonic() >= self._due:
            sql.gather_statistics()
            self._due = time.monotonic() + STATISTICS_SECONDS


_passes: list[Callable[[], object]] = [_remove_old_parts, _Statistics().gather]


def register(sweep: Callable[[], object]) -> None:
    """Run `sweep()` in every pass of the sweeper."""
    if sweep not in _passes:
        _passes.append(sweep)


def once() -> None:
    """One pass over everything registered, in its order. What fails is logged and does not stop the rest."""
    for sweep in list(_passes):
        _pass(sweep)


def forever(stop: threading.Event) -> None:
    """Pass after pass until `stop` is set; the first ones at once, so that a restart is noticed.

    Each function has its own thread: a mail server that does not answer must not hold up the rounds.
    """
    threads = [
        threading.Thread(target=_again_and_again, args=(sweep, stop), name=_name(sweep), daemon=True)
        for sweep in _passes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _again_and_again(sweep: Callable[[], object], stop: threading.Event) -> None:
    while not stop.is_set():
        _pass(sweep)
        stop.wait(settings.FEDPORTAL_SWEEP_SECONDS)


def _pass(sweep: Callable[[], object]) -> None:
    close_old_connections()
    try:
        sweep()
    except Exception:
        log.exception("the sweep %s failed; the next pass tries again", _name(sweep))
    close_old_connections()


def _name(sweep: Callable[[], object]) -> str:
    return f"{sweep.__module__}.{sweep.__qualname__}"
