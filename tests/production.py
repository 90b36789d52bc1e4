"""The portal as it runs in production: web processes, a Celery worker, a sweeper, PostgreSQL and Valkey."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

from tests import services
from tests.running import ROOT, STOP_SECONDS, Portal


def environment(database: str, broker: str) -> dict[str, Any]:
    """Settings with which production starts on this machine, for `Portal`."""
    return {
        "MODE": "production",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "PEPPER": secrets.token_urlsafe(32),
        "ALLOWED_HOSTS": "127.0.0.1",
        "INSECURE_HTTP": "1",
        "EMAIL_URL": "smtp://127.0.0.1:9",  # nobody listens: letters wait
        "DATABASE_URL": database,
        "REDIS_URL": broker,
    }


class Production(Portal):
    """A running portal of several processes: `with Production() as portal: … portal.url …`.

    Raises services.Unavailable where PostgreSQL or Valkey cannot be had.
    """

    def __init__(self, workers: int = 2, **env: object) -> None:
        self._ends = ExitStack()
        try:
            database = self._ends.enter_context(services.postgresql())
            broker = self._ends.enter_context(services.valkey())
        except BaseException:
            self._ends.close()
            raise
        super().__init__(
            module="fedportal.serve",
            arguments=["--workers", str(workers)],
            **(environment(database, broker) | env),
        )
        self._helpers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, **env: object) -> None:
        """Migrate, start everything and wait until the web processes answer."""
        self.manage("migrate", "--verbosity=0")
        self.manage("collectstatic", "--noinput", "--verbosity=0")
        self.start_worker()
        self._launch("sweeper", "fedportal.sweeper")
        super().start(**env)

    def start_worker(self) -> None:
        """Start the Celery worker with its two children."""
        self._launch("worker", "celery", "-A", "fedportal.celery", "worker", "--concurrency=2", "--loglevel=WARNING")

    def kill_worker(self) -> None:
        """SIGKILL to the Celery worker and its children, wherever they are in their work."""
        worker = self._helpers["worker"]
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

    def dead(self) -> list[str]:
        """The names of helpers that ended."""
        return [name for name, process in self._helpers.items() if process.poll() is not None]

    def close(self) -> None:
        """End all processes and both servers, remove the data."""
        for process in self._helpers.values():
            process.terminate()
        for process in self._helpers.values():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        super().close()
        self._ends.close()

    def _launch(self, name: str, *command: str) -> None:
        with open(self.log, "ab") as log:
            self._helpers[name] = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
