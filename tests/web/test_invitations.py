"""The page behind a letter's link: with and without an account, as the wrong person, too late, twice."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from federations.models import Invitation, Member, Organization, Person
from federations.permissions import Actor
from federations.services import agreements, federations, invitations, people
from federations.services.agreements import Draft
from fedportal.common import clock
from tests.cast import PASSWORD, Cast
from tests.federations.helpers import token_for

GUEST = "gina@guest.example"
NEW = {"name": "Gina", "new_password": PASSWORD, "organization_name": "guest-clinic", "answer": "accept"}


@pytest.fixture
def link(cast: Cast) -> str:
    """The page behind the letter to gina, who has no account."""
    federations.invite(cast.actor("olga"), cast.federation, emails=[GUEST])
    return f"/invitations/{token_for(GUEST)}"


@pytest.fixture
def gina(cast: Cast) -> Client:
    """A browser in which gina, owner of guest, is signed in."""
    person = people.sign_up(GUEST, PASSWORD, "Gina", "guest")
    browser = Client()
    browser.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return browser


def test_looking_shows_who_invites_to_what_and_changes_nothing(link: str) -> None:
    for _ in range(2):
        shown = Client().get(link)
        text = shown.content.decode()
        assert shown.status_code == 200
        assert "acme invites you to healthcare-consortium" in text
        assert GUEST in text
        assert shown["Referrer-Policy"] == "strict-origin"
        assert "no-store" in shown["Cache-Control"]
    assert not Person.objects.filter(email=GUEST).exists()


def test_accepting_makes_account_and_organization_and_signs_in(cast: Cast, link: str) -> None:
    browser = Client()
    shown = browser.post(link, NEW, follow=True)
    assert shown.redirect_chain[-1][0] == f"/federations/{cast.federation.public_id}"
    assert "Welcome to healthcare-consortium" in shown.content.decode()
    assert Member.objects.get(organization__name="guest-clinic").state == "active"
    assert browser.get("/team").status_code == 200


def test_what_was_typed_stays_when_something_is_wrong(link: str) -> None:
    shown = Client().post(link, {**NEW, "organization_name": "acme"})
    text = shown.content.decode()
    assert shown.status_code >= 400
    assert 'role="alert"' in text
    assert 'value="Gina"' in text
    assert PASSWORD not in text
    assert not Person.objects.filter(email=GUEST).exists()


def test_somebody_with_an_account_chooses_an_organization(link: str, gina: Client) -> None:
    text = gina.get(link).content.decode()
    guest = Organization.objects.get(name="guest")
    assert guest.public_id in text
    gina.post(link, {"answer": "accept", "organization": guest.public_id})
    assert Member.objects.get(organization=guest).state == "active"


def test_the_wrong_person_is_told_so_and_the_link_stays_good(cast: Cast, link: str, gina: Client) -> None:
    for answer in (cast.browser("vera").get(link), cast.browser("vera").post(link, NEW)):
        assert answer.status_code == 403
        assert "another email address" in answer.content.decode()
    assert gina.get(link).status_code == 200


def test_the_wrong_person_signs_out_and_comes_back(cast: Cast, link: str) -> None:
    vera = cast.browser("vera")
    assert "Sign out and go on as gina@guest.example" in vera.get(link).content.decode()
    back = vera.post(link, {"answer": "sign-out"})
    assert back["Location"] == link
    assert "Create your account" in vera.get(link).content.decode()


def test_who_has_an_account_is_sent_to_sign_in_and_back(link: str, gina: Client) -> None:
    text = Client().get(link).content.decode()
    assert "You have an account already" in text
    assert f"/sign-in?next={link}" in text
    assert "new_password" not in text


def test_the_study_agreement_is_read_and_ticked_on_the_way(cast: Cast, link: str) -> None:
    agreement = agreements.publish(cast.actor("olga"), cast.federation, Draft("Study", "Only updates travel."))
    assert "Only updates travel." in Client().get(link).content.decode()
    without = Client().post(link, NEW)
    assert without.status_code == 400
    assert not Person.objects.filter(email=GUEST).exists()
    Client().post(link, {**NEW, "accept_agreement": agreement.public_id})
    guest = Organization.objects.get(name="guest-clinic")
    assert agreements.to_accept(cast.federation, guest) is None


def test_an_agreement_that_was_replaced_meanwhile_is_shown_anew(cast: Cast, link: str) -> None:
    first = agreements.publish(cast.actor("olga"), cast.federation, Draft("Study", "Old."))
    agreements.publish(cast.actor("olga"), cast.federation, Draft("Study", "New rules."))
    shown = Client().post(link, {**NEW, "accept_agreement": first.public_id})
    assert shown.status_code == 409
    assert "New rules." in shown.content.decode()
    assert not Person.objects.filter(email=GUEST).exists()


def test_an_organization_that_is_in_already_is_not_offered(cast: Cast, link: str, gina: Client) -> None:
    guest = Organization.objects.get(name="guest")
    federations.invite(cast.actor("olga"), cast.federation, org_ids=[guest.public_id])
    federations.join(Actor(Person.objects.get(email=GUEST), guest), cast.federation)
    text = gina.get(link).content.decode()
    assert "guest is a member of healthcare-consortium already" in text
    assert f'value="{guest.public_id}"' not in text


def test_who_used_the_link_is_led_to_what_it_opened(cast: Cast, link: str) -> None:
    browser = Client()
    browser.post(link, NEW)
    assert browser.get(link)["Location"] == f"/federations/{cast.federation.public_id}"


def test_a_link_that_ended_says_whom_to_ask_by_name(link: str) -> None:
    with clock.shifted(timedelta(days=8)):
        assert "Ask Olga of acme to send it again." in Client().get(link).content.decode()


def test_a_used_link_says_so(link: str) -> None:
    Client().post(link, NEW)
    again = Client().post(link, {**NEW, "organization_name": "other-clinic"})
    assert again.status_code == 409
    assert "already used" in again.content.decode()
    assert not Organization.objects.filter(name="other-clinic").exists()


def test_an_expired_link_says_so(link: str) -> None:
    with clock.shifted(timedelta(days=8)):
        shown = Client().get(link)
    assert shown.status_code == 410
    assert "expired" in shown.content.decode()


def test_a_link_that_was_taken_back_says_so(cast: Cast, link: str) -> None:
    invitations.revoke(cast.actor("olga"), Invitation.objects.get(email=GUEST))
    shown = Client().get(link)
    assert shown.status_code == 410
    assert "withdrawn" in shown.content.decode()


def test_declining_needs_no_account(link: str) -> None:
    shown = Client().post(link, {"answer": "decline"}, follow=True)
    assert "declined" in shown.content.decode()
    assert Client().get(link).status_code >= 400
    assert not Person.objects.filter(email=GUEST).exists()


def test_an_invented_link_leads_nowhere(cast: Cast) -> None:
    shown = Client().get("/invitations/" + "x" * 43)
    assert shown.status_code == 404
    assert "not valid" in shown.content.decode()
