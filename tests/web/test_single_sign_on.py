"""Single sign-on against a real provider: it opens the account with the proven address, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from allauth.socialaccount.models import SocialAccount, SocialToken
from cryptography.hazmat.primitives.asymmetric import rsa
from django.http import HttpResponse
from django.test import Client

from federations.models import Letter, Person
from federations.services import addresses, people, second_factor, single_sign_on, throttle
from tests.cast import PASSWORD, Cast
from tests.federations.authenticator import code
from tests.federations.helpers import recorded
from tests.web.provider import CLIENT, SECRET, Provider


@pytest.fixture
def provider(cast: Cast, settings: Any) -> Iterator[Provider]:
    """The provider that the operator named."""
    with Provider() as running:
        settings.FEDPORTAL_OIDC_URL = running.url
        settings.FEDPORTAL_OIDC_CLIENT_ID, settings.FEDPORTAL_OIDC_CLIENT_SECRET = CLIENT, SECRET
        settings.FEDPORTAL_OIDC_NAME = "Hospital ID"
        yield running


def come_back(browser: Client, target: str = "") -> HttpResponse:
    """Go to the provider as a browser does, and what the portal answers on the way back."""
    away = browser.get("/sign-in/sso" + target)
    assert away.status_code == 302
    back = requests.get(away["Location"], allow_redirects=False, timeout=5).headers["Location"]
    assert back.startswith("http://testserver/sign-in/sso/callback?")
    answer: HttpResponse = browser.get(back.removeprefix("http://testserver"))
    return answer


def is_signed_in(browser: Client) -> bool:
    return browser.get("/account").status_code == 200


def refusal(browser: Client, answer: HttpResponse) -> str:
    """What the sign-in page says after a refusal."""
    assert (answer.status_code, answer["Location"]) == (302, "/sign-in")
    assert not is_signed_in(browser)
    return browser.get("/sign-in").content.decode()


def test_without_a_provider_there_is_no_button_and_no_way(cast: Cast) -> None:
    assert "/sign-in/sso" not in Client().get("/sign-in").content.decode()
    for address in ("/sign-in/sso", "/sign-in/sso/callback?code=x&state=y"):
        assert Client().get(address)["Location"] == "/sign-in"


def test_it_opens_the_account_with_the_proven_address_and_links_it_once(cast: Cast, provider: Provider) -> None:
    browser = Client()
    assert "Continue with Hospital ID" in browser.get("/sign-in").content.decode()
    with recorded("person.sso_linked", cast.olga.public_id):
        answer = come_back(browser, "?next=/models")
    assert answer["Location"] == "/models"
    assert browser.get("/account").context["actor"].person == cast.olga
    assert Letter.objects.latest("pk").subject == "Hospital ID opens your account"
    linked = SocialAccount.objects.get()
    assert (linked.user, linked.uid, linked.extra_data) == (cast.olga, "u-1", {})
    assert not SocialToken.objects.exists()


def test_after_that_the_providers_own_name_for_the_person_counts(cast: Cast, provider: Provider) -> None:
    come_back(Client())
    provider.person |= {"email": "rex@rival.example"}
    browser = Client()
    come_back(browser)
    assert browser.get("/account").context["actor"].person == cast.olga
    assert SocialAccount.objects.get().extra_data == {}


@pytest.mark.parametrize(
    "said",
    [
        {"email_verified": False},
        {"email_verified": "true"},  # not what the standard says, so not believed
        {"email_verified": None},
        {"email": "nobody@acme.example"},
        {"email": "ölga@acme.example"},
        {"email": None},
    ],
    ids=str,
)
def test_no_proven_address_of_an_account_is_a_clear_refusal(cast: Cast, provider: Provider, said: dict) -> None:
    provider.person |= said
    browser = Client()
    assert "Single sign-on did not work" in refusal(browser, come_back(browser))
    assert not SocialAccount.objects.exists()
    assert Person.objects.count() == 5


def test_an_address_that_is_not_proven_here_is_refused(cast: Cast, provider: Provider) -> None:
    Person.objects.create_user("shell@portal.example", PASSWORD)
    provider.person |= {"email": "shell@portal.example"}
    browser = Client()
    assert "no account here has the proven address" in refusal(browser, come_back(browser))


def test_somebody_else_at_the_provider_does_not_take_a_linked_account(cast: Cast, provider: Provider) -> None:
    come_back(Client())
    provider.person |= {"sub": "u-2"}
    browser = Client()
    assert "linked to another person" in refusal(browser, come_back(browser))


def test_whoever_is_locked_out_stays_out(cast: Cast, provider: Provider) -> None:
    come_back(Client())
    Person.objects.filter(pk=cast.olga.pk).update(is_active=False)
    browser = Client()
    refusal(browser, come_back(browser))


def test_a_second_factor_is_asked_for_all_the_same(cast: Cast, provider: Provider) -> None:
    secret = second_factor.new_secret()
    second_factor.turn_on(cast.olga, secret, code(secret, -1), "192.0.2.1")
    browser = Client()
    assert come_back(browser, "?next=/models")["Location"] == "/sign-in/second-factor"
    assert not is_signed_in(browser)
    assert browser.post("/sign-in/second-factor", {"code": code(secret)})["Location"] == "/models"
    assert is_signed_in(browser)


def test_it_is_no_confirmation_of_a_password(cast: Cast, provider: Provider) -> None:
    browser = Client()
    come_back(browser)
    assert browser.get("/account/second-factor/on")["Location"].startswith("/account/confirm?")


@pytest.mark.parametrize("lies", [{"iss": "https://evil.example"}, {"aud": "another"}, {"exp": 1}], ids=str)
def test_a_token_for_others_is_refused(cast: Cast, provider: Provider, lies: dict) -> None:
    provider.lies = lies
    browser = Client()
    assert "could not be used" in refusal(browser, come_back(browser))


def test_a_token_with_a_strange_signature_is_refused(cast: Cast, provider: Provider) -> None:
    provider.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    browser = Client()
    assert "could not be used" in refusal(browser, come_back(browser))


def test_saying_no_at_the_provider_leads_back(cast: Cast, provider: Provider) -> None:
    provider.lies = {"error": "access_denied"}
    browser = Client()
    assert "Single sign-on did not work" in refusal(browser, come_back(browser))


def test_an_answer_that_was_not_asked_for_is_refused(cast: Cast, provider: Provider) -> None:
    browser = Client()
    away = Client().get("/sign-in/sso")["Location"]
    back = requests.get(away, allow_redirects=False, timeout=5).headers["Location"]
    refusal(browser, browser.get(back.removeprefix("http://testserver")))


def test_a_provider_that_is_away_says_so(cast: Cast, provider: Provider, settings: Any) -> None:
    settings.FEDPORTAL_OIDC_URL = "http://127.0.0.1:9"
    browser = Client()
    answer = browser.get("/sign-in/sso")
    assert "does not answer" in refusal(browser, answer)


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_it_leads_nowhere_else(cast: Cast, provider: Provider, target: str) -> None:
    assert come_back(Client(), f"?next={target}")["Location"] == "/"


def test_unlinked_it_needs_the_address_again(cast: Cast, provider: Provider) -> None:
    come_back(Client())
    browser = Client()
    browser.post("/sign-in", {"email": cast.olga.email, "password": PASSWORD})
    with recorded("person.sso_unlinked", cast.olga.public_id):
        browser.post("/account/unlink")
    assert not single_sign_on.is_linked(cast.olga)
    letter = Letter.objects.latest("pk")
    assert (letter.to, letter.subject) == (cast.olga.email, "Hospital ID no longer opens your account")


@pytest.mark.parametrize("step", ["", "/callback?code=x&state=y"])
def test_a_stranger_does_not_make_the_portal_ask_the_provider_without_end(
    cast: Cast, provider: Provider, step: str
) -> None:
    for _ in range(2 * throttle.PER_NETWORK):
        assert Client().get(f"/sign-in/sso{step}").status_code == 302
    assert Client().get(f"/sign-in/sso{step}").status_code == 429


def test_a_changed_address_needs_its_own_proof_at_the_provider(cast: Cast, provider: Provider) -> None:
    assert people.is_proven(cast.olga)
    waiting = addresses.begin_change(cast.olga, "olga@new.example", "192.0.2.1")
    typed = Letter.objects.filter(to="olga@new.example").latest("pk").subject[:9]
    addresses.finish_change(cast.olga, waiting, typed, "192.0.2.1")
    browser = Client()
    assert "no account here has" in refusal(browser, come_back(browser))
    provider.person |= {"email": "olga@new.example"}
    assert come_back(browser)["Location"] == "/"
