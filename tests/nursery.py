"""Portals and commands that begin warm: forked from a process that has loaded their code, so that a start takes a tenth
of the time.

`python -m tests.nursery SOCKET KIND` loads the code of the portal, or of the command line, and waits at the socket for
wishes: a program, its environment and its files. Each is a process of its own, leader of its session, which reads its
own settings and then runs the program as `python` would. That they also start cold is shown where they are started as
users start them: the demonstration, pasted lines, devices that stay at work.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import logging.config
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LARGEST_WISH = 1 << 20
START_SECONDS = 180.0
PORTAL, COMMANDS = "portal", "commands"
# What each kind loads, but for what is made from settings when it is loaded.
LOADED = {
    PORTAL: (
        "uvicorn.protocols.http.httptools_impl",
        "uvicorn.protocols.websockets.websockets_sansio_impl",
        "uvicorn.lifespan.on",
        "uvloop",
        "celery.worker",
        "celery.concurrency.thread",
        "kombu.transport.memory",
        "channels.auth",
        "channels.routing",
        "django.core.management.commands.migrate",
        "django.core.management.commands.shell",
        "django.db.backends.sqlite3.base",
        "fedportal.urls",
        "fedportal.celery",
        "fedportal.listening",
        "fedportal.door.front",
        "fedportal.door.pages",
        "fedportal.security_headers",
        "training.routing",
    ),
    COMMANDS: (
        "encodings.idna",
        "getpass",
        *(f"fedportal_sdk.cli.{name}" for name in ("devices", "edge", "federations", "main", "models")),
        *(f"fedportal_sdk.cli.{name}" for name in ("simulate", "team", "training")),
    ),
}
# What of it looks at the environment or the terminal when it is loaded; all else asks when it needs to know.
READ_ANEW = {PORTAL: ("fedportal.settings", "fedportal.common.faults"), COMMANDS: ("fedportal_sdk.cli.output",)}


# --- for those who want a process ------------------------------------------------------------------------------------


class Child:
    """A process from the nursery, with the ways of a `subprocess.Popen`."""

    def __init__(
        self, kind: str, program: Sequence[str], env: dict[str, str], stdin: int, output: int, errors: int | None = None
    ) -> None:
        """`program` is ["-m", module, …] or [file, …], as after `python`; the others are file descriptors."""
        self.args = list(program)
        self.returncode: int | None = None
        self._line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.connect(_nursery(kind))
        wish = json.dumps([self.args, env]).encode()
        socket.send_fds(self._line, [wish], [stdin, output, output if errors is None else errors])
        self.pid = int(self._line.recv(32))

    def poll(self) -> int | None:
        """The exit status, or None while it runs; minus the signal that killed it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._line], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self.returncode = int(self._line.recv(32) or -signal.SIGKILL)  # the nursery takes its children with it
            self._line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens to one that has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def finished(
    kind: str, program: Sequence[str], env: dict[str, str], fed: str, seconds: float
) -> subprocess.CompletedProcess[str]:
    """How the program ended and what it said, when `fed` is what it can read. Raises TimeoutExpired."""
    with tempfile.TemporaryFile("w+") as read, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        read.write(fed)
        read.seek(0)
        child = Child(kind, program, env, read.fileno(), out.fileno(), err.fileno())
        try:
            status = child.wait(seconds)
        finally:
            child.send_signal(signal.SIGKILL)
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(child.args, status, out.read(), err.read())


_addresses: dict[str, str] = {}


def _nursery(kind: str) -> str:
    """Where such a nursery of this process listens; it is started for the first child and ends with this process."""
    if kind not in _addresses:
        folder = Path(tempfile.mkdtemp(prefix="fedportal-nursery-"))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FEDPORTAL_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery", str(folder / "socket"), kind],
            cwd=ROOT,
            env=environment | {"FEDPORTAL_DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "fedportal.settings"},
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        atexit.register(_close, process, folder)
        give_up = time.monotonic() + START_SECONDS
        while not (folder / "ready").exists():
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError("the nursery did not start")
            time.sleep(0.02)
        _addresses[kind] = str(folder / "socket")
    return _addresses[kind]


def _close(process: subprocess.Popen[bytes], folder: Path) -> None:
    with process:
        pass  # nobody holds its stdin now
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


# --- the nursery itself ----------------------------------------------------------------------------------------------


def load(kind: str) -> None:
    """Load the code, open no connection, start no thread."""
    if kind == PORTAL:
        import django

        django.setup()
    for name in LOADED[kind]:
        importlib.import_module(name)
    if kind == PORTAL:
        from tests import light

        light.lighten()
        light.prime()
    gc.collect()
    gc.freeze()


def serve(path: str, kind: str) -> list[str]:
    """Fork a child for every wish; returns in the child only: its program.

    Ends when nobody holds stdin any more, and all children with it.
    """
    hear, tell = os.pipe()
    for end in (hear, tell):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(tell)
    lines: dict[int, socket.socket] = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(64)
        Path(path).with_name("ready").touch()
        while True:
            ready = select.select([listener, hear, sys.stdin], [], [])[0]
            if sys.stdin in ready:
                for pid in lines:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
                os._exit(0)
            if hear in ready:
                os.read(hear, 4096)
                _report(lines)
            if listener in ready:
                line, _ = listener.accept()
                wish, files, _, _ = socket.recv_fds(line, LARGEST_WISH, 3)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for file in (hear, tell):
                        os.close(file)
                    for other in (line, *lines.values()):
                        other.close()
                    program, env = json.loads(wish)
                    _settle(kind, env, files)
                    return list(program)
                lines[pid] = line
                line.send(str(pid).encode())
                for file in files:
                    os.close(file)


def _report(lines: dict[int, socket.socket]) -> None:
    """Tell of every child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while pid := (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with lines.pop(pid) as line, contextlib.suppress(OSError):  # who asked may be gone
                line.send(str(os.waitstatus_to_exitcode(ended[1])).encode())


def _settle(kind: str, env: dict[str, str], files: Sequence[int]) -> None:
    """In the child: its own session, files, environment and settings."""
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(env)
    if kind == PORTAL:
        _forget_settings()
    for name in READ_ANEW[kind]:
        importlib.reload(sys.modules[name])
    if kind == PORTAL:
        from django.conf import settings

        logging.config.dictConfig(settings.LOGGING)


def _forget_settings() -> None:
    """Let Django read them when it is next asked."""
    from django.conf import settings
    from django.db import connections
    from django.utils.functional import empty

    # To load models is to ask which database there is, so Django remembers the nursery's. It is never opened.
    assert [one.connection for one in connections.all(initialized_only=True)] in ([], [None])
    for alias in [one.alias for one in connections.all(initialized_only=True)]:
        del connections[alias]
    del connections.settings
    connections._settings = None
    settings._wrapped = empty


def run(program: list[str]) -> Any:
    """As `python program…` would."""
    if program[0] == "-m":
        sys.argv = program[1:]
        return runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    sys.argv = program
    return runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    load(sys.argv[2])
    run(serve(*sys.argv[1:]))
