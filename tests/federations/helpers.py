"""What several of these tests need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import Client

from federations.models import AuditEntry, Letter
from federations.services import confirming, spreading
from fedwire.errors import FedportalError


@contextmanager
def refused(code: str, **context: Any) -> Iterator[None]:
    """Inside, an error with this code and at least this context is raised, and no audit entry is written."""
    before = AuditEntry.objects.count()
    with pytest.raises(FedportalError) as caught:
        yield
    assert caught.value.code == code
    assert {name: caught.value.context.get(name) for name in context} == context
    assert AuditEntry.objects.count() == before


@contextmanager
def recorded(action: str, subject: str = "", *, after: Sequence[str] = ()) -> Iterator[None]:
    """Inside, exactly this audit entry is written, and none before it but those of the actions in `after`."""
    before = set(AuditEntry.objects.values_list("pk", flat=True))
    yield
    fresh = list(AuditEntry.objects.exclude(pk__in=before).order_by("pk"))
    assert [entry.action for entry in fresh] == [*after, action]
    if subject:
        assert fresh[-1].subject == subject


def letters_to(address: str) -> list[Letter]:
    """The letters to an address, oldest first, once what was told is spread."""
    spreading.spread_due()
    return list(Letter.objects.filter(to=address).order_by("pk"))


def confirmed(browser: Client) -> Client:
    """The browser, whose person has just shown who they are."""
    session = browser.session
    confirming.note_confirmed(session)
    session.save()
    return browser


def links(address: str) -> list[str]:
    """The links in the letters to an address, newest last."""
    letters = Letter.objects.filter(to=address).order_by("pk")
    lines = [line for letter in letters for line in letter.text.splitlines()]
    return [line for line in lines if line.startswith("http") and "/" in line[8:]]


def token_for(address: str) -> str:
    """The token in the last invitation letter to an address."""
    return [link for link in links(address) if "/invitations/" in link][-1].rpartition("/")[2]
