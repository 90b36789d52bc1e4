"""Every address × everybody who may knock × own, foreign and missing objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection, transaction
from django.test import Client

from tests.permissions import addresses, table
from tests.permissions.knocking import knock
from tests.permissions.stage import Stage, build
from tests.permissions.table import DEVICE_ROWS, DOOR_ROWS, PUBLIC, ROWS, STAFF_ONLY, Row

# Asks pytest for a test database; the stage itself stays from test to test.
pytestmark = pytest.mark.django_db

DEVICES = ("device", "other_device", "revoked_device")
PEOPLE = ("olga", "otto", "mia", "vera", "rex")


@pytest.fixture(scope="module")
def stage(django_db_setup: None, django_db_blocker: Any, tmp_path_factory: Any) -> Iterator[Stage]:
    """One stage for the whole table; what a request changes is undone after it."""
    with django_db_blocker.unblock(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.conf.settings.PASSWORD_HASHERS", ["django.contrib.auth.hashers.MD5PasswordHasher"])
        patch.setattr("django.conf.settings.FEDPORTAL_DATA_DIR", tmp_path_factory.mktemp("data"))
        with transaction.atomic():
            yield build()
            transaction.set_rollback(True)


@contextmanager
def undone() -> Iterator[None]:
    """Whatever happens inside leaves no trace in the database."""
    point = transaction.savepoint()
    try:
        yield
    finally:
        transaction.savepoint_rollback(point)
        connection.run_on_commit = []


def ask(client: Client, row: Row, stage: Stage, world: dict[str, str]) -> tuple[int, Any]:
    """Status and JSON, or the page without what differs by itself, of one request that is undone afterwards."""
    address = addresses.filled(row.route, world, dict(row.places)) + row.query
    body = row.body(stage, world)
    kind = "application/x-www-form-urlencoded" if row.page else "application/json"
    cookies = deepcopy(client.cookies)  # signing out takes them away
    with undone():
        text = urlencode(body) if row.page else json.dumps(body)
        response = client.generic(row.method, address, text, content_type=kind)
        content = b"".join(response).decode()  # a file comes in pieces
    client.cookies = cookies
    return response.status_code, json.loads(content) if content.startswith(("{", "[")) else plain(content, world)


def plain(content: str, world: dict[str, str]) -> str:
    """A page without the tokens against forged requests and without the ids that were asked for."""
    for value in world.values():
        content = content.replace(value, "…")
    return re.sub(r'name="csrfmiddlewaretoken" value="\w+"|nonce="[^"]*"', "", content)


def expected(row: Row, who: str) -> int:
    """What the table says for acme's object, or for an address without an object."""
    name = who.removesuffix("_session")
    if row.page and not who.endswith("_session") and who != "staff":
        return 302  # to sign in; a page reads no key
    if name == "anonymous":
        return 401
    if name in DEVICES:
        return 403
    if name == "staff":
        return row.staff
    if name == "rex":
        if addresses.places(row.route):
            return 404
        return row.rex if row.rex is not None else row.olga
    if who != name and row.session is not None:
        return row.session
    return int(getattr(row, name))


def expected_missing(row: Row, who: str) -> int:
    """What everybody gets for an object that does not exist."""
    if who == "staff":
        return row.staff
    found = expected(row, who)
    return found if (found in (302, 401) and not who.endswith("_session")) or who in DEVICES else 404


def test_every_address_of_django_stands_in_the_table() -> None:
    listed = {(row.method, row.route) for row in ROWS} | set(DEVICE_ROWS) | {("POST", table.REGISTER)}
    missing = [
        f"{method} {route}"
        for method, route in addresses.django_addresses()
        if (method, route) not in listed and route not in PUBLIC and not route.startswith(STAFF_ONLY)
    ]
    assert missing == []


def test_every_address_of_the_door_stands_in_the_table() -> None:
    assert set(addresses.door_addresses()) == set(DOOR_ROWS)


def test_the_table_names_no_address_that_is_gone() -> None:
    found = set(addresses.django_addresses())
    assert [row.name for row in ROWS if (row.method, row.route) not in found] == []
    assert [key for key in DEVICE_ROWS if key not in found] == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_own_object(row: Row, stage: Stage) -> None:
    got = {who: ask(client, row, stage, stage.own)[0] for who, client in stage.clients.items()}
    assert got == {who: expected(row, who) for who in stage.clients}


@pytest.mark.parametrize("row", [row for row in ROWS if addresses.places(row.route)], ids=lambda row: row.name)
def test_a_foreign_object_cannot_be_told_from_a_missing_one(row: Row, stage: Stage) -> None:
    for who, client in stage.clients.items():
        foreign, missing = ask(client, row, stage, stage.foreign), ask(client, row, stage, stage.missing)
        if who.startswith("rex"):
            assert (who, foreign[0]) == (who, expected(row, who.replace("rex", "olga")))
        else:
            assert (who, foreign) == (who, missing)
        assert (who, missing[0]) == (who, expected_missing(row, who))


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.mixed and len(addresses.places(row.route)) > 1], ids=lambda row: row.name
)
def test_a_foreign_part_of_an_own_object_cannot_be_told_from_a_missing_one(row: Row, stage: Stage) -> None:
    first, *others = (row.places.get(place, place) for place in addresses.places(row.route))
    strange = stage.own | {place: stage.foreign[place] for place in others}
    nowhere = stage.own | {place: stage.missing[place] for place in others}
    for who in ("olga_session", "otto_session", "mia_session", "staff"):
        client = stage.clients[who]
        foreign, missing = ask(client, row, stage, strange), ask(client, row, stage, nowhere)
        assert (who, foreign) == (who, missing)
        assert foreign[0] in (403, 404), who
    assert first in stage.own


