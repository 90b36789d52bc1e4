"""What is heavy for good reasons in life and the same in every test, made light for this process and those it forks."""

from __future__ import annotations

import warnings
from typing import Any

from django.contrib.auth.hashers import Argon2PasswordHasher
from django.contrib.auth.password_validation import get_default_password_validators
from django.core.validators import validate_email
from django.db.migrations.loader import MigrationLoader
from django.urls import get_resolver
from whitenoise.middleware import WhiteNoiseMiddleware

_list_files = WhiteNoiseMiddleware.add_files_from_finders
_listed: dict[str, Any] = {}


def lighten() -> None:
    """Passwords are cheap to hash, and static files are listed once.

    A hash costs a fifth of a second, on purpose; and every client of a test and every portal would look at each file.
    """
    Argon2PasswordHasher.time_cost, Argon2PasswordHasher.memory_cost, Argon2PasswordHasher.parallelism = 1, 64, 1
    WhiteNoiseMiddleware.add_files_from_finders = _add_listed


def prime() -> None:
    """Make what Django makes when it is first asked: migrations, static files, addresses, and what checks words."""
    MigrationLoader(None)
    with warnings.catch_warnings(action="ignore"):  # no file was collected
        WhiteNoiseMiddleware(lambda request: None)
    assert get_resolver().reverse_dict is not None
    get_default_password_validators()
    validate_email("olga@acme.example")


def _add_listed(of: WhiteNoiseMiddleware) -> None:
    if not _listed:
        _list_files(of)
        _listed.update(of.files)
    of.files.update(_listed)
