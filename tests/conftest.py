"""Fixtures for all tests."""

import gc
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test import TransactionTestCase

from tests import light, migrated
from tests.cast import cast, cheap
from tests.running import Portal
from tests.snapshot import empty_tables

__all__ = ["cast", "cheap"]

Portal.begins_warm = True
TransactionTestCase._fixture_teardown = empty_tables
light.lighten()


def pytest_collection_finish() -> None:
    """What was loaded stays, and tests make much that is soon forgotten: one tenth of the time went into looking for
    rings among it."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> Iterator[None]:
    """The database of the tests begins as a migrated one."""
    with migrated.beneath(connection):
        yield
