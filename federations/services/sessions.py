"""The browsers in which somebody is signed in: which they are, and how one ends.

The rows are allauth's. When a session was last seen is kept to five minutes; more often would mean a write with every
page.
"""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from allauth.usersessions.models import UserSession
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore

from federations.models import Person
from federations.services import audit
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

SEEN_EVERY = timedelta(minutes=5)
REMEMBERED = 10_000
# As many sessions that are over are forgotten at once.
SWEPT = 1000
# When this process last noted a session, so that most pages ask the database nothing.
_noted: dict[str, float] = {}

BROWSERS = (
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("HeadlessChrome", "Chrome"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
)
SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


@dataclass(frozen=True)
class Place:
    """One browser in which somebody is signed in."""

    id: int
    words: str
    ip: str
    since: datetime
    last_seen: datetime
    here: bool


def note(request: Any) -> None:
    """Remember that the session of this request was seen just now, to five minutes."""
    key = request.session.session_key
    now = time.monotonic()
    if not key or now - _noted.get(key, -1e9) < SEEN_EVERY.total_seconds():
        return
    if len(_noted) > REMEMBERED:
        _noted.clear()
    _noted[key] = now
    UserSession.objects.create_from_request(request)


def of(person: Person, key: str | None) -> list[Place]:
    """Where the person is signed in, the browser with the session `key` first, then the last seen."""
    rows = list(UserSession.objects.filter(user=person))
    open_keys = _open([row.session_key for row in rows], person)
    UserSession.objects.filter(pk__in=[row.pk for row in rows if row.session_key not in open_keys]).delete()
    places = [
        Place(
            row.pk,
            words_for(row.user_agent),
            "" if ipaddress.ip_address(row.ip).is_unspecified else row.ip,
            row.created_at,
            row.last_seen_at,
            row.session_key == key,
        )
        for row in rows
        if row.session_key in open_keys
    ]
    return sorted(places, key=lambda place: (not place.here, -place.last_seen.timestamp()))


def find(person: Person, number: int) -> Any:
    """One of the person's own sessions. Raises `not_found`, alike for missing ones and those of others."""
    found = UserSession.objects.filter(user=person, pk=number).first()
    if found is None:
        raise FedportalError("not_found", what="session")
    return found


def is_open(key: str) -> bool:
    """Whether the session `key` has not ended."""
    stored = SessionStore.get_model_class().objects.filter(session_key=key, expire_date__gt=clock.now())
    return bool(stored.exists())


def sweep() -> int:
    """Forget sessions that are over; how many. A pass of the sweeper, bounded, so that it holds up nobody."""
    table = SessionStore.get_model_class().objects
    over = table.filter(expire_date__lt=clock.now()).order_by("expire_date")
    keys = list(over.values_list("session_key", flat=True)[:SWEPT])
    UserSession.objects.filter(session_key__in=keys).delete()
    table.filter(session_key__in=keys).delete()
    return len(keys)


def end(person: Person, number: int) -> None:
    """Sign one browser out at once. Raises `not_found`."""
    with unit():
        _end([find(person, number)])
        audit.record(None, person, "person.session_ended", person.public_id, sessions=1)


def end_others(person: Person, key: str | None) -> int:
    """Sign every other browser out at once; how many."""
    with unit():
        others = list(UserSession.objects.filter(user=person).exclude(session_key=key))
        if others:
            _end(others)
            audit.record(None, person, "person.session_ended", person.public_id, sessions=len(others))
    return len(others)


def words_for(user_agent: str) -> str:
    """What a browser calls itself, as a person would: "Firefox on Linux"."""
    browser = next((name for mark, name in BROWSERS if re.search(rf"\b{mark}/", user_agent)), "A browser")
    system = next((name for mark, name in SYSTEMS if mark in user_agent), "")
    return f"{browser} on {system}" if system else browser


def _open(keys: Sequence[str], person: Person) -> set[str]:
    """Which of these sessions still open the person's account: not ended, not over, not of an older password."""
    stored = SessionStore.get_model_class().objects.filter(session_key__in=keys, expire_date__gt=clock.now())
    hashes = {person.get_session_auth_hash(), *person.get_session_auth_fallback_hash()}
    return {row.session_key for row in stored if row.get_decoded().get(HASH_SESSION_KEY) in hashes}


def _end(rows: Sequence[Any]) -> None:
    SessionStore.get_model_class().objects.filter(session_key__in=[row.session_key for row in rows]).delete()
    UserSession.objects.filter(pk__in=[row.pk for row in rows]).delete()
