"""Patience: an attempt that failed for a passing reason is made again, a little later each time.

Passing reasons are a portal that cannot be reached or is not ready, restarts included; everything else is an answer and
is raised at once. Delays grow from 0.05 to at most 5 seconds and are drawn at random, so that a thousand devices do not
come back in the same moment.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from typing import Protocol, TypeVar

from fedwire.errors import FedportalError

T = TypeVar("T")

FIRST_DELAY = 0.05
LONGEST_DELAY = 5.0
# 507: the portal is short of disk space and says so; nothing is lost by waiting.
PASSING = frozenset({429, 502, 503, 504, 507})
# A portal that answers 500 may recover, or may have a fault that this request hits every time.
TRIES_AFTER_500 = 6


class Stopped(Exception):
    """`stop()` was called; whoever waited leaves."""


class Flag(Protocol):
    """What patience asks; a `Stop` or a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""

    def wait(self, timeout: float) -> bool:
        """Wait for that at most so many seconds; whether to stop."""


class Stop:
    """A flag that is set once, from any thread or a signal handler.

    `threading.Event` will not do: a handler that sets it while the same thread is about to wait for it waits for ever.
    """

    STEP = 0.05

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Stop."""
        self._set = True

    def is_set(self) -> bool:
        """Whether `set` was called."""
        return self._set

    def wait(self, timeout: float) -> bool:
        """Wait that long, or until shortly after `set`; whether it is set."""
        until = time.monotonic() + timeout
        while not self._set and (left := until - time.monotonic()) > 0:
            time.sleep(min(self.STEP, left))
        return self._set


def is_passing(error: FedportalError) -> bool:
    """Whether the same request may well succeed later."""
    return error.status in PASSING


class Patience:
    """Makes calls until they succeed, are refused, or `stop` is set.

    `report` is told the error when an outage begins and None when it ends. `limit`: seconds after which the last error
    is raised; None waits for ever.
    """

    def __init__(
        self,
        stop: Flag,
        report: Callable[[FedportalError | None], None] = lambda _: None,
        limit: float | None = None,
    ) -> None:
        self._stop = stop
        self._report = report
        self._limit = limit

    def __call__(self, call: Callable[[], T], also: Collection[str] = ()) -> T:
        """The result of `call`. Raises its refusal, or `Stopped`. `also`: further codes that are worth another try."""
        failures, since = 0, 0.0
        while True:
            if self._stop.is_set():
                raise Stopped
            try:
                result = call()
            except FedportalError as error:
                failures += 1
                since = since or time.monotonic()
                if error.code not in also and not self._worth_waiting(error, failures, since):
                    raise
                if failures == 1:
                    self._report(error)
                self.wait(delay_after(failures, error))
            else:
                if failures:
                    self._report(None)
                return result

    def wait(self, seconds: float) -> None:
        """Wait that long. Raises `Stopped` at once when `stop` is set."""
        if self._stop.wait(seconds):
            raise Stopped

    def _worth_waiting(self, error: FedportalError, failures: int, since: float) -> bool:
        if self._stop.is_set():
            raise Stopped from error
        if error.status == 500 and failures >= TRIES_AFTER_500:
            return False
        if self._limit is not None and time.monotonic() - since >= self._limit:
            return False
        return is_passing(error) or error.status == 500


def delay_after(failures: int, error: FedportalError | None = None) -> float:
    """Seconds to wait after so many failures in a row: what a 429 asks for (up to a minute), or 0.05 doubling to 5."""
    if error is not None and error.status == 429:
        asked = error.context.get("seconds")
        if isinstance(asked, int | float) and asked > 0:
            return min(60.0, float(asked))
    ceiling = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(failures - 1, 10))
    return random.uniform(ceiling / 2, ceiling)  # noqa: S311  (spreads load; nothing secret)
