"""Statements in SQL: what SQLite is told about its tables."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from django.db import connection

from fedportal.common import sql
from tests.cast import Cast


@pytest.mark.skipif(connection.vendor != "sqlite", reason="other databases gather statistics by themselves")
def test_statistics_say_how_the_tables_are_filled(cast: Cast) -> None:
    sql.gather_statistics()
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT tbl FROM sqlite_stat1")
        told = {name for (name,) in cursor.fetchall()}
    assert {"guardian_groupobjectpermission", "federations_membership"} <= told


def test_a_connection_that_is_open_plans_with_new_statistics(tmp_path: Path) -> None:
    """How SQLite behaves, on which `gather_statistics` relies: first and later."""
    one, other = (sqlite3.connect(tmp_path / "file", isolation_level=None) for _ in range(2))
    one.execute("CREATE TABLE grants (kind INTEGER, holder INTEGER)")
    one.execute("CREATE INDEX by_holder ON grants (holder)")
    one.execute("CREATE INDEX by_kind ON grants (kind)")

    def plan() -> str:
        # Explaining does not look for changes, and what was explained before is answered from memory.
        total = other.execute("SELECT sum(kind + holder) FROM grants").fetchone()[0]
        question = f"EXPLAIN QUERY PLAN SELECT * FROM grants WHERE kind = 1 AND holder = 7 AND {total}"
        found = other.execute(question).fetchall()
        return str(found[0][3])

    for row, better in (("(1, {})", "by_holder"), ("({}, 7)", "by_kind")):
        one.execute("DELETE FROM grants")
        for number in range(500):
            one.execute("INSERT INTO grants VALUES " + row.format(number))
        one.execute("BEGIN")
        one.execute("DROP TABLE IF EXISTS sqlite_stat1")
        one.execute("ANALYZE")
        one.execute("COMMIT")
        assert better in plan()
    one.close()
    other.close()
