"""The whole portal in one process: `python -m fedportal.embedded --port 8000`.

Web server, Celery worker and sweeper share the process; the broker and the channel layer are in memory, the database is
a file. It migrates first, prints its address once it answers, and leaves cleanly on SIGTERM and Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fedportal.settings")
# What Celery would check of the models when its worker begins is checked when they are written.
os.environ.setdefault("CELERY_SKIP_CHECKS", "true")

import django
import uvicorn
import uvloop
from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

django.setup()

from fedportal import listening  # noqa: E402
from fedportal.celery import app as celery_app  # noqa: E402
from fedportal.common import sweeping  # noqa: E402

# Threads hand the interpreter to one another this often: a round is many short steps in several threads.
SWITCH_SECONDS = 0.0005


class Worker:
    """The Celery worker in a thread of this process."""

    def __init__(self) -> None:
        self._controller = celery_app.WorkController(
            pool="threads",
            concurrency=settings.FEDPORTAL_WORKER_THREADS,
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
            loglevel="WARNING",
        )
        self._thread = threading.Thread(target=self._controller.start, name="celery-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let running jobs end (a few seconds), take no more."""
        self._controller.stop()
        self._thread.join(listening.GRACE_SECONDS)


class Sweeper:
    """The sweeper in a thread of this process."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=sweeping.forever, args=(self._stop,), name="sweeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(listening.GRACE_SECONDS)


class Server(uvicorn.Server):
    """uvicorn's server that tells when it answers."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()


@asynccontextmanager
async def beside(*helpers: Any) -> AsyncIterator[None]:
    """Run the helpers' threads while the server runs."""
    for helper in helpers:
        helper.start()
    try:
        yield
    finally:
        for helper in helpers:
            await asyncio.to_thread(helper.stop)


async def serve(listener: socket.socket, on_ready: Callable[[], object], *helpers: Any) -> None:
    """Serve the portal on `listener`, with the helpers beside it, until a signal comes.

    `on_ready` is called once it answers.
    """
    async with beside(*helpers):
        await Server(listening.configuration(), on_ready).serve(sockets=[listener])


def migrate() -> None:
    """Bring the database up to date, unless it is: to see that takes a tenth of what it takes to migrate nothing."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", verbosity=0, interactive=False)


def main(arguments: list[str] | None = None) -> None:
    """Migrate, serve, and leave cleanly."""
    parser = argparse.ArgumentParser(prog="python -m fedportal.embedded", description="The whole portal in one process")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    options = parser.parse_args(arguments)
    os.umask(0o077)  # what the portal writes is nobody else's to read
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
    migrate()
    listening.allow_many_files()
    try:
        listener = listening.listening_socket(options.host, options.port)
    except OSError as error:
        reason = f"Nothing can listen at {options.host}:{options.port} ({error.strerror})."
        sys.exit(f"{reason} Choose another port with --port; 0 takes a free one.")
    sys.setswitchinterval(SWITCH_SECONDS)
    # What is loaded now stays; the collector need not look at it again and again.
    gc.collect()
    gc.freeze()

    serving = threading.Event()

    def ready() -> None:
        serving.set()
        sys.stdout.write(f"fedportal answers at {listening.address(listener)}\n")
        sys.stdout.flush()

    # uvicorn acts on these signals itself and raises them again when it is done; the rest is to end in peace too.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None if serving.is_set() else sys.exit(0))
    uvloop.run(serve(listener, ready, Worker(), Sweeper()))


if __name__ == "__main__":
    main()
