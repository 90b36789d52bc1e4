"""Whoever had an account before proofs of addresses began keeps it."""

from __future__ import annotations

from importlib import import_module

from allauth.account.models import EmailAddress
from django.apps import apps

from federations.services import people
from tests.cast import Cast


def test_people_who_were_there_before_have_proven_addresses(cast: Cast) -> None:
    EmailAddress.objects.exclude(user=cast.rex).delete()
    assert not people.is_proven(cast.olga)
    trust = import_module("federations.migrations.0003_known_addresses").trust
    for _ in range(2):
        trust(apps, None)
    assert all(map(people.is_proven, (cast.olga, cast.otto, cast.mia, cast.vera, cast.rex)))
    assert EmailAddress.objects.count() == 5
