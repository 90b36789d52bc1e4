"""What commands say on a database that was not migrated, or not to this portal's version."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor


@contextmanager
def asked_for() -> Iterator[None]:
    """An error of the database raises CommandError with what to do, if migrations are missing; others pass."""
    try:
        yield
    except DatabaseError as error:
        executor = MigrationExecutor(connection)
        missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
        if not missing:
            raise
        count = f"{missing} migration{'' if missing == 1 else 's'}"
        raise CommandError(f"The database lacks {count}. Run `python manage.py migrate` first.") from error
