"""The rows that something made, to make them again at once: services take a hundred times as long as inserts do."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core import mail
from django.db import connection, transaction

Row = tuple[Any, ...]


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


class Snapshot:
    """What is in the database now and was not when this began, and the mail that left meanwhile.

    `Snapshot()`, then the making, then `complete()`; from then on `restore()` lays the rows into a database that
    is as it was before, which `fits()` tells.
    """

    def __init__(self) -> None:
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

    def fits(self) -> bool:
        """Whether none of the tables has a row that it had not, and what the rows point to is still there."""
        return self._ground == _ground() and all(table.count() == len(self._before[table]) for table in self._made)

    def restore(self) -> None:
        """Make the rows again; on PostgreSQL and SQLite alike their order does not matter before the commit."""
        with transaction.atomic():
            for table, rows in self._made.items():
                table.insert(rows)
        mail.outbox.extend(self._mail)


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
