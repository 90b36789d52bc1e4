"""Nobody has an account before the address is proven by a code from a letter."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.db import connection
from django.test.utils import CaptureQueriesContext

from federations.models import AuditEntry, Letter, Membership, Organization, Person
from federations.services import federations, invitations, newcomers, organizations, people, proofs, throttle
from fedportal.common import clock
from tests.cast import PASSWORD, Cast
from tests.federations.helpers import recorded, refused, token_for

GUEST, IP = "gina@guest.example", "192.0.2.1"


def begin(email: str = GUEST, organization: str = "guest-clinic", password: str = PASSWORD) -> proofs.Waiting:
    return newcomers.begin(email, password, "Gina", organization, IP)


def code_for(email: str = GUEST) -> str:
    """The code in the last letter to an address."""
    text = Letter.objects.filter(to=email).latest("pk").text
    found = re.search(r"^ +(\d{4}-\d{4})$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def test_the_code_from_the_letter_makes_account_and_organization(cast: Cast) -> None:
    waiting = begin()
    assert not Person.objects.filter(email=GUEST).exists()
    assert not Organization.objects.filter(name="guest-clinic").exists()
    with recorded("person.signed_up", after=["organization.founded"]):
        person = newcomers.finish(waiting, code_for(), IP)
    assert people.is_proven(person)
    assert Membership.objects.get(person=person).organization.name == "guest-clinic"
    assert people.sign_in(GUEST, PASSWORD, IP) == person


def test_the_organization_may_come_later(cast: Cast) -> None:
    person = newcomers.finish(begin(organization=""), code_for(), IP)
    assert not person.memberships.exists()


def test_what_waits_holds_neither_code_nor_password(cast: Cast) -> None:
    waiting = str(begin())
    code = code_for()
    assert PASSWORD not in waiting
    assert code not in waiting
    assert code.replace("-", "") not in waiting


@pytest.mark.parametrize("typed", ["", "0000", "12345678901", "١٢٣٤٥٦٧٨"])
def test_another_code_makes_nothing(cast: Cast, typed: str) -> None:
    waiting = begin()
    with refused("code_wrong"):
        newcomers.finish(waiting, typed, IP)
    assert not Person.objects.filter(email=GUEST).exists()


def test_five_tries_are_free_and_then_the_right_code_is_too_late(cast: Cast) -> None:
    waiting = begin()
    for _ in range(proofs.TRIES):
        with refused("code_wrong"):
            newcomers.finish(waiting, "nonsense", IP)
    with refused("proof_expired"):
        newcomers.finish(waiting, code_for(), "192.0.2.2")


def test_a_code_lasts_half_an_hour(cast: Cast) -> None:
    waiting = begin()
    with clock.shifted(proofs.LASTS - timedelta(seconds=1)):
        newcomers.finish(waiting, code_for(), IP)
    waiting = begin("late@guest.example", "late-clinic")
    with clock.shifted(proofs.LASTS), refused("proof_expired"):
        newcomers.finish(waiting, code_for("late@guest.example"), IP)


def test_a_code_is_worth_nothing_in_another_browser(cast: Cast) -> None:
    mine = begin()
    begin()
    with refused("code_wrong"):
        newcomers.finish(mine, code_for(), IP)


def test_the_code_for_a_changed_address_makes_no_account(cast: Cast) -> None:
    waiting = begin()
    with refused("proof_expired"):
        newcomers.finish(waiting | {"purpose": "address"}, code_for(), IP)
    with refused("proof_expired"):
        newcomers.finish(None, code_for(), IP)


def test_whoever_signs_up_with_the_address_of_another_prepares_nothing_for_them(cast: Cast) -> None:
    """The address's holder comes later, by an invitation's letter: nothing of the stranger's is in the account."""
    federations.invite(cast.actor("olga"), cast.federation, emails=[GUEST])
    stranger = newcomers.begin(GUEST, "the stranger's password", "Stranger", "trap", IP)
    person, accepted = invitations.accept_as_new(token_for(GUEST), password=PASSWORD, organization_name="guest")
    assert [m.organization for m in person.memberships.all()] == [accepted.organization]
    assert not Organization.objects.filter(name="trap").exists()
    with refused("sign_in_failed"):
        people.sign_in(GUEST, "the stranger's password", IP)
    code = re.search(r"^ +(\d{4}-\d{4})$", Letter.objects.get(to=GUEST, subject__contains="code").text, re.MULTILINE)
    assert code is not None
    with refused("proof_expired"):  # even with the code: the account is there
        newcomers.finish(stranger, code[1], IP)
    assert people.sign_in(GUEST, PASSWORD, IP) == person


