"""No page makes a query for each of its rows: as many for many rows as for few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.growing import grow, pages
from tests.permissions.stage import Stage, build

FEW, MANY = 3, 30


@pytest.fixture
def stage(db: None, settings: Any, tmp_path: Path) -> Stage:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.FEDPORTAL_DATA_DIR = tmp_path
    return build()


def queries(stage: Stage) -> dict[str, int]:
    """Route → how many queries its page makes for the owner, once what is remembered is known."""
    found, client = {}, stage.clients["olga_session"]
    for route, address in pages(stage).items():
        assert (address, client.get(address).status_code) == (address, 200)
        with CaptureQueriesContext(connection) as made:
            client.get(address)
        found[route] = len(made)
    return found


def test_many_rows_cost_no_more_queries_than_few(stage: Stage) -> None:
    grow(stage, FEW)
    few = queries(stage)
    grow(stage, MANY)
    many = queries(stage)
    # Fewer may be: a log whose last entries are all alike looks up one kind of thing.
    assert {route: (few[route], many[route]) for route in few if few[route] < many[route]} == {}
