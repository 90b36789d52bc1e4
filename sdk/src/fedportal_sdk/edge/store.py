"""What an edge remembers: its keys, its devices, its rounds and their parts, in one SQLite file.

What is committed survives a power cut (`synchronous=FULL`); an acknowledged answer is committed. The command line reads
and changes the same file beside a running edge.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedwire.errors import FedportalError

SCHEMA = """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, secret TEXT NOT NULL, made_at REAL NOT NULL,
    ends_at REAL, most INTEGER, revoked_at REAL
);
CREATE TABLE IF NOT EXISTS devices (
    id TEXT PRIMARY KEY, identifier TEXT NOT NULL UNIQUE, public_key TEXT NOT NULL, enrolled_with TEXT NOT NULL,
    secret TEXT NOT NULL, next_secret TEXT NOT NULL DEFAULT '', state TEXT NOT NULL, made_at REAL NOT NULL,
    seen_at REAL NOT NULL, facts TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS devices_secret ON devices (secret);
CREATE INDEX IF NOT EXISTS devices_next_secret ON devices (next_secret);
CREATE TABLE IF NOT EXISTS nonces (nonce TEXT PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS rounds (
    task TEXT PRIMARY KEY, run TEXT NOT NULL, content TEXT NOT NULL, state TEXT NOT NULL, opened_at REAL NOT NULL,
    deadline REAL NOT NULL, reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS parts (
    id TEXT PRIMARY KEY, round TEXT NOT NULL REFERENCES rounds ON DELETE CASCADE,
    device TEXT NOT NULL REFERENCES devices, state TEXT NOT NULL, upload TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL DEFAULT '', answer TEXT NOT NULL DEFAULT '{}', receipt TEXT NOT NULL DEFAULT '{}',
    reason TEXT NOT NULL DEFAULT '', changed_at REAL NOT NULL, UNIQUE (round, device)
);
"""
# Rounds beyond these are forgotten, the oldest first.
KEPT_ROUNDS = 200
FILE = "edge.sqlite3"


class Store:
    """The file in `folder`. Threads share one; every unit is short."""

    def __init__(self, folder: Path) -> None:
        make_private(folder)
        self.folder = folder
        path = folder / FILE
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, timeout=20, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(SCHEMA)
        self._depth = 0

    def close(self) -> None:
        """Nothing is read or written any more."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def unit(self) -> Iterator[None]:
        """All that is written inside is committed together or not at all; units may lie in one another."""
        with self._lock:
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                self._depth -= 1
                if self._depth == 0:
                    self._connection.execute("ROLLBACK")
                raise
            self._depth -= 1
            if self._depth == 0:
                self._commit()

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """How many rows the statement changed."""
        with self._lock:
            return self._connection.execute(statement, values).rowcount

    def one(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row, None without one."""
        with self._lock:
            row: sqlite3.Row | None = self._connection.execute(statement, values).fetchone()
            return row

    def all(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Every row."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def _commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._connection.execute("ROLLBACK")
            raise FedportalError("storage_full") from error


def make_private(folder: Path) -> None:
    """Make the folder and those above it that are missing, for their owner only."""
    if not folder.exists():
        make_private(folder.parent)
        folder.mkdir(exist_ok=True, mode=0o700)


def exists(folder: Path) -> bool:
    """Whether an edge has ever been set up in this folder."""
    return (folder / FILE).exists()
