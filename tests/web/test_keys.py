"""The page of API keys: what each may do, until when, who made it, shown once, ended for good."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext

from federations import roles
from federations.models import ApiKey
from fedportal.common import clock
from tests.cast import Cast, client_with, register
from tests.web.browsers import text_of


def make(browser: Client, **said: Any) -> HttpResponse:
    answer: HttpResponse = browser.post("/keys", {"name": "ward 3", "scopes": ["devices:enroll"], **said})
    return answer


def fresh(answer: HttpResponse) -> str:
    """The text of the key that the page shows."""
    found = re.search(r'id="fresh-key">(edg_\w+)<', answer.content.decode())
    assert found is not None
    return found[1]


def row_of(browser: Client, name: str) -> str:
    """What the list says of a key."""
    rows = re.findall(r"<tr>.*?</tr>", browser.get("/keys").content.decode(), re.DOTALL)
    return next(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)) for row in rows if name in row)


def test_every_scope_is_explained_in_a_sentence(cast: Cast) -> None:
    assert set(roles.SCOPE_WORDS) == set(roles.SCOPES)
    page = text_of(cast.browser("olga").get("/keys"))
    assert not [words for words in roles.SCOPE_WORDS.values() if words not in page]


def test_a_key_is_shown_once_with_a_button_to_copy_it(cast: Cast) -> None:
    browser = cast.browser("olga")
    answer = make(browser)
    assert 'data-copy="fresh-key"' in answer.content.decode()
    text = fresh(answer)
    assert text not in browser.get("/keys").content.decode()
    assert ApiKey.objects.get(lookup=text[4:12]).scopes == ["devices:enroll"]


@pytest.mark.parametrize(("lasts", "days"), [("30", 30), ("90", 90), ("365", 365)])
def test_a_key_ends_after_the_days_that_were_chosen(cast: Cast, lasts: str, days: int) -> None:
    now = datetime(2031, 5, 6, 7, 8, tzinfo=UTC)
    with clock.frozen(now):
        text = fresh(make(cast.browser("olga"), lasts=lasts))
    assert ApiKey.objects.get(lookup=text[4:12]).expires_at == now + timedelta(days=days)


def test_a_key_works_to_the_end_of_a_chosen_day(cast: Cast) -> None:
    day = (clock.now() + timedelta(days=9)).date()
    text = fresh(make(cast.browser("olga"), lasts="date", day=day.isoformat(), scopes=["*"]))
    at = datetime.combine(day, datetime.min.time(), tzinfo=UTC)
    with clock.frozen(at + timedelta(hours=23, minutes=59)):
        assert client_with(text).get("/api/v1/whoami").status_code == 200
    with clock.frozen(at + timedelta(days=1)):
        assert client_with(text).get("/api/v1/whoami").json()["error"] == "key_expired"


def test_a_key_without_an_end_has_to_be_chosen(cast: Cast) -> None:
    browser = cast.browser("olga")
    assert ApiKey.objects.get(lookup=fresh(make(browser))[4:12]).expires_at is not None
    assert ApiKey.objects.get(lookup=fresh(make(browser, lasts="never"))[4:12]).expires_at is None


@pytest.mark.parametrize(
    "said",
    [
        {"lasts": "date"},
        {"lasts": "date", "day": "2031-02-30"},
        {"lasts": "date", "day": "2020-01-01"},
        {"lasts": "31"},
        {"lasts": "-1"},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"device_limit": "many"},
        {"device_limit": "0"},
        {"device_limit": "9" * 30},
        {"name": " "},
    ],
    ids=str,
)
def test_what_is_not_usable_is_told_in_the_form_which_keeps_the_rest(cast: Cast, said: dict[str, Any]) -> None:
    before = ApiKey.objects.count()
    answer = make(cast.browser("olga"), **({"device_limit": "7", "scopes": ["runs:read"]} | said))
    assert answer.status_code == 400
    assert 'role="alert"' in answer.content.decode()
    if "scopes" not in said:
        assert re.search(r'value="runs:read" checked', answer.content.decode())
    assert ApiKey.objects.count() == before


def test_the_list_says_who_made_it_what_it_may_and_how_many_devices_it_registered(cast: Cast) -> None:
    browser = cast.browser("olga")
    text = fresh(make(browser, name="three at most", device_limit="3"))
    register(text, "acme-001")
    row = row_of(browser, "three at most")
    assert "Olga" in row
    assert "devices:enroll" in row
    assert "1 of 3" in row
    assert "usable" in row


def test_revoked_and_expired_keys_are_marked_and_not_revoked_again(cast: Cast) -> None:
    browser = cast.browser("olga")
    for name in ("over", "gone"):
        make(browser, name=name, lasts="30")
    gone = ApiKey.objects.get(name="gone")
    assert "refused from now on" in text_of(browser.get(f"/keys/{gone.public_id}/revoke"))
    assert ApiKey.objects.get(name="gone").revoked_at is None
    browser.post(f"/keys/{gone.public_id}/revoke")
    ApiKey.objects.filter(name="over").update(expires_at=clock.now() - timedelta(days=1))
    assert ("expired" in row_of(browser, "over"), "Revoke" in row_of(browser, "over")) == (True, False)
    assert ("revoked" in row_of(browser, "gone"), "Revoke" in row_of(browser, "gone")) == (True, False)


def test_the_first_key_is_led_to(cast: Cast) -> None:
    ApiKey.objects.all().delete()
    assert "No key yet" in text_of(cast.browser("otto").get("/keys"))


@pytest.mark.parametrize("place", ["/keys", "/account/sessions"])
def test_the_lists_ask_the_database_as_often_for_many_rows_as_for_few(cast: Cast, place: str) -> None:
    def fill(rows: int) -> None:
        for _ in range(rows):
            if place == "/keys":
                cast.key_for(cast.otto, cast.acme, ["runs:read"])
            else:
                cast.browser("olga").get("/account")

    browser = cast.browser("olga")
    browser.get(place)
    counts = []
    for rows in (2, 20):
        fill(rows)
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(place).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_only_scopes_of_ones_role_are_offered(cast: Cast) -> None:
    shown = cast.browser("otto").get("/keys").content.decode()
    offered = re.findall(r'type="checkbox" name="scopes" value="([^"]+)"( checked)?', shown)
    assert sorted(offered) == [
        (scope, "") for scope in ("*", "federations:read", "models:read", "runs:read", "team:read")
    ]
    assert re.search(r'value="devices:enroll" checked', cast.browser("olga").get("/keys").content.decode())


def test_a_scope_of_another_role_is_refused_and_told_whose_it_is(cast: Cast) -> None:
    answer = make(cast.browser("otto"))
    assert answer.status_code == 403
    assert "You may not make a key for devices:enroll here." in text_of(answer)
    assert "Data scientist" in text_of(answer)
    assert not ApiKey.objects.filter(name="ward 3").exists()
    assert "everything" in text_of(make(cast.browser("otto"), scopes=["*"]))
