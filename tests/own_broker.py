"""What is particular about tests on real PostgreSQL and Valkey.

Each pytest worker has a Valkey of its own: pytest-django gives each a database of its own, and messages must not mix
either. Tests that ask for no database are left out: they say the same here as on SQLite.

`tests.services` has pytest load this plugin (PYTEST_PLUGINS) before the settings are read.
"""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack

import pytest

from tests import services

if "PYTEST_XDIST_WORKER" in os.environ and os.environ.get("FEDPORTAL_REDIS_URL"):
    _own = ExitStack()
    atexit.register(_own.close)
    os.environ["FEDPORTAL_REDIS_URL"] = _own.enter_context(services.valkey())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that ask for a database."""
    kept = [item for item in items if _asks_for_rows(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _asks_for_rows(item: pytest.Item) -> bool:
    return bool(item.get_closest_marker("django_db") or {"db", "transactional_db"} & set(item.fixturenames))  # type: ignore[attr-defined]
