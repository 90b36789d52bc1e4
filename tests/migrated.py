"""A migrated database, made once: to migrate takes seconds, and every process of the tests and every test that starts a
portal would pay them.

That a fresh portal migrates by itself is shown where one is started as users start it (the demonstration's tests).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests import kept

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "FEDPORTAL_TEST_TEMPLATE"  # in the environment: a migrated database of the PostgreSQL server


def lay(data_dir: Path) -> None:
    """Put a migrated database where a portal with this data folder looks for its file."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    shutil.copyfile(_template(), data_dir / "fedportal.sqlite3")


def on_server(url: str) -> str:
    """Make a migrated database beside the one at this address of a PostgreSQL; its name."""
    name = "migrated"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with tempfile.TemporaryDirectory(prefix="fedportal-test-") as folder:
        _migrate(folder, DATABASE_URL=urlsplit(url)._replace(path=f"/{name}").geturl())
    return name


@contextmanager
def beneath(connection: Any) -> Iterator[None]:
    """While this lasts, the database that Django makes for tests on `connection` begins as a migrated one.

    Django migrates it all the same, and finds nothing to do.
    """
    if connection.vendor != "sqlite":
        connection.settings_dict["TEST"]["TEMPLATE"] = os.environ.get(TEMPLATE)
        yield
        return
    with (
        closing(sqlite3.connect(_template())) as template,
        closing(sqlite3.connect(connection.creation._get_test_db_name(), uri=True)) as database,
    ):
        template.backup(database)
        yield  # what is in memory stays only as long as somebody looks


@cache
def _template() -> Path:
    """A file that depends on our migrations, and on the libraries with theirs."""
    made_of = kept.digest([ROOT / "constraints.txt"], sorted(ROOT.glob("*/migrations/*.py")))
    return kept.kept("migrated", f"{made_of}.sqlite3", _make)


def _make(path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fedportal-test-") as folder:
        _migrate(folder)
        database = sqlite3.connect(Path(folder) / "fedportal.sqlite3")
        database.execute("VACUUM INTO ?", [str(path)])  # whole, whatever the journal still holds
        database.close()


def _migrate(folder: str, **more: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FEDPORTAL_")}
    own = {f"FEDPORTAL_{name}": value for name, value in {"DATA_DIR": folder, **more}.items()}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity=0"],
        cwd=ROOT,
        env=inherited | own | {"DJANGO_SETTINGS_MODULE": "fedportal.settings"},
        check=True,
    )
