"""The real portal in a process of its own, for tests that speak to it over the wire and for benchmarks."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import migrated, nursery

ROOT = Path(__file__).resolve().parent.parent
# When to give up on a portal that does not come or go: far beyond what a slow machine needs.
START_SECONDS = 180.0
STOP_SECONDS = 30.0
MANAGE_SECONDS = 120.0


class Portal:
    """A running portal: `with Portal() as portal: … portal.url …`.

    It has a fresh data folder, which stays through `kill` and `restart` and goes with the portal, and a free port that
    it keeps. `env` adds to the environment; a key without the prefix FEDPORTAL_ gets it. No process is left behind. It
    comes from the nursery where `begins_warm` is set, as pytest does; benchmarks start it as users do.
    """

    begins_warm = False

    def __init__(
        self,
        *,
        port: int = 0,
        module: str = "fedportal.embedded",
        arguments: Sequence[str] = (),
        **env: object,
    ) -> None:
        self.data_dir = Path(tempfile.mkdtemp(prefix="fedportal-test-"))
        self.log = self.data_dir / "portal.log"
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {f"FEDPORTAL_{name.removeprefix('FEDPORTAL_')}": str(value) for name, value in env.items()}
        self._program = ["-m", module, "--host", "127.0.0.1", "--port", str(self.port), *arguments]
        # What a production portal keeps is not made anew in a child of the nursery.
        self._warm = self.begins_warm and self.env.keys().isdisjoint(("FEDPORTAL_MODE", "FEDPORTAL_DATABASE_URL"))
        self._process: subprocess.Popen[bytes] | nursery.Child | None = None
        if "FEDPORTAL_DATABASE_URL" not in self.env:
            migrated.lay(self.data_dir / "var")

    def __enter__(self) -> Self:
        atexit.register(self.close)
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id of the running portal."""
        assert self._process is not None, "the portal does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, **env: object) -> None:
        """Start the portal and wait until it answers. `env` holds for this start only."""
        seen = self.log.stat().st_size if self.log.exists() else 0
        self.launch(**env)
        give_up = time.monotonic() + START_SECONDS
        while b"fedportal answers at" not in self.log.read_bytes()[seen:]:
            if not self.running or time.monotonic() > give_up:
                raise RuntimeError(f"the portal did not start:\n{self.tail()}")
            time.sleep(0.02)

    def launch(self, **env: object) -> None:
        """Start the portal and wait for nothing: it may be meant to die before it answers."""
        assert not self.running, "the portal runs already"
        environment = self.environment() | {f"FEDPORTAL_{name}": str(value) for name, value in env.items()}
        with open(self.log, "ab") as log, open(os.devnull, "rb") as nothing:
            if self._warm:
                self._process = nursery.Child(
                    nursery.PORTAL, self._program, environment, nothing.fileno(), log.fileno()
                )
            else:
                self._process = subprocess.Popen(
                    [sys.executable, *self._program],
                    cwd=ROOT,
                    env=environment,
                    stdin=nothing,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def kill(self) -> None:
        """SIGKILL to all its processes: no goodbye, no flush."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def wait_for_death(self, seconds: float = 120.0) -> int:
        """The exit code of a portal that ends by itself (at a fault point). Raises TimeoutExpired."""
        assert self._process is not None
        return self._process.wait(seconds)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def restart(self, **env: object) -> None:
        """Start again with the same data and port, after `kill`, or after stopping it now."""
        if self.running:
            self.stop()
        self.start(**env)

    def close(self) -> None:
        """End every process, remove the data."""
        atexit.unregister(self.close)
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """The environment of the portal's process and of management commands beside it."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FEDPORTAL_")}
        return (
            inherited
            | {
                "FEDPORTAL_DATA_DIR": str(self.data_dir / "var"),
                "FEDPORTAL_PUBLIC_URL": self.url,
                "DJANGO_SETTINGS_MODULE": "fedportal.settings",
                "PYTHONUNBUFFERED": "1",
            }
            | self.env
        )

    def manage(self, *arguments: str, source: str | None = None) -> str:
        """What `manage.py …` prints, run beside the portal on its data. `source` is fed to it."""
        program, env = ["manage.py", *arguments], self.environment()
        if self._warm:
            done = nursery.finished(nursery.PORTAL, program, env, source or "", MANAGE_SECONDS)
        else:
            done = subprocess.run(
                [sys.executable, *program],
                cwd=ROOT,
                env=env,
                input=source or "",
                capture_output=True,
                text=True,
                timeout=MANAGE_SECONDS,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def found(self, name: str, email: str, password: str = "") -> dict[str, Any]:
        """Found an organization with its owner: {org_id, person_id, api_key}."""
        more = ["--password", password] if password else []
        printed = self.manage("found_organization", "--skip-checks", "--name", name, "--email", email, *more)
        match = re.search(r"\{.*\}", printed, re.DOTALL)
        assert match, printed
        found: dict[str, Any] = json.loads(match[0])
        return found

    def do(self, action: str, **arguments: object) -> Any:
        """Do something inside the portal's process; needs `module="tests.driving"`, which lists the actions."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.data_dir / "var" / "driver.sock"))
            connection.sendall(json.dumps([action, arguments]).encode() + b"\n")
            with connection.makefile("r") as lines:
                answer = json.loads(lines.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def rss_kib(self) -> int:
        """Resident memory now, in KiB."""
        return self._status("VmRSS")

    def peak_rss_kib(self) -> int:
        """The most resident memory since the start or `forget_peak`, in KiB."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Let the peak be counted from now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def threads(self) -> int:
        """Number of OS threads."""
        return self._status("Threads")

    def _status(self, field: str) -> int:
        match = re.search(rf"^{field}:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert match, field
        return int(match[1])


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
