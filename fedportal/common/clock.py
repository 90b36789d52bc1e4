"""The portal's clock. Everything that needs the time asks here, so that a test can set it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

_offset = timedelta()
_frozen: datetime | None = None


def now() -> datetime:
    """The present moment, with its zone (UTC)."""
    return (_frozen or datetime.now(UTC)) + _offset


@contextmanager
def frozen(at: datetime) -> Iterator[None]:
    """Let the clock stand at `at` (tests only)."""
    global _frozen
    before, _frozen = _frozen, at
    try:
        yield
    finally:
        _frozen = before


@contextmanager
def shifted(by: timedelta) -> Iterator[None]:
    """Let the clock run ahead (or behind) by `by` (tests only)."""
    global _offset
    before, _offset = _offset, _offset + by
    try:
        yield
    finally:
        _offset = before
