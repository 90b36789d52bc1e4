"""How the portal is: checks that floors register, for the operators' page, and whether it can serve, for a balancer.

A check looks and says what it found; it changes nothing that stays, and takes a second or two at most. What it raises
is a finding too.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import redis
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from fedportal.common import blobs, jobs, live

log = logging.getLogger(__name__)

# Room beyond the reserve below which it is time to make some.
LITTLE_ROOM = 10 << 30
SLOW_SECONDS = 0.5
LONG_QUEUE = 100
# How long counting blobs may take.
COUNT_SECONDS = 1.0


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """What a check found: how bad it is, what it is, what to do about it, and figures."""

    level: Level
    says: str
    step: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """Something to look at. `means` says what it is for, and what goes wrong without it."""

    name: str
    title: str
    means: str
    look: Callable[[], Finding]


@dataclass(frozen=True)
class Result:
    """A check with its finding, and how long the look took."""

    check: Check
    finding: Finding
    seconds: float


_checks: dict[str, Check] = {}


def register(name: str, title: str, means: str, look: Callable[[], Finding]) -> None:
    """Show this check on the health page; the same name again replaces it."""
    _checks[name] = Check(name, title, means, look)


def report() -> list[Result]:
    """Everything that is registered, looked at now."""
    return [_looked(check) for check in _checks.values()]


def is_ready() -> bool:
    """Whether requests can be served: the database answers and has all migrations, and Redis, if any, answers."""
    try:
        return _database().level != Level.BAD and _migrations().level != Level.BAD and _redis_answers()
    except Exception:
        log.warning("not ready", exc_info=True)
        return False


def _looked(check: Check) -> Result:
    begun = time.monotonic()
    try:
        finding = check.look()
    except Exception as error:  # a check that fails is what the page is for
        log.warning("the check %s failed", check.name, exc_info=True)
        finding = Finding(Level.BAD, f"The look failed: {type(error).__name__}.", "Read the log of the web process.")
    return Result(check, finding, time.monotonic() - begun)


def _database() -> Finding:
    begun = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    took = time.monotonic() - begun
    figures = {"kind": connection.vendor, "answered in": f"{took * 1000:.1f} ms"}
    if took > SLOW_SECONDS:
        return Finding(Level.WARN, "The database answers slowly.", "Look at its load and at the network.", figures)
    return Finding(Level.OK, "The database answers.", "", figures)


def _migrations() -> Finding:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(f"{migration.app_label} {migration.name}" for migration, _ in missing[:5])
        return Finding(
            Level.BAD,
            f"{len(missing)} migrations are not applied: {names}.",
            "Run `python manage.py migrate`, then restart the processes.",
        )
    return Finding(Level.OK, "All migrations are applied.")


def _storage() -> Finding:
    probe = blobs.scratch()
    try:
        with open(probe, "wb") as file:
            file.write(b"fedportal")
            file.flush()
            os.fsync(file.fileno())
        if probe.read_bytes() != b"fedportal":
            return Finding(Level.BAD, "What was written was not read again.", "Check the disk of the data folder.")
    except OSError as error:
        return Finding(
            Level.BAD,
            f"The data folder cannot be written ({error.strerror}).",
            "Check that the disk is mounted and that the portal's user may write to FEDPORTAL_DATA_DIR.",
        )
    finally:
        probe.unlink(missing_ok=True)
    usage = shutil.disk_usage(probe.parent)
    free = usage.free - blobs.reserve(usage.total)
    figures = {"free": _size(usage.free), "of": _size(usage.total), "blobs": _count_blobs()}
    if free <= 0:
        return Finding(Level.BAD, "The disk is full: uploads are refused.", "Make room on the disk.", figures)
    if free < min(LITTLE_ROOM, usage.total // 5):
        return Finding(Level.WARN, "The disk is nearly full.", "Make room before uploads are refused.", figures)
    return Finding(Level.OK, "The data folder can be written and has room.", "", figures)


def _channel_layer() -> Finding:
    seconds = live.round_trip()
    if seconds is None:
        return Finding(
            Level.BAD,
            "A message that was sent did not come back.",
            "Check that Redis runs (FEDPORTAL_REDIS_URL); pages show the truth after a reload until then.",
        )
    figures = {"there and back in": f"{seconds * 1000:.1f} ms"}
    return Finding(Level.OK, "Messages come through.", "", figures)


def _queue() -> Finding:
    waiting = jobs.waiting()
    figures = {"waiting": str(waiting)}
    if waiting > LONG_QUEUE:
        step = "Start more workers: `celery -A fedportal.celery worker`. Nothing is lost meanwhile."
        return Finding(Level.WARN, f"{waiting} jobs wait for a worker.", step, figures)
    return Finding(Level.OK, "No long queue.", "", figures)


def _redis_answers() -> bool:
    if not settings.FEDPORTAL_REDIS_URL:
        return True
    with redis.Redis.from_url(settings.FEDPORTAL_REDIS_URL, socket_timeout=2, socket_connect_timeout=2) as client:
        return bool(client.ping())


def _count_blobs() -> str:
    """Number and size of the blobs, as far as they can be counted quickly."""
    give_up, number, size = time.monotonic() + COUNT_SECONDS, 0, 0
    folder = settings.FEDPORTAL_DATA_DIR / "blobs"
    for part in os.scandir(folder) if folder.is_dir() else ():
        for entry in os.scandir(part.path):
            number, size = number + 1, size + entry.stat().st_size
            if time.monotonic() > give_up:
                return f"more than {number} ({_size(size)})"
    return f"{number} ({_size(size)})"


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


register("database", "Database", "Holds everything but models and updates. Without it nothing works.", _database)
register("migrations", "Migrations", "The tables' form must be that of the program, or parts of it fail.", _migrations)
register(
    "storage", "Storage", "Models and updates are files in the data folder. When it is full, uploads stop.", _storage
)
register(
    "live",
    "Live messages",
    "Tell open pages what happens. Without them pages must be reloaded by hand.",
    _channel_layer,
)
register("queue", "Queue", "Jobs wait here for a worker: closing rounds, sending letters and webhooks.", _queue)
