"""People sign up, sign in and choose new passwords."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext

from federations.models import AuditEntry, Federation, Letter, Membership, Organization, Person
from federations.services import audit, federations, invitations, people
from federations.tasks import send_letter
from fedportal.common import clock
from tests.cast import PASSWORD, Cast, client_with
from tests.federations.helpers import links, recorded, refused, token_for


def test_signing_up_with_an_organization_makes_its_owner(cast: Cast) -> None:
    with recorded("person.signed_up", after=["organization.founded"]):
        person = people.sign_up(" New@Clinic.example ", PASSWORD, "Nia  New", "clinic")
    membership = Membership.objects.get(person=person)
    assert (person.email, person.name, membership.organization.name, membership.role) == (
        "new@clinic.example",
        "Nia New",
        "clinic",
        "owner",
    )


def test_signing_up_without_an_organization_is_in_the_portals_log(cast: Cast) -> None:
    with recorded("person.signed_up"):
        person = people.sign_up("alone@clinic.example", PASSWORD)
    assert AuditEntry.objects.get(subject=person.public_id).chain == audit.PORTAL


BAD = [
    "",
    "olga",
    "olga@",
    "olga@acme",
    "ölga@acme.example",
    "\u212aim@acme.example",
    "a@b.c d",
    "x" * 250 + "@a.example",
]


@pytest.mark.parametrize("address", BAD)
def test_unusable_addresses_are_refused(cast: Cast, address: str) -> None:
    with refused("field_invalid", field="email"):
        people.sign_up(address, PASSWORD)


@pytest.mark.parametrize("password", ["", "short", "password12", "1234567890", "newperson@clinic.example", "x" * 1001])
def test_weak_and_absurd_passwords_are_refused(cast: Cast, password: str) -> None:
    with refused("field_invalid", field="password"):
        people.sign_up("newperson@clinic.example", password)
    assert not Person.objects.filter(email="newperson@clinic.example").exists()


def test_an_address_signs_up_once_in_whatever_spelling(cast: Cast) -> None:
    with refused("name_taken"):
        people.sign_up("OLGA@acme.example", PASSWORD)


def test_a_taken_organization_name_signs_nobody_up(cast: Cast) -> None:
    with refused("name_taken", what="organization"):
        people.sign_up("second@acme.example", PASSWORD, "Second", "ACME")
    assert not Person.objects.filter(email="second@acme.example").exists()
    assert Organization.objects.filter(name__iexact="acme").count() == 1


def test_signing_in(cast: Cast) -> None:
    assert people.sign_in(" Olga@ACME.example", PASSWORD, "192.0.2.1") == cast.olga


@pytest.mark.parametrize("address", ["olga@acme.example", "nobody@acme.example"])
def test_a_wrong_password_and_an_unknown_address_sound_alike(cast: Cast, address: str) -> None:
    with refused("sign_in_failed"):
        people.sign_in(address, "wrong", "192.0.2.1")


def test_ten_failures_from_a_network_lock_it_out_of_the_account_for_fifteen_minutes(cast: Cast) -> None:
    for number in range(10):
        with refused("sign_in_failed"):
            people.sign_in("olga@acme.example", "wrong", f"2001:db8::{number}")
    with refused("too_many_tries"):
        people.sign_in("olga@acme.example", PASSWORD, "2001:db8::ffff")
    with clock.shifted(timedelta(minutes=15, seconds=1)):
        assert people.sign_in("olga@acme.example", PASSWORD, "2001:db8::ffff") == cast.olga


def test_a_stranger_elsewhere_does_not_lock_anybody_out_of_their_account(cast: Cast) -> None:
    for _ in range(10):
        with refused("sign_in_failed"):
            people.sign_in("olga@acme.example", "wrong", "192.0.2.1")
    assert people.sign_in("olga@acme.example", PASSWORD, "192.0.2.2") == cast.olga


def test_a_hundred_failures_in_an_hour_from_everywhere_lock_the_account(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "authenticate", lambda **_: None)  # a hundred real hashes would take a minute
    for number in range(100):
        with refused("sign_in_failed"):
            people.sign_in("olga@acme.example", "wrong", f"192.0.2.{number}")
    monkeypatch.undo()
    with refused("too_many_tries"):
        people.sign_in("olga@acme.example", PASSWORD, "198.51.100.1")
    with clock.shifted(timedelta(hours=1, seconds=1)):
        assert people.sign_in("olga@acme.example", PASSWORD, "198.51.100.1") == cast.olga


def test_twenty_tries_a_minute_from_one_network_address(cast: Cast) -> None:
    for number in range(20):
        with refused("sign_in_failed"):
            people.sign_in(f"nobody{number}@acme.example", "wrong", "192.0.2.1")
    with refused("too_many_tries"):
        people.sign_in("olga@acme.example", PASSWORD, "192.0.2.1")
    assert people.sign_in("olga@acme.example", PASSWORD, "192.0.2.2") == cast.olga


def test_a_person_who_was_locked_out_cannot_sign_in(cast: Cast) -> None:
    cast.rex.is_staff = True
    with recorded("person.deactivated", cast.olga.public_id):
        people.set_active(cast.rex, cast.olga, False)
    with refused("sign_in_failed"):
        people.sign_in("olga@acme.example", PASSWORD, "192.0.2.1")
    assert cast.client("olga").get("/api/v1/whoami").status_code == 401
    people.set_active(cast.rex, cast.olga, True)
    assert people.sign_in("olga@acme.example", PASSWORD, "192.0.2.1") == cast.olga


def test_only_staff_lock_people_out(cast: Cast) -> None:
    with refused("forbidden"):
        people.set_active(cast.rex, cast.olga, False)


def test_the_reset_letter_chooses_a_new_password_once(cast: Cast) -> None:
    with recorded("person.reset_requested"):
        people.request_reset("Olga@acme.example", "192.0.2.1")
    uid, token = links("olga@acme.example")[-1].split("/")[-2:]
    assert people.person_of_reset(uid, token) == cast.olga
    with recorded("person.password_changed", after=["key.revoked"]):
        people.reset_password(uid, token, "an even longer password")
    assert people.sign_in("olga@acme.example", "an even longer password", "192.0.2.1") == cast.olga
    with refused("not_found"):
        people.reset_password(uid, token, "a third long password")


def test_a_weak_new_password_leaves_the_link_alive(cast: Cast) -> None:
    people.request_reset("olga@acme.example", "192.0.2.1")
    uid, token = links("olga@acme.example")[-1].split("/")[-2:]
    with refused("field_invalid"):
        people.reset_password(uid, token, "short")
    assert people.person_of_reset(uid, token) == cast.olga


def test_nobody_learns_whether_an_address_is_known(cast: Cast) -> None:
    before = AuditEntry.objects.count()
    people.request_reset("nobody@acme.example", "192.0.2.1")
    assert AuditEntry.objects.count() == before
    assert links("nobody@acme.example") == []


def test_reset_letters_are_limited(cast: Cast) -> None:
    for number in range(5):
        people.request_reset("olga@acme.example", f"192.0.2.{number}")
    with refused("too_many_tries"):
        people.request_reset("olga@acme.example", "192.0.2.77")


@pytest.mark.parametrize(("uid", "token"), [("", ""), ("!!", "x"), ("AAAA", "x-y"), ("b2xnYQ", "x")])
def test_broken_reset_links_lead_nowhere(cast: Cast, uid: str, token: str) -> None:
    with refused("not_found"):
        people.person_of_reset(uid, token)


def test_changing_the_password_needs_the_old_one(cast: Cast) -> None:
    actor = cast.actor("olga")
    with refused("sign_in_failed"):
        people.change_password(actor, "wrong", "an even longer password", "192.0.2.1")
    people.change_password(actor, PASSWORD, "an even longer password", "192.0.2.1")
    assert people.sign_in("olga@acme.example", "an even longer password", "192.0.2.1") == cast.olga


def test_a_new_password_ends_the_sessions_and_keys_of_the_old_one_and_a_letter_says_so(cast: Cast) -> None:
    browser, elsewhere = cast.browser("olga"), cast.key_for(cast.olga, cast.metro, ["*"])
    assert browser.get("/").status_code == 200
    people.change_password(cast.actor("olga"), PASSWORD, "an even longer password", "192.0.2.1")
    assert browser.get("/").status_code == 302
    for client in (cast.client("olga"), client_with(elsewhere)):
        assert client.get("/api/v1/whoami").json()["error"] == "key_revoked"
    assert cast.client("mia").get("/api/v1/whoami").status_code == 200
    entries = AuditEntry.objects.filter(action="key.revoked", actor=cast.olga.public_id)
    assert {entry.organization for entry in entries} == {cast.acme, cast.metro}
    letter = Letter.objects.filter(to="olga@acme.example").latest("pk")
    assert letter.subject == "Your password was changed"
    assert "your API keys (2) no longer work" in letter.text


def test_of_two_new_passwords_at_once_one_is_told_to_look_again(cast: Cast) -> None:
    stale = cast.actor("olga")
    people.change_password(cast.actor("olga"), PASSWORD, "an even longer password", "192.0.2.1")
    with refused("conflict"):
        people.change_password(stale, PASSWORD, "a third long password", "192.0.2.1")


def test_no_password_is_hashed_while_others_wait_to_write(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    depths: list[int] = []

    def watched(password: str, *rest: Any) -> str:
        depths.append(len(connection.savepoint_ids))
        return make_password(password, *rest)

    outside = len(connection.savepoint_ids)
    monkeypatch.setattr("django.contrib.auth.base_user.make_password", watched)
    people.sign_up("new@clinic.example", PASSWORD, "", "clinic")
    people.change_password(cast.actor("olga"), PASSWORD, "an even longer password", "192.0.2.1")
    federations.invite(cast.actor("olga"), cast.federation, emails=["gina@guest.example"])
    invitations.accept_as_new(token_for("gina@guest.example"), password=PASSWORD, organization_name="guest")
    assert depths == [outside] * 3


def test_the_reset_letter_leaves_by_the_job(cast: Cast) -> None:
    people.request_reset("olga@acme.example", "192.0.2.1")
    send_letter(Letter.objects.latest("pk").pk)
    assert [message.to for message in mail.outbox if "password" in message.subject.lower()] == [["olga@acme.example"]]
    assert not Letter.objects.filter(sent_at=None).exists()


def test_a_form_with_a_character_that_no_database_keeps_is_refused(cast: Cast) -> None:
    answer = cast.browser("olga").post("/federations/new", {"name": "second\0circle"}, follow=True)
    assert "not plain text" in answer.content.decode()
    assert not Federation.objects.filter(name__startswith="second").exists()


def test_asking_for_a_reset_letter_costs_the_same_work_for_an_unknown_address(cast: Cast) -> None:
    people.request_reset("first@acme.example", "192.0.2.1")  # this network is counted from now on
    counts = []
    for address in ("olga@acme.example", "nobody@acme.example"):
        with CaptureQueriesContext(connection) as queries:
            people.request_reset(address, "192.0.2.1")
        counts.append(sum("SAVEPOINT" not in query["sql"] for query in queries))
    assert counts[0] == counts[1]
    assert not Letter.objects.filter(to="nobody@acme.example").exists()
