"""The rows that something made, to make them again at once: services take a hundred times as long as inserts do."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core import mail
from django.db import connection, transaction

Row = tuple[Any, ...]
Made = TypeVar("Made")
# So long the times in rows are near enough to now: devices were just seen, letters just sent.
FRESH_SECONDS = 20.0


@dataclass(frozen=True)
class Table:
    """A table, its columns, and which of them is the primary key."""

    name: str
    columns: tuple[str, ...]
    key: int

    @property
    def listing(self) -> str:
        return ", ".join(map(connection.ops.quote_name, self.columns))

    def rows(self) -> dict[Any, Row]:
        """All rows by primary key."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {self.listing} FROM {connection.ops.quote_name(self.name)}")
            return {row[self.key]: tuple(row) for row in cursor.fetchall()}

    def empty(self) -> None:
        """Remove all rows."""
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(self.name)}")

    def count(self) -> int:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {connection.ops.quote_name(self.name)}")
            return int(cursor.fetchone()[0])

    def insert(self, rows: list[Row]) -> None:
        marks = ", ".join(["%s"] * len(self.columns))
        with connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {connection.ops.quote_name(self.name)} ({self.listing}) VALUES ({marks})", rows
            )


class Scene(Generic[Made]):
    """What `make()` gives, with the rows, files and mail it makes; it is made anew when it is not fresh any more."""

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make
        self._made: Made
        self._rows: Snapshot | None = None
        self._since = 0.0

    def enter(self, folder: Path | None = None) -> Made:
        """It, in the database and in the `folder` of this test, which have nothing of it yet."""
        if self._rows is None or time.monotonic() - self._since > FRESH_SECONDS or not self._rows.fits():
            rows = Snapshot(folder)
            self._made, self._since = self._make(), time.monotonic()
            rows.complete()
            self._rows = rows
        else:
            self._rows.restore(folder)
        return copy.deepcopy(self._made)


class Snapshot:
    """What is in the database and the folder now and was not when this began, and the mail that left meanwhile.

    `Snapshot()`, then the making, then `complete()`; from then on `restore()` lays the rows into a database that
    is as it was before, which `fits()` tells.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._files = dict.fromkeys(_files(folder), b"")
        self._ground = _ground()
        self._before = {table: table.rows() for table in tables()}
        self._made: dict[Table, list[Row]] = {}
        self._sent = len(mail.outbox)
        self._mail: list[Any] = []

    def complete(self) -> None:
        """Note what was made since. What was there must be unchanged: only new rows can be made again."""
        for table, before in self._before.items():
            now = table.rows()
            assert {key: now.get(key) for key in before} == before, f"rows of {table.name} were changed"
            if made := [row for key, row in now.items() if key not in before]:
                self._made[table] = made
        self._mail = mail.outbox[self._sent :]
        if self._folder:
            files = [file for file in _files(self._folder) if file not in self._files]
            self._files = {file: (self._folder / file).read_bytes() for file in files}

    def fits(self) -> bool:
        """Whether none of the tables has a row that it had not, and what the rows point to is still there."""
        return self._ground == _ground() and all(table.count() == len(self._before[table]) for table in self._made)

    def restore(self, folder: Path | None = None) -> None:
        """Make all again; on PostgreSQL and SQLite alike the order of rows does not matter before the commit."""
        for file, content in self._files.items() if folder else ():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        with transaction.atomic():
            for table, rows in self._made.items():
                table.insert(rows)
        mail.outbox.extend(self._mail)


def _files(folder: Path | None) -> list[Path]:
    """The files in the folder, by their path in it."""
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()] if folder else []


def empty_tables(*_: object) -> None:
    """Remove what a test committed, but not the content types and rights that migrating made.

    Instead of Django's flush, which removes these too and then makes all of them anew: that takes longer than most
    tests do.
    """
    with transaction.atomic():
        for table in tables():
            table.empty()


@cache
def tables() -> tuple[Table, ...]:
    """Every table but those that migrating fills."""
    found = []
    for model in apps.get_models(include_auto_created=True):
        if model._meta.managed and not model._meta.proxy and model not in (ContentType, Permission):
            columns = tuple(str(field.column) for field in model._meta.local_concrete_fields)
            found.append(Table(model._meta.db_table, columns, columns.index(str(model._meta.pk.column))))
    return tuple(found)


def _ground() -> Row:
    """What a flush of the database may number anew."""
    types = ContentType.objects.order_by("app_label", "model").values_list("pk", flat=True)
    permissions = Permission.objects.order_by("content_type", "codename").values_list("pk", flat=True)
    return (connection.vendor, tuple(types), tuple(permissions))
