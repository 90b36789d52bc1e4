"""Signing in and up, as a browser meets it."""

from __future__ import annotations

import re
import time
from urllib.parse import unquote

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from federations.authentication import actor_from
from federations.models import Person
from federations.services import people, second_factor
from fedwire.errors import FedportalError
from tests.cast import PASSWORD, Cast
from tests.federations.authenticator import code
from tests.federations.helpers import recorded
from tests.web.browsers import GUEST, IP, OLGA, is_in, letter_code, signed_in, text_of, with_factor

ELSEWHERE = ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "///evil.example"]
FORM = {"name": "Gina", "email": GUEST, "password": PASSWORD, "organization_name": "guest-clinic"}


# --- signing up ------------------------------------------------------------------------------------------------------


def test_signing_up_by_the_letters_code(cast: Cast) -> None:
    browser = Client()
    assert browser.post("/sign-up", FORM)["Location"] == "/sign-up/code"
    assert not is_in(browser)
    assert GUEST in text_of(browser.get("/sign-up/code"))
    wrong = browser.post("/sign-up/code", {"code": "1"})
    assert (wrong.status_code, "This code is not right" in text_of(wrong)) == (400, True)
    assert browser.post("/sign-up/code", {"code": letter_code(GUEST)})["Location"] == "/"
    page = text_of(browser.get("/"))
    assert "guest-clinic" in page
    assert "First steps" in page
    assert browser.get("/sign-up/code")["Location"] == "/"


def test_before_the_code_one_cannot_sign_in(cast: Cast) -> None:
    Client().post("/sign-up", FORM)
    answer = Client().post("/sign-in", {"email": GUEST, "password": PASSWORD})
    assert answer.status_code == 401


def test_the_code_works_in_the_browser_that_asked_for_it_only(cast: Cast) -> None:
    Client().post("/sign-up", FORM)
    other = Client()
    assert other.post("/sign-up/code", {"code": letter_code(GUEST)})["Location"] == "/sign-up"
    assert not Person.objects.filter(email=GUEST).exists()


def test_signing_up_tells_nobody_which_addresses_are_known(cast: Cast) -> None:
    pages = []
    for email in (OLGA, GUEST):
        browser = Client()
        answer = browser.post("/sign-up", FORM | {"email": email})
        wrong = browser.post("/sign-up/code", {"code": "00000000"})
        page = re.sub(r'value="\w{64}"', "", wrong.content.decode()).replace(email, "…")
        pages.append((answer.status_code, answer["Location"], wrong.status_code, page))
    assert pages[0] == pages[1]


def test_the_form_keeps_what_was_typed_but_not_the_password(cast: Cast) -> None:
    answer = Client().post("/sign-up", FORM | {"organization_name": "acme"})
    assert answer.status_code == 409
    assert GUEST in answer.content.decode()
    assert PASSWORD not in answer.content.decode()


def test_whoever_belongs_to_no_organization_founds_one(cast: Cast) -> None:
    people.sign_up(GUEST, PASSWORD, "Gina")
    browser = signed_in(GUEST)
    assert "/organizations/new" in browser.get("/").content.decode()
    taken = browser.post("/organizations/new", {"name": "acme"})
    assert (taken.status_code, 'value="acme"' in taken.content.decode()) == (409, True)
    with recorded("organization.founded"):
        browser.post("/organizations/new", {"name": "guest-clinic"})
    assert "guest-clinic" in text_of(browser.get("/"))


# --- signing in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/models?text=a&page=2", "/federations"])
def test_signing_in_leads_to_where_one_wanted_to_go(cast: Cast, target: str) -> None:
    page = Client().get("/sign-in", {"next": target}).content.decode()
    assert f'name="next" value="{target.replace("&", "&amp;")}"' in page
    said = {"email": OLGA, "password": PASSWORD, "next": target}
    assert Client().post("/sign-in", said)["Location"] == target


@pytest.mark.parametrize("target", ELSEWHERE)
def test_neither_sign_in_nor_second_factor_nor_confirmation_lead_elsewhere(cast: Cast, target: str) -> None:
    secret = with_factor(cast.olga)
    browser = signed_in(next=target)
    assert browser.post("/sign-in/second-factor", {"code": code(secret), "next": target})["Location"] == "/"
    assert target not in unquote(browser.get("/account/confirm", {"next": target}).content.decode())
    said = {"password": PASSWORD, "code": code(secret, 1), "next": target}
    assert browser.post("/account/confirm", said)["Location"] == "/account"


def test_the_second_factor_is_asked_for_and_nothing_opens_before_it(cast: Cast) -> None:
    secret = with_factor(cast.olga)
    browser = Client()
    said = {"email": OLGA, "password": PASSWORD, "next": "/models"}
    assert browser.post("/sign-in", said)["Location"] == "/sign-in/second-factor"
    assert not is_in(browser)
    assert browser.get("/api/v1/whoami").status_code == 401
    with pytest.raises(FedportalError, match="credentials"):  # what sockets and downloads ask
        actor_from("", {name: morsel.value for name, morsel in browser.cookies.items()})
    wrong = browser.post("/sign-in/second-factor", {"code": "000000"})
    assert (wrong.status_code, "not right" in text_of(wrong)) == (400, True)
    assert browser.post("/sign-in/second-factor", {"code": code(secret)})["Location"] == "/models"
    assert is_in(browser)
    assert actor_from("", {name: morsel.value for name, morsel in browser.cookies.items()}).person == cast.olga


def test_the_second_step_cannot_be_taken_first(cast: Cast) -> None:
    secret = with_factor(cast.olga)
    browser = Client()
    assert browser.post("/sign-in/second-factor", {"code": code(secret)})["Location"] == "/sign-in"
    assert not is_in(browser)


def test_a_recovery_code_opens_in_place_of_the_authenticator(cast: Cast) -> None:
    secret = second_factor.new_secret()
    codes = second_factor.turn_on(cast.olga, secret, code(secret, -1), IP)
    browser = signed_in()
    browser.post("/sign-in/second-factor", {"code": codes[0]})
    assert is_in(browser)
    again = signed_in()
    assert again.post("/sign-in/second-factor", {"code": codes[0]}).status_code == 400


def test_a_second_step_that_lingers_has_to_begin_again(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = with_factor(cast.olga)
    browser = signed_in()
    typed = code(secret)
    now = time.time() + 16 * 60
    monkeypatch.setattr("allauth.account.internal.stagekit.time.time", lambda: now)
    assert browser.post("/sign-in/second-factor", {"code": typed})["Location"] == "/sign-in"


def test_an_unproven_address_is_told_how_to_prove_it(cast: Cast) -> None:
    EmailAddress.objects.filter(user=cast.olga).delete()
    answer = Client().post("/sign-in", {"email": OLGA, "password": PASSWORD})
    assert answer.status_code == 403
    assert "not proven yet" in text_of(answer)


def test_too_many_tries_are_told_with_the_time_to_wait(cast: Cast) -> None:
    secret = with_factor(cast.olga)
    browser = signed_in()
    for _ in range(10):
        browser.post("/sign-in/second-factor", {"code": "000000"})
    answer = browser.post("/sign-in/second-factor", {"code": code(secret)})
    assert answer.status_code == 429
    assert re.search(r"Wait \d+ minutes and", text_of(answer))