def test_a_known_address_gets_another_letter_and_the_page_the_same_answer(cast: Cast) -> None:
    before = AuditEntry.objects.count()
    known, unknown = begin(cast.olga.email), begin(GUEST)
    assert known.keys() == unknown.keys()
    letter = Letter.objects.filter(to=cast.olga.email).latest("pk")
    assert letter.subject == "You have an account already"
    assert not re.search(r"\d{4}-\d{4}", letter.text + letter.html)
    assert AuditEntry.objects.count() == before


def test_a_known_address_costs_the_same_work(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def watched(password: str, *rest: Any) -> str:
        hashed.append(password)
        return make_password(password, *rest)

    begin("first@guest.example")  # this network is counted from now on
    monkeypatch.setattr("django.contrib.auth.base_user.make_password", watched)
    counts = []
    for address in (cast.olga.email, GUEST):
        with CaptureQueriesContext(connection) as queries:
            begin(address)
        counts.append(len(queries))
    assert hashed == [PASSWORD] * 2
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("organization", "password", "code"), [("acme", PASSWORD, "name_taken"), ("", "short", "field_invalid")]
)
def test_neither_names_are_probed_nor_passwords_hashed_without_end(
    cast: Cast, organization: str, password: str, code: str
) -> None:
    for number in range(throttle.PER_NETWORK):
        with refused(code):
            begin(f"gina{number}@guest.example", organization, password)
    with refused("too_many_tries"):
        begin("gina@guest.example", organization, password)


def test_letters_with_codes_are_limited_for_one_address(cast: Cast) -> None:
    for _ in range(5):
        begin()
    with refused("too_many_tries"):
        newcomers.begin(GUEST, PASSWORD, "Gina", "", "198.51.100.9")
    assert Letter.objects.filter(to=GUEST).count() == 5


def test_a_taken_organization_name_is_told_before_the_letter(cast: Cast) -> None:
    with refused("name_taken", what="organization"):
        begin(organization="ACME")
    with refused("reserved_name"):
        begin(organization="latest")
    assert not Letter.objects.filter(to=GUEST).exists()


def test_an_organization_name_that_is_taken_meanwhile_makes_no_account(cast: Cast) -> None:
    waiting = begin()
    organizations.found("guest-clinic", cast.rex)
    with refused("name_taken", what="organization"):
        newcomers.finish(waiting, code_for(), IP)
    assert not Person.objects.filter(email=GUEST).exists()


def test_a_name_in_the_letter_carries_nobodys_advertisement(cast: Cast) -> None:
    newcomers.begin(GUEST, PASSWORD, "Win at https://evil.example", "", IP)
    letter = Letter.objects.filter(to=GUEST).latest("pk")
    assert "evil.example" not in letter.text + letter.html


def test_an_address_that_was_never_proven_does_not_sign_in_until_a_reset_proves_it(cast: Cast) -> None:
    person = Person.objects.create_user("shell@portal.example", PASSWORD)
    with refused("address_unproven"):
        people.sign_in(person.email, PASSWORD, IP)
    people.request_reset(person.email, IP)
    uid, token = re.findall(r"/password-reset/(\S+)/(\S+)", Letter.objects.latest("pk").text)[0]
    with recorded("person.password_changed", person.public_id):
        people.reset_password(uid, token, "an even longer password")
    assert AuditEntry.objects.latest("pk").details["address_verified"] is True
    assert people.sign_in(person.email, "an even longer password", IP) == person


def test_everybody_who_comes_by_a_trusted_way_has_a_proven_address(cast: Cast) -> None:
    staff = Person.objects.create_superuser("staff@portal.example", PASSWORD)
    assert all(map(people.is_proven, (cast.olga, cast.otto, cast.colleague(cast.acme, "auditor"), staff)))
