"""What an error calls a field is what the page calls it: whoever reads the error finds the field."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from federations.services import agreements, federations
from federations.services.agreements import Draft
from tests.cast import PASSWORD, Cast
from tests.federations.helpers import token_for

KEY = {"name": "ward 3", "scopes": ["devices:enroll"], "lasts": "90"}
DEVICE = {"identifier": "", "data": "rows.csv", "target": "y", "days": "7", "device_limit": "1"}
VERSION = {"title": "Study", "text": "Rules.", "expires_on": ""}
GUEST = "gina@guest.example"
JOINING = {"name": "Gina", "new_password": PASSWORD, "organization_name": "guest-clinic", "answer": "accept"}


def labels_of(page: str) -> set[str]:
    """What the page calls its fields: labels, and the headings of choices."""
    found = re.findall(r"<(label|legend)[^>]*>(.*?)</\1>", page, re.DOTALL)
    words = {" ".join(html.unescape(re.sub(r"<[^>]+>", " ", each)).split()) for _, each in found}
    return {each.removesuffix(" (optional)") for each in words}


def quoted(page: str) -> set[str]:
    """The fields that errors on the page speak of."""
    said = re.findall(r'class="note error" role="alert">(.*?)</p>', page, re.DOTALL)
    return {name for words in said for name in re.findall("“(.+?)” is not usable", html.unescape(words))}


def check(answer: HttpResponse) -> str:
    """That the page is the form again, with an error that names a field as the page does; the page."""
    page = answer.content.decode()
    assert answer.status_code in (400, 403, 409)
    assert 'role="alert"' in page
    assert quoted(page) <= labels_of(page)
    assert not re.search(r"[Ff]ield '", html.unescape(page))
    return page


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ({"name": " "}, "Name"),
        ({"scopes": []}, "What may it do?"),
        ({"lasts": "31"}, "How long does it work?"),
        ({"lasts": "date", "day": "soon"}, "Date"),
        ({"lasts": "date", "day": "2020-01-01"}, "Date"),
        ({"device_limit": "0"}, "Most devices it may register"),
    ],
    ids=str,
)
def test_keys(cast: Cast, said: dict[str, Any], label: str) -> None:
    assert quoted(check(cast.browser("olga").post("/keys", KEY | said))) == {label}


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ({"data": ""}, "File of rows"),
        ({"target": ""}, "Column to predict"),
        ({"days": "0"}, "For how many days"),
        ({"device_limit": "x"}, "Most devices it may register"),
        ({"least_records": "x"}, "Fewest rows of a device"),
        ({"group": "g" * 61}, "Group"),
        ({"identifier": "one", "device_limit": "2"}, "Name of the device"),
    ],
    ids=str,
)
def test_devices(cast: Cast, said: dict[str, Any], label: str) -> None:
    assert quoted(check(cast.browser("olga").post("/devices/new", DEVICE | said))) == {label}


def test_the_name_of_a_device_is_refused_with_what_its_hint_allows(cast: Cast) -> None:
    page = check(cast.browser("olga").post("/devices/new", DEVICE | {"identifier": "ward 3"}))
    assert "letters, digits, dots, dashes or underscores" in page
    assert "spaces" not in page


def test_the_groups_of_a_device(cast: Cast) -> None:
    mia, where = cast.browser("mia"), f"/devices/{cast.metro.devices.get().public_id}"
    answer = mia.post(f"{where}/groups", {"groups": "g" * 61}, headers={"Referer": f"http://testserver{where}"})
    page = mia.get(answer["Location"]).content.decode()
    assert "“Its groups” is not usable" in page
    assert "Its groups" in labels_of(page)


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ({"title": ""}, "Title"),
        ({"text": ""}, "Text"),
        ({"expires_on": "soon"}, "Last day"),
        ({"expires_on": "2001-01-01"}, "Last day"),
    ],
    ids=str,
)
def test_agreements(cast: Cast, said: dict[str, Any], label: str) -> None:
    address = f"/federations/{cast.federation.public_id}/agreements/new"
    assert quoted(check(cast.browser("olga").post(address, VERSION | said))) == {label}


@pytest.fixture
def link(cast: Cast) -> str:
    federations.invite(cast.actor("olga"), cast.federation, emails=[GUEST])
    return f"/invitations/{token_for(GUEST)}"


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"organization_name": "acme"}, "organization_name"),
        ({"organization_name": "a/b"}, "organization_name"),
        ({"organization_name": ""}, "organization_name"),
        ({"name": "x" * 101}, "name"),
        ({"new_password": "short"}, "password"),
        ({"accept_agreement": ""}, "accept"),
    ],
    ids=str,
)
def test_invitations_tell_it_beside_the_field_and_keep_all_but_the_password(
    cast: Cast, link: str, said: dict[str, Any], field: str
) -> None:
    agreement = agreements.publish(cast.actor("olga"), cast.federation, Draft("Study", "Only updates travel."))
    page = check(Client().post(link, JOINING | {"accept_agreement": agreement.public_id} | said))
    assert f'id="{field}-error"' in page
    assert page.index("Only updates travel.") < page.index('role="alert"')
    assert bool(re.search(r'name="accept_agreement"[^>]* checked', page)) == (field != "accept")
    assert PASSWORD not in page
