"""Whoever is refused learns why, who may, and what to do next; error pages keep the way on."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core.exceptions import SuspiciousOperation
from django.test import Client, RequestFactory

from federations import permissions
from federations.models import Membership, Role
from federations.services import federations
from federations.web import errors, labels
from fedwire.errors import FedportalError
from tests.cast import Cast


def text_of(answer: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode().partition("<main")[2]).split())


def test_a_refused_page_names_the_people_of_ones_own_organization_who_may(cast: Cast) -> None:
    cast.colleague(cast.acme, Role.ADMIN)
    cast.colleague(cast.acme, Role.DATA_SCIENTIST)
    answer = cast.browser("otto").get("/federations/new")
    text = text_of(answer)
    assert answer.status_code == 403
    assert "An owner or an admin of acme may do this. In acme these are Olga (owner), admin (admin)." in text
    assert "You are viewer." in text
    assert "Ask one of them to do it" in text
    assert "data scientist" not in text
    assert 'href="mailto:olga@acme.example"' in answer.content.decode()


def test_people_of_other_organizations_are_never_named(cast: Cast) -> None:
    address = f"/federations/{cast.federation.public_id}/members/{cast.metro.public_id}/suspend"
    answer = cast.browser("mia").get(address)
    assert answer.status_code == 403
    assert "An owner or an admin of acme may do this. Nobody in metro may." in text_of(answer)
    assert "another role in yours would not help" in text_of(answer)
    assert "olga" not in answer.content.decode().lower()


def test_who_is_locked_out_or_gone_is_not_named(cast: Cast) -> None:
    admin = cast.colleague(cast.acme, Role.ADMIN)
    assert {row.person for row in _may(cast)} == {cast.olga, admin}
    admin.is_active = False
    admin.save()
    assert {row.person for row in _may(cast)} == {cast.olga}
    Membership.objects.filter(person=cast.olga).delete()
    assert not _may(cast).exists()


def _may(cast: Cast) -> Any:
    return permissions.people_who_may("organization.found_federation", cast.acme, cast.acme)


@pytest.mark.parametrize("action", ["federation.share", "federation.invite", "organization.set_policy"])
def test_the_people_named_are_exactly_those_who_may(action: str, cast: Cast) -> None:
    for role in Role:
        if role != Role.OWNER:
            cast.colleague(cast.metro, role)
    federations.leave(cast.actor("mia"), cast.federation)
    for federation_is_ours in (False, True):
        if federation_is_ours:
            federations.invite(cast.actor("olga"), cast.federation, org_ids=[cast.metro.public_id])
            federations.join(cast.actor("mia"), cast.federation)
        obj = cast.metro if action.startswith("organization") else cast.federation
        expected = {
            row.person
            for row in Membership.objects.filter(organization=cast.metro)
            if permissions.can(permissions.Actor(row.person, cast.metro), action, obj)
        }
        assert {row.person for row in permissions.people_who_may(action, obj, cast.metro)} == expected


def test_a_refusal_leads_back_to_where_one_was(cast: Cast) -> None:
    came_from = {"Referer": "http://testserver/federations?page=2"}
    page = cast.browser("otto").get("/federations/new", headers=came_from).content.decode()
    assert 'href="http://testserver/federations?page=2"' in page
    elsewhere = {"Referer": "https://evil.example/federations"}
    assert "evil" not in cast.browser("otto").get("/federations/new", headers=elsewhere).content.decode()


def test_a_missing_page_keeps_the_navigation_of_who_is_signed_in(cast: Cast) -> None:
    answer = cast.browser("otto").get("/no-such-page")
    assert answer.status_code == 404
    assert 'href="/federations"' in answer.content.decode()
    stranger = Client().get("/no-such-page")
    assert stranger.status_code == 404
    assert 'href="/sign-in"' in stranger.content.decode()
    assert 'href="/federations"' not in stranger.content.decode()


def test_a_form_that_is_too_old_says_that_nothing_changed(cast: Cast) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(cast.olga, backend="django.contrib.auth.backends.ModelBackend")
    answer = browser.post("/federations/new", {"name": "circle"})
    assert answer.status_code == 403
    assert "Nothing was changed" in text_of(answer)
    assert 'href="/federations"' in answer.content.decode()


def test_a_broken_page_has_a_frame_and_does_without_when_the_frame_is_broken_too(cast: Cast) -> None:
    request = RequestFactory().get("/")
    request.user = cast.olga
    request.session = {}
    request._messages = []
    whole = errors.broken(request)
    assert (whole.status_code, b'href="/federations"' in whole.content) == (500, True)
    request.user, request.session = cast.olga, None
    del request.actor
    plain = errors.broken(request)
    assert (plain.status_code, b"wrong on our side" in plain.content, b"/federations" in plain.content) == (
        500,
        True,
        False,
    )


def test_a_page_calls_a_field_by_its_label_and_the_api_by_its_name(cast: Cast) -> None:
    browser = cast.browser("olga")
    for field in ("least_devices", "least_records", "device_key_days", "rollback_error_rate", "privacy_delta"):
        page = browser.post("/policy", {field: "many"}).content.decode()
        (quoted,) = re.findall("Nothing was changed. “(.+?)” is not usable", page)
        assert f'<label for="{field}">{quoted}</label>' in page
        assert "The field" not in page
    error = FedportalError("field_invalid", field="config.learning_rate", reason="it must be a number.")
    assert labels.sentence(error) == "“Learning rate” is not usable: it must be a number."
    assert "'config.learning_rate'" in error.message


def test_a_request_that_cannot_be_trusted_is_answered_without_looking_anything_up() -> None:
    answer = errors.bad_request(RequestFactory().get("/"), SuspiciousOperation())
    assert (answer.status_code, b"not usable" in answer.content) == (400, True)
