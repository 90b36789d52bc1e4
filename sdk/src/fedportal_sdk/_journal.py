"""What a device must not forget over its own restarts: what it said in sessions of secure aggregation, and whom it met.

One SQLite file in the device's folder. What is committed survives a power cut (`synchronous=EXTRA`), and a write is
begun with the file's lock, so of two processes that are the same device only one says a thing first. No key of a
session is in it: whoever restores an older copy of the folder can take part in new sessions only, and has forgotten
which sums it helped to unmask since.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedportal_sdk._config import sync
from fedwire.masking.statements import refused

SCHEMA = """
CREATE TABLE IF NOT EXISTS said (session TEXT, about TEXT, what TEXT NOT NULL, PRIMARY KEY (session, about));
CREATE TABLE IF NOT EXISTS met (device TEXT PRIMARY KEY, key TEXT NOT NULL, since INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS sums (base TEXT, devices TEXT, PRIMARY KEY (base, devices));
CREATE TABLE IF NOT EXISTS rounds (session TEXT PRIMARY KEY, model TEXT NOT NULL, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS pinned (name TEXT PRIMARY KEY, what TEXT NOT NULL);
"""
VERSION = 2
# What makes the tables of a version into those of the next.
STEPS = {1: "ALTER TABLE met ADD COLUMN since INTEGER NOT NULL DEFAULT 0"}
FILE = "masking.sqlite3"
# Keys of a session live in memory, so one that is long over cannot be gone on with. Of models the sums last unmasked
# are compared: with a thousand others in between, a portal that comes back to one has to have a reason.
KEPT = {"said": 2000, "sums": 1000, "rounds": 2000}
DAY = 86_400.0
PORTAL = "portal"


class FileJournal:
    """The journal of the device in `folder`; a `fedwire.masking.session.Journal`. `clock`: seconds since 1970.

    Raises `masking_refused` when the file cannot be read or written: who has forgotten what it said says nothing more.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = folder / FILE
        self._clock = clock

    def settle(self, session: str, about: str, said: str) -> bool:
        """Write down for good, before returning, what is said about this in a session; False if something else was."""
        with self._unit() as file:
            file.execute("INSERT OR IGNORE INTO said VALUES (?, ?, ?)", (session, about, said))
            row = file.execute("SELECT what FROM said WHERE session = ? AND about = ?", (session, about)).fetchone()
            _prune(file, "said")
        return bool(row[0] == said)

    def identities(self) -> Mapping[str, str]:
        """Device → the key that it had when it was first met, or that its organization certified later."""
        with self._unit() as file:
            return dict(file.execute("SELECT device, key FROM met"))

    def meet(self, identities: Mapping[str, str]) -> None:
        """Remember the keys of devices that were not known."""
        with self._unit() as file:
            file.executemany("INSERT OR IGNORE INTO met (device, key) VALUES (?, ?)", identities.items())

    def renew(self, certified: Mapping[str, tuple[str, int]]) -> None:
        """Remember the keys of devices that their organizations certified, each with since when (seconds since 1970),
        in the place of those that were met without a certificate or with one from earlier."""
        rows = [(device, key, since) for device, (key, since) in certified.items()]
        with self._unit() as file:
            file.executemany(
                "INSERT INTO met VALUES (?, ?, ?) ON CONFLICT (device)"
                " DO UPDATE SET key = excluded.key, since = excluded.since WHERE excluded.since > met.since",
                rows,
            )

    def cohorts(self, base_model: str) -> Sequence[frozenset[str]]:
        """The devices of each sum that this device helped to unmask for updates of this model."""
        with self._unit() as file:
            return _cohorts(file, base_model)

    def join(self, base_model: str, devices: frozenset[str], least: int) -> bool:
        """Write down, for good, before returning, one more of them; False if one of them has other devices, of which
        fewer than `least` are in one of the two and not in the other."""
        with self._unit() as file:
            if any(0 < len(devices ^ earlier) < least for earlier in _cohorts(file, base_model)):
                return False
            file.execute("INSERT OR IGNORE INTO sums VALUES (?, ?)", (base_model, json.dumps(sorted(devices))))
            _prune(file, "sums")
        return True

    def pin(self, name: str, what: str) -> bool:
        """Remember this under its name if nothing is; whether it is what is remembered."""
        with self._unit() as file:
            file.execute("INSERT OR IGNORE INTO pinned VALUES (?, ?)", (name, what))
            row = file.execute("SELECT what FROM pinned WHERE name = ?", (name,)).fetchone()
        return bool(row[0] == what)

    def pinned(self, name: str) -> str:
        """What is remembered under this name; "" when nothing is."""
        with self._unit() as file:
            row = file.execute("SELECT what FROM pinned WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""

    def repin(self, name: str, before: str, what: str) -> bool:
        """Put this in the place of what was remembered; False when that was something else."""
        with self._unit() as file:
            file.execute("INSERT OR IGNORE INTO pinned VALUES (?, ?)", (name, before))
            done = file.execute("UPDATE pinned SET what = ? WHERE name = ? AND what = ?", (what, name, before))
        return done.rowcount == 1

    def rounds(self, model: str) -> int:
        """In how many sessions of the last 24 hours this device masked an update of the model."""
        with self._unit() as file:
            since = self._clock() - DAY
            row = file.execute("SELECT COUNT(*) FROM rounds WHERE model = ? AND at > ?", (model, since)).fetchone()
        return int(row[0])

    def spend(self, session: str, model: str, most: int) -> bool:
        """Write down, for good, that an update of the model is masked; False if that would be one more than `most`."""
        with self._unit() as file:
            since = self._clock() - DAY
            sql = "SELECT COUNT(*) FROM rounds WHERE model = ? AND at > ? AND session != ?"
            if file.execute(sql, (model, since, session)).fetchone()[0] >= most:
                return False
            file.execute("INSERT OR IGNORE INTO rounds VALUES (?, ?, ?)", (session, model, self._clock()))
            _prune(file, "rounds")
        return True

    @contextmanager
    def _unit(self) -> Iterator[sqlite3.Connection]:
        """All that is written inside is on disk at the end, or nothing of it is."""
        try:
            fresh = not self.path.exists()
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            file = sqlite3.connect(self.path, timeout=20, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise refused(f"this device cannot read or write its journal ({type(error).__name__}).") from error
        try:
            file.execute("PRAGMA synchronous=EXTRA")
            file.execute("BEGIN IMMEDIATE")
            if (version := file.execute("PRAGMA user_version").fetchone()[0]) < VERSION:
                _lay_out(file, version)
            yield file
            file.execute("COMMIT")
            if fresh:
                sync(self.path.parent)
        except sqlite3.Error as error:
            raise refused(f"this device cannot read or write its journal ({type(error).__name__}).") from error
        finally:
            file.close()  # what was not committed is undone


def _lay_out(file: sqlite3.Connection, version: int) -> None:
    """Make the tables, or those of an earlier version into today's."""
    for statement in [STEPS[number] for number in range(version, VERSION)] if version else SCHEMA.split(";"):
        file.execute(statement)
    file.execute(f"PRAGMA user_version={VERSION}")


def _cohorts(file: sqlite3.Connection, base_model: str) -> Sequence[frozenset[str]]:
    rows = file.execute("SELECT devices FROM sums WHERE base = ?", (base_model,)).fetchall()
    return [frozenset(json.loads(devices)) for (devices,) in rows]


def _prune(file: sqlite3.Connection, table: str) -> None:
    """Forget the oldest rows beyond those that are kept."""
    sql = f"DELETE FROM {table} WHERE rowid <= (SELECT MAX(rowid) FROM {table}) - ?"  # noqa: S608 (our own names)
    file.execute(sql, (KEPT[table],))
