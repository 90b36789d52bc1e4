"""Fixtures for all tests."""

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


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> Iterator[None]:
    """The database of the tests begins as a migrated one."""
    with migrated.beneath(connection):
        yield
