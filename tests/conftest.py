"""Fixtures for all tests."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import TransactionTestCase
from whitenoise.middleware import WhiteNoiseMiddleware

from tests import migrated
from tests.cast import cast
from tests.running import Portal
from tests.snapshot import empty_tables

__all__ = ["cast"]

Portal.begins_warm = True
TransactionTestCase._fixture_teardown = empty_tables
listed: dict[str, Any] = {}  # the static files
list_files = WhiteNoiseMiddleware.add_files_from_finders


def list_files_once(of: WhiteNoiseMiddleware) -> None:
    """Every client of a test has middleware of its own, which would look at each static file when it is made."""
    if not listed:
        list_files(of)
        listed.update(of.files)
    of.files.update(listed)


WhiteNoiseMiddleware.add_files_from_finders = list_files_once


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> Iterator[None]:
    """The database of the tests begins as a migrated one."""
    with migrated.beneath(connection):
        yield
