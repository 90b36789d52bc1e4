"""The door's threads. The event loop never touches the database or a file; no thread waits for a device.

Three bounded pools: `ask` for reading the database, `record` for writing it (writers queue behind one another, and must
not keep the readers waiting), `work` for files and digests. A thread keeps its database connection.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import InterfaceError, OperationalError, close_old_connections, connection

from fedwire.errors import FedportalError

P = ParamSpec("P")
T = TypeVar("T")

READERS = 4
WRITERS = 4
WORKERS = 8
# A thread that was idle for longer looks first whether its connection still stands.
TRUST_SECONDS = 1.0

_readers = ThreadPoolExecutor(READERS, "door-read")
_writers = ThreadPoolExecutor(WRITERS, "door-write")
_workers = ThreadPoolExecutor(WORKERS, "door-work")
_mine = threading.local()


async def ask(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that reads the database. Raises `unavailable` when the database is away."""
    return await asyncio.get_running_loop().run_in_executor(
        _readers, lambda: with_connection(function, *args, **kwargs)
    )


async def record(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function that writes to the database. Raises `unavailable` when the database is away."""
    return await asyncio.get_running_loop().run_in_executor(
        _writers, lambda: with_connection(function, *args, **kwargs)
    )


def work(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Begin a function that works on files only; await the future for its result."""
    return asyncio.get_running_loop().run_in_executor(_workers, lambda: function(*args, **kwargs))


def with_connection(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` with a sound database connection in this thread, and leave none that is broken."""
    if time.monotonic() - getattr(_mine, "used_at", 0.0) > TRUST_SECONDS:
        close_old_connections()
    try:
        return function(*args, **kwargs)
    except (OperationalError, InterfaceError) as error:
        connection.close()
        raise FedportalError("unavailable") from error
    finally:
        _mine.used_at = time.monotonic()
