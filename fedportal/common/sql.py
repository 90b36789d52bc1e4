"""A few statements in SQL, for the places that every device of every round passes.

The same questions through Django's query builder take 240 µs instead of 15, almost all of it in Python, which one
processor does for all devices together. Whatever is not on a device's way uses the models as everywhere else.
`gather_statistics` tells SQLite what it needs to plan well.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import connection

from fedportal.common.transactions import unit

# Of each index so many rows are looked at: enough to tell large from small, and a matter of milliseconds.
SAMPLED_ROWS = 400


def one(query: str, values: Sequence[Any]) -> tuple[Any, ...] | None:
    """The first row, or None."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def rows(query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All rows."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


def write(query: str, values: Sequence[Any]) -> int:
    """How many rows it touched. Call it inside a unit."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return int(cursor.rowcount)


def write_each(query: str, rows: Sequence[Sequence[Any]]) -> None:
    """The same statement once for each of the rows' values. Call it inside a unit."""
    with connection.cursor() as cursor:
        cursor.executemany(query, rows)


def marks(count: int) -> str:
    """`count` placeholders for a list of values."""
    return ", ".join(["%s"] * count)


def stored(moment: datetime) -> Any:
    """The moment as the database's columns hold it."""
    return connection.ops.adapt_datetimefield_value(moment)


def aware(moment: datetime) -> datetime:
    """A moment as it was read; SQLite gives moments without their zone, which is UTC."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def gather_statistics() -> None:
    """Tell SQLite how its tables are filled, from a sample of them; other databases find out by themselves.

    Without it SQLite walks through everybody's grants to find those of one person, which makes half of a page's time.
    """
    if connection.vendor == "sqlite":
        with unit(), connection.cursor() as cursor:
            cursor.execute(f"PRAGMA analysis_limit = {SAMPLED_ROWS}")
            # Open connections read new statistics only when the table that holds them is new.
            cursor.execute("DROP TABLE IF EXISTS sqlite_stat1")
            cursor.execute("ANALYZE")
