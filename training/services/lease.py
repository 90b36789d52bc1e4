"""A worker's claim on a round: held for a while, renewed while the work goes on, lost to whoever claims it later.

The fence is the claim's number. It grows with every claim, and only the round's last claimant may close it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import QuerySet

from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.states import RoundState
from training.lifecycle import Lost
from training.models import Round

RENEWALS = 4  # in the time the claim holds


class Claim:
    """A claim that is being held: `rows` is the row it is on, as long as it is ours. `check` tells whether it is."""

    def __init__(self, rows: QuerySet[Any], name: str) -> None:
        self._rows = rows
        self._name = name
        self._lost = threading.Event()
        self._done = threading.Event()

    def check(self) -> None:
        """Raises Lost when somebody else has claimed the round, or it was cancelled."""
        if self._lost.is_set():
            raise Lost

    @contextmanager
    def held(self) -> Iterator[None]:
        """Renew the claim in a thread meanwhile."""
        thread = threading.Thread(target=self._renew, name=self._name, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._done.set()

    def _renew(self) -> None:
        pause = settings.FEDPORTAL_LEASE_SECONDS / RENEWALS
        renewed = False
        try:
            while not self._done.wait(pause):
                renewed = True
                try:
                    with unit():
                        ours = self._rows.all().update(lease_until=until())
                except DatabaseError:
                    # The database may be back before the claim runs out; if not, the next renewal finds it lost.
                    connection.close()
                    continue
                if not ours:
                    self._lost.set()
                    return
        finally:
            if renewed:
                connection.close()


class Lease(Claim):
    """A claim on a round."""

    def __init__(self, round_pk: int, fence: int) -> None:
        super().__init__(mine(round_pk, fence), f"lease-{round_pk}")


def mine(round_pk: int, fence: int) -> QuerySet[Round]:
    """The row of the round if the claim with this fence is the last one and the work is not over."""
    return Round.objects.filter(pk=round_pk, fence=fence, state=RoundState.AGGREGATING)


def until() -> datetime:
    """Until when a claim made or renewed now holds."""
    return clock.now() + timedelta(seconds=settings.FEDPORTAL_LEASE_SECONDS)