UNSAFE = [row for row in ROWS if row.method != "GET"]


@pytest.mark.parametrize("row", UNSAFE, ids=lambda row: row.name)
def test_a_session_without_the_token_against_forged_requests_changes_nothing(row: Row, stage: Stage) -> None:
    forged = Client(enforce_csrf_checks=True)
    forged.cookies = stage.clients["olga_session"].cookies
    assert ask(forged, row, stage, stage.own)[0] == 403


@pytest.mark.parametrize("row", [row for row in ROWS if not row.page], ids=lambda row: row.name)
def test_a_key_and_a_session_together_are_refused(row: Row, stage: Stage) -> None:
    both = Client(headers={"Authorization": f"Bearer {stage.tokens['olga']}"})
    both.cookies = stage.clients["olga_session"].cookies
    status, body = ask(both, row, stage, stage.own)
    assert (status, body["error"]) == (400, "two_credentials")


@pytest.mark.parametrize("key", DEVICE_ROWS, ids=lambda key: f"{key[0]} {key[1]}")
def test_the_devices_own_addresses(key: tuple[str, str], stage: Stage) -> None:
    row = Row(*key, 401, 401, 401, 401, staff=401)
    for who, client in stage.clients.items():
        own = {"device": DEVICE_ROWS[key], "other_device": 404, "revoked_device": 403}.get(who, 401)
        other = {"device": 404, "other_device": 404, "revoked_device": 403}.get(who, 401)
        assert (who, ask(client, row, stage, stage.own)[0]) == (who, own)
        foreign, missing = ask(client, row, stage, stage.foreign), ask(client, row, stage, stage.missing)
        assert (who, foreign) == (who, missing)
        assert (who, foreign[0]) == (who, other)


@pytest.mark.parametrize("key", DOOR_ROWS, ids=lambda key: f"{key[0]} {key[1]}")
def test_what_is_answered_in_front_of_django(key: tuple[str, str], stage: Stage) -> None:
    wanted = DOOR_ROWS[key]
    everybody = {who: ("", stage.sessions[who]) for who in stage.sessions} | {
        who: (token, "") for who, token in stage.tokens.items()
    }
    for who, (token, session) in {**everybody, "anonymous": ("", "")}.items():
        if session and key[0] != "GET":
            continue  # needs the token against forged requests; tests/registry looks at it
        answers = []
        for world in (stage.own, stage.foreign, stage.missing):
            with undone():
                answers.append(knock(*key, world, token, session))
        own, foreign, missing = answers
        first = {"rex": "olga"}.get(who.removesuffix("_session"), "")
        if "{" in key[1]:
            assert (who, own[0]) == (who, door_expected(wanted, who))
            assert (who, foreign[0] if first else foreign) == (who, door_expected(wanted, first) if first else missing)
        else:
            assert (who, own[0]) == (who, door_expected(wanted, "device" if who == "other_device" else who))


def door_expected(wanted: int | tuple[int, int, int, int] | None, who: str) -> int:
    """What the table says for acme's object at an address in front of Django."""
    name = who.removesuffix("_session")
    if wanted is None:
        return 403
    if isinstance(wanted, int):
        return {"device": wanted, "other_device": 404, "revoked_device": 403}.get(name, 401)
    if name in ("olga", "otto", "mia", "vera"):
        return wanted[("olga", "otto", "mia", "vera").index(name)]
    return 401 if name == "anonymous" else 403 if name in DEVICES else 404


def test_registration_needs_a_key_and_a_right(stage: Stage) -> None:
    row = Row("POST", table.REGISTER, 201, 403, 201, 201, staff=403, body=table.fresh_registration, session=403)
    for who, client in stage.clients.items():
        stage.memory["token"] = stage.tokens.get(who, stage.tokens["olga"])
        assert (who, ask(client, row, stage, stage.own)[0]) == (
            who,
            403 if who == "rex_session" else expected(row, who),
        )


def test_the_admin_site_is_for_staff_only(stage: Stage) -> None:
    pages = [route for _, route in addresses.django_addresses() if route.startswith(STAFF_ONLY) and "<" not in route]
    signing_in = ("admin/login/", "admin/logout/", "admin/jsi18n/")
    for route in sorted(set(pages) - set(signing_in)):
        if "(" in route:  # a pattern for whatever is left
            continue
        for who, client in stage.clients.items():
            if who == "staff":  # what it sees there is looked at in the tests of each floor
                continue
            with undone():
                status = client.get(f"/{route}").status_code
            refused = 403 if "sessionid" in client.cookies else 302  # who is not signed in, may sign in
            assert (who, route, status) == (who, route, refused)


@pytest.mark.parametrize("route", PUBLIC)
def test_what_is_public_answers_everybody(route: str, stage: Stage) -> None:
    for who, client in stage.clients.items():
        if "<" not in route:
            # To write the description of the API as YAML takes a third of a second.
            status = client.get(f"/{route}", headers={"Accept": "application/json, text/html"}).status_code
            expected = 302 if route == "favicon.ico" else 200
            assert (who, status if route != "sdk/" else 200) == (who, expected)
