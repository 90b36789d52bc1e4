"""One's own account as a browser meets it: name, address, password, second factor, sessions; and operators."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session

from federations.models import AuditEntry, Letter, Person
from federations.services import organizations, people, second_factor, sessions
from fedportal.common import clock
from tests.cast import PASSWORD, Cast
from tests.federations.authenticator import code
from tests.federations.helpers import recorded
from tests.web.browsers import GUEST, OLGA, is_in, letter_code, signed_in, text_of, with_factor

PLACE = "/account/second-factor"
TABLES = ("account/emailaddress", "mfa/authenticator", "usersessions/usersession", "socialaccount/socialaccount")


# --- one's own account -----------------------------------------------------------------------------------------------


def test_a_name_is_changed(cast: Cast) -> None:
    browser = signed_in()
    with recorded("person.renamed", cast.olga.public_id):
        browser.post("/account", {"name": " Olga  Acme "})
    assert "Olga Acme" in text_of(browser.get("/account"))
    assert browser.post("/account", {"name": "x" * 101}).status_code == 400


def test_an_address_changes_when_the_new_one_is_proven_and_the_old_one_hears_of_it(cast: Cast) -> None:
    browser = signed_in()
    assert browser.post("/account/address", {"email": "Olga@New.example"})["Location"] == "/account/code"
    assert Person.objects.get(pk=cast.olga.pk).email == OLGA
    with recorded("person.address_changed", cast.olga.public_id):
        browser.post("/account/code", {"code": letter_code("olga@new.example")})
    assert AuditEntry.objects.latest("pk").chain == "portal"
    assert "new.example" not in str(AuditEntry.objects.latest("pk").details)
    assert is_in(browser)
    assert Letter.objects.filter(to=OLGA).latest("pk").subject == "Your account has a new address"
    assert is_in(signed_in("olga@new.example"))
    assert not is_in(signed_in(OLGA))


def test_somebody_elses_address_is_not_taken_and_not_told(cast: Cast) -> None:
    browser = signed_in()
    assert browser.post("/account/address", {"email": cast.otto.email})["Location"] == "/account/code"
    assert Letter.objects.filter(to=cast.otto.email).latest("pk").subject == "You have an account already"
    assert browser.post("/account/code", {"code": "00000000"}).status_code == 400
    assert Person.objects.get(pk=cast.otto.pk).email == cast.otto.email


def test_an_address_that_another_proved_meanwhile_stays_theirs(cast: Cast) -> None:
    browser = signed_in()
    browser.post("/account/address", {"email": GUEST})
    typed = letter_code(GUEST)
    people.sign_up(GUEST, PASSWORD)
    assert browser.post("/account/code", {"code": typed}).status_code == 410
    assert Person.objects.get(pk=cast.olga.pk).email == OLGA


def test_a_letter_for_one_person_changes_no_other(cast: Cast) -> None:
    browser = signed_in()
    browser.post("/account/address", {"email": GUEST})
    session = browser.session
    waiting = session["waiting_for_code"]
    other = signed_in(cast.otto.email)
    theirs = other.session
    theirs["waiting_for_code"] = waiting
    theirs.save()
    assert other.post("/account/code", {"code": letter_code(GUEST)}).status_code == 410
    assert Person.objects.get(pk=cast.otto.pk).email == cast.otto.email


@pytest.mark.parametrize("place", ["/account/address", f"{PLACE}/on", f"{PLACE}/off", f"{PLACE}/codes"])
def test_what_could_take_an_account_over_asks_again_who_one_is(cast: Cast, place: str) -> None:
    browser = signed_in()
    with clock.shifted(timedelta(minutes=10)):
        for ask in (browser.get, browser.post):
            assert unquote(ask(place)["Location"]) == f"/account/confirm?next={place}"
        assert browser.post("/account/confirm", {"password": "wrong", "next": place}).status_code == 401
        assert browser.post("/account/confirm", {"password": PASSWORD, "next": place})["Location"] == place
        assert browser.get(place).status_code in (200, 302)
        assert "confirm" not in browser.get(place).headers.get("Location", "")


def test_a_new_password_keeps_this_browser_and_ends_the_others(cast: Cast) -> None:
    here, there = signed_in(), signed_in()
    answer = here.post("/account/password", {"old_password": PASSWORD, "new_password": "an even longer password"})
    assert answer["Location"] == "/account/password"
    assert (is_in(here), is_in(there)) == (True, False)
    weak = here.post("/account/password", {"old_password": "an even longer password", "new_password": "short"})
    assert weak.status_code == 400


def test_wrong_old_passwords_are_limited(cast: Cast) -> None:
    browser = signed_in()
    for _ in range(10):
        assert browser.post("/account/password", {"old_password": "x", "new_password": PASSWORD}).status_code == 401
    said = {"old_password": PASSWORD, "new_password": "an even longer password"}
    assert browser.post("/account/password", said).status_code == 429
    assert browser.post("/account/confirm", {"password": PASSWORD}).status_code == 429


# --- the second factor's pages ---------------------------------------------------------------------------------------


def test_turning_it_on_shows_picture_secret_and_once_the_codes(cast: Cast) -> None:
    browser = signed_in()
    page = browser.get(f"{PLACE}/on").content.decode()
    assert 'src="data:image/svg+xml;base64,' in page
    found = re.search(r'<pre id="secret">([A-Z2-7 ]+)</pre>', page)
    assert found is not None
    assert found[1] in browser.get(f"{PLACE}/on").content.decode()  # the same, however often one looks
    assert found[1].replace(" ", "") not in str(dict(browser.session))
    assert browser.post(f"{PLACE}/on", {"code": "000000"}).status_code == 400
    done = browser.post(f"{PLACE}/on", {"code": code(found[1])}).content.decode()
    codes = re.findall(r"\b\d{5}-\d{5}\b", done.partition("data:text/plain")[0])
    assert len(codes) == 10
    assert unquote(done).count(codes[0]) == 2  # on the page and in the file
    assert codes[0] not in browser.get(PLACE).content.decode()
    assert browser.get(f"{PLACE}/on")["Location"] == PLACE
    assert "10 of them are not used" in text_of(browser.get(PLACE))


def test_renewing_and_turning_off_ask_first_and_looking_changes_nothing(cast: Cast) -> None:
    browser = signed_in()
    with_factor(cast.olga)
    for place, words in ((f"{PLACE}/codes", "no longer work"), (f"{PLACE}/off", "password alone")):
        assert words in text_of(browser.get(place))
    assert second_factor.codes_left(cast.olga) == 10
    assert len(set(re.findall(r"\b\d{5}-\d{5}\b", browser.post(f"{PLACE}/codes").content.decode()))) == 10
    assert browser.post(f"{PLACE}/off")["Location"] == PLACE
    assert not second_factor.is_on(cast.olga)


# --- sessions --------------------------------------------------------------------------------------------------------


def test_sessions_are_named_in_words_this_one_first(cast: Cast) -> None:
    there, here = signed_in(), signed_in()
    text = text_of(here.get("/account/sessions"))
    assert text.count("Firefox on Linux") >= 2
    assert text.index("this one") < text.index("Sign out Firefox")
    assert is_in(there)


def test_one_session_ends_at_once(cast: Cast) -> None:
    there, here = signed_in(), signed_in()
    number = UserSession.objects.get(session_key=there.session.session_key).pk
    with recorded("person.session_ended", cast.olga.public_id):
        here.post(f"/account/sessions/{number}/end")
    assert (is_in(here), is_in(there)) == (True, False)
    assert here.post(f"/account/sessions/{number}/end").status_code == 404


def test_all_other_sessions_end_at_once_and_nobody_elses(cast: Cast) -> None:
    others, here, otto = [signed_in() for _ in range(3)], signed_in(), signed_in(cast.otto.email)
    assert "sign in again" in text_of(here.get("/account/sessions/end-others"))
    with recorded("person.session_ended", cast.olga.public_id):
        here.post("/account/sessions/end-others")
    assert [is_in(browser) for browser in (*others, here, otto)] == [False, False, False, True, True]
    before = AuditEntry.objects.count()
    here.post("/account/sessions/end-others")
    assert AuditEntry.objects.count() == before


def test_a_session_of_a_signed_out_browser_is_not_listed(cast: Cast) -> None:
    gone, here = signed_in(), signed_in()
    gone.post("/sign-out")
    assert len(sessions.of(cast.olga, here.session.session_key)) == 1


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36",
            "Chrome on Windows",
        ),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 15_6) AppleWebKit/605 Version/26.0 Safari/605", "Safari on macOS"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 26_0 like Mac OS X) Version/26.0 Safari/604", "Safari on iPhone"),
        ("Mozilla/5.0 (Linux; Android 16) AppleWebKit/537 Chrome/140.0 Mobile Safari/537", "Chrome on Android"),
        ("curl/8.5", "A browser"),
        ("", "A browser"),
    ],
)
def test_what_a_browser_calls_itself_in_words(said: str, words: str) -> None:
    assert sessions.words_for(said) == words


# --- organizations and operators -------------------------------------------------------------------------------------


def test_switching_leads_home_for_the_other_organization_and_writes_no_entry(cast: Cast) -> None:
    second = organizations.found("second-clinic", cast.olga)
    browser = signed_in()
    before = AuditEntry.objects.count()
    assert browser.post("/organization", {"organization": second.public_id})["Location"] == "/"
    assert browser.get("/").context["actor"].organization == second
    assert "you act for it now" in text_of(browser.get("/account"))
    assert browser.post("/organization", {"organization": cast.rival.public_id}).status_code == 404
    assert AuditEntry.objects.count() == before


def test_operators_need_a_second_factor_in_production(cast: Cast, settings: Any) -> None:
    staff = Person.objects.create_superuser("staff@portal.example", PASSWORD)
    browser = signed_in(staff.email)
    assert "second factor" in text_of(browser.get("/admin/"))
    assert browser.get("/admin/federations/person/").status_code == 200
    settings.PRODUCTION = True
    assert browser.get("/admin/federations/person/")["Location"] == PLACE
    with_factor(staff)
    assert browser.get("/admin/federations/person/").status_code == 200


def test_the_operators_tables_show_no_secret_of_a_sign_in(cast: Cast) -> None:
    staff = Person.objects.create_superuser("staff@portal.example", PASSWORD)
    secret = with_factor(staff)
    browser = signed_in(staff.email)
    browser.post("/sign-in/second-factor", {"code": code(secret)})
    key = browser.session.session_key
    for table in (
        "account/emailaddress",
        "mfa/authenticator",
        "usersessions/usersession",
        "socialaccount/socialaccount",
    ):
        listed = browser.get(f"/admin/{table}/")
        assert listed.status_code == 200
        assert browser.get(f"/admin/{table}/add/").status_code == 403
        for number in re.findall(rf"/admin/{table}/(\d+)/change/", listed.content.decode()):
            page = browser.get(f"/admin/{table}/{number}/change/").content.decode()
            assert key not in page
            assert "gAAAA" not in page  # what is sealed begins like this
            assert browser.post(f"/admin/{table}/{number}/delete/", {"post": "yes"}).status_code == 403
    assert browser.get("/admin/socialaccount/socialapp/").status_code == 404


def test_sessions_that_are_over_are_forgotten_a_bounded_number_at_once(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "SWEPT", 2)
    for _ in range(3):
        cast.browser("olga").get("/account")
    assert sessions.sweep() == 0
    with clock.shifted(timedelta(days=15)):
        assert [sessions.sweep() for _ in range(3)] == [2, 1, 0]
    assert not Session.objects.exists()
    assert not UserSession.objects.exists()
