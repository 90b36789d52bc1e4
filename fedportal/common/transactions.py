"""Short write transactions.

SQLite has one writer. Left alone, a second writer sleeps in steps of up to 100 ms; a lock in this process wakes it at
once. On PostgreSQL `unit()` is `transaction.atomic()` and nothing else. Never hold a unit across a file write or an
aggregation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.db import connection, transaction

_writer = threading.RLock()


@contextmanager
def unit() -> Iterator[None]:
    """One unit of work: everything inside commits together or not at all."""
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with _writer, transaction.atomic():
            yield
    else:
        with transaction.atomic():
            yield


def after_commit(call: Callable[[], object]) -> None:
    """Run `call` once the surrounding unit is committed, for nothing leaves before. Its errors undo nothing."""
    transaction.on_commit(call, robust=True)
