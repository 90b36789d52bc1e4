"""Study agreements: published in versions, accepted by members, told before and at their end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from federations.models import Acceptance, Agreement, AuditEntry, Federation, Organization, Role
from federations.permissions import Actor
from federations.services import agreements, federations, invitations
from federations.services.agreements import Draft
from fedportal.common import clock
from tests.cast import PASSWORD, Cast
from tests.federations.helpers import letters_to, recorded, refused, token_for

TEXT = "1. Data stay where they are.\n2. Results are shared."
DRAFT = Draft("Study agreement", TEXT)


def published(cast: Cast, days: int | None = None, text: str = TEXT) -> Agreement:
    expires_at = clock.now() + timedelta(days=days) if days else None
    return agreements.publish(cast.actor("olga"), cast.federation, Draft("Study agreement", text, expires_at))


def acceptors(agreement: Agreement) -> list[str]:
    return [row.organization.name for row in agreement.acceptances.select_related("organization").order_by("pk")]


def subjects(address: str) -> list[str]:
    return [letter.subject for letter in letters_to(address)]


def test_publishing_makes_a_version_that_the_owner_has_accepted(cast: Cast) -> None:
    with recorded("agreement.published"):
        first = published(cast)
    second = published(cast, text="3. Something else.")
    assert [(one.version, acceptors(one)) for one in (first, second)] == [(1, ["acme"]), (2, ["acme"])]
    assert agreements.current(cast.federation) == second
    assert first.digest != second.digest
    entry = AuditEntry.objects.filter(action="agreement.published").first()
    assert entry is not None
    assert (entry.details["version"], entry.details["digest"]) == (1, first.digest)


def test_publishing_tells_members_and_not_those_who_are_only_invited(cast: Cast) -> None:
    published(cast)
    assert "version 1 of the study agreement of healthcare-consortium" in subjects("mia@metro.example")[-1]
    assert not any("study agreement" in subject for subject in subjects("vera@valley.example"))
    assert not any("study agreement" in subject for subject in subjects("olga@acme.example"))


@pytest.mark.parametrize(
    ("draft", "field"),
    [
        (Draft("", TEXT), "title"),
        (Draft("x" * 201, TEXT), "title"),
        (Draft("a\u202eb", TEXT), "title"),
        (Draft("Title", " \n"), "text"),
        (Draft("Title", "x" * 100_001), "text"),
        (Draft("Title", TEXT, clock.now() - timedelta(seconds=1)), "expires_at"),
    ],
)
def test_what_is_no_agreement_is_refused(cast: Cast, draft: Draft, field: str) -> None:
    with refused("field_invalid", field=field):
        agreements.publish(cast.actor("olga"), cast.federation, draft)
    assert not Agreement.objects.exists()


@pytest.mark.parametrize("who", ["otto", "mia", "vera"])
def test_publishing_is_for_those_who_manage_the_federation(cast: Cast, who: str) -> None:
    with refused("forbidden"):
        agreements.publish(cast.actor(who), cast.federation, DRAFT)


def test_a_stranger_does_not_learn_that_the_federation_exists(cast: Cast) -> None:
    with refused("not_found"):
        agreements.publish(cast.actor("rex"), cast.federation, DRAFT)


def test_a_member_accepts_once(cast: Cast) -> None:
    agreement = published(cast)
    assert agreements.to_accept(cast.federation, cast.metro) == agreement
    with recorded("agreement.accepted", agreement.public_id):
        agreements.accept(cast.actor("mia"), agreement)
    again = agreements.accept(cast.actor("mia"), agreement)
    assert again.person == cast.mia
    assert acceptors(agreement) == ["acme", "metro"]
    assert agreements.to_accept(cast.federation, cast.metro) is None


@pytest.mark.parametrize("role", list(Role))
def test_accepting_is_for_owners_admins_and_privacy_officers(cast: Cast, role: Role) -> None:
    agreement, actor = published(cast), Actor(cast.colleague(cast.metro, role), cast.metro)
    if role in (Role.OWNER, Role.ADMIN, Role.PRIVACY_OFFICER):
        assert agreements.accept(actor, agreement).organization == cast.metro
    else:
        with refused("forbidden"):
            agreements.accept(actor, agreement)


def test_who_is_only_invited_accepts_by_joining(cast: Cast) -> None:
    agreement = published(cast)
    with refused("wrong_state"):
        agreements.accept(cast.actor("vera"), agreement)
    with recorded("federation.joined"):
        federations.join(cast.actor("vera"), cast.federation, accept_agreement=agreement.public_id)
    assert acceptors(agreement) == ["acme", "valley"]


def test_who_is_suspended_cannot_read_it_and_neither_hears_of_it_nor_accepts(cast: Cast) -> None:
    federations.suspend(cast.actor("olga"), cast.federation, cast.metro)
    agreement = published(cast)
    assert not any("study agreement" in subject for subject in subjects("mia@metro.example"))
    with refused("wrong_state", state="suspended"):
        agreements.accept(cast.actor("mia"), agreement)


def test_joining_without_accepting_is_possible_and_leaves_it_open(cast: Cast) -> None:
    agreement = published(cast)
    federations.join(cast.actor("vera"), cast.federation)
    assert agreements.to_accept(cast.federation, cast.valley) == agreement


def test_an_old_version_is_not_accepted_and_joining_with_it_changes_nothing(cast: Cast) -> None:
    first, _ = published(cast), published(cast)
    with refused("agreement_outdated", version=1, current=2):
        agreements.accept(cast.actor("mia"), first)
    with refused("agreement_outdated"):
        federations.join(cast.actor("vera"), cast.federation, accept_agreement=first.public_id)
    assert cast.federation.members.get(organization=cast.valley).state == "invited"


def test_an_expired_version_is_not_accepted(cast: Cast) -> None:
    agreement = published(cast, days=1)
    with clock.shifted(timedelta(days=2)):
        assert agreements.to_accept(cast.federation, cast.metro) is None
        with refused("agreement_expired", owner="acme"):
            agreements.accept(cast.actor("mia"), agreement)


def test_the_agreement_of_another_federation_is_not_there(cast: Cast) -> None:
    other = federations.found(cast.actor("rex"), name="other", agreement=DRAFT)
    theirs = agreements.current(other)
    assert theirs is not None
    with refused("not_found"):
        federations.join(cast.actor("vera"), cast.federation, accept_agreement=theirs.public_id)
    assert agreements.find(other, "1") == theirs
    for reference in ("2", theirs.public_id, "¹", "x" * 40):
        with refused("not_found"):
            agreements.find(cast.federation, reference)


def test_a_federation_may_be_founded_with_its_first_agreement(cast: Cast) -> None:
    with recorded("federation.founded"):
        made = federations.found(cast.actor("mia"), name="second", agreement=DRAFT)
    first = agreements.current(made)
    assert first is not None
    assert (first.version, acceptors(first)) == (1, ["metro"])
    with refused("field_invalid", field="text"):
        federations.found(cast.actor("mia"), name="third", agreement=Draft("Title", ""))
    assert not Federation.objects.filter(name="third").exists()


def test_accepting_by_letter_signs_for_the_organization_that_joins(cast: Cast) -> None:
    agreement = published(cast)
    federations.invite(cast.actor("olga"), cast.federation, emails=["gina@guest.example"])
    token = token_for("gina@guest.example")
    invitations.accept_as_new(token, password=PASSWORD, organization_name="guest", accept_agreement=agreement.public_id)
    assert acceptors(agreement) == ["acme", "guest"]
    entry = AuditEntry.objects.get(action="invitation.accepted")
    assert entry.details["agreement"] == agreement.public_id


def test_accepting_by_letter_an_agreement_that_was_replaced_leaves_nothing_behind(cast: Cast) -> None:
    first = published(cast)
    federations.invite(cast.actor("olga"), cast.federation, emails=["gina@guest.example"])
    published(cast)
    with refused("agreement_outdated"):
        invitations.accept_as_new(
            token_for("gina@guest.example"),
            password=PASSWORD,
            organization_name="guest",
            accept_agreement=first.public_id,
        )
    assert not Organization.objects.filter(name="guest").exists()


def test_members_are_told_once_before_the_end_and_once_at_it(cast: Cast) -> None:
    agreement = published(cast, days=30)
    told = len(subjects("mia@metro.example"))
    assert agreements.sweep() == 0
    with clock.shifted(timedelta(days=17)):
        assert [agreements.sweep() for _ in range(3)] == [1, 0, 0]
    with clock.shifted(timedelta(days=31)), recorded("agreement.expired", agreement.public_id):
        assert [agreements.sweep() for _ in range(3)] == [1, 0, 0]
    for address, before in (("mia@metro.example", told), ("olga@acme.example", None)):
        soon, over = subjects(address)[-2:]
        assert "expires on" in soon
        assert "expired on" in over
        assert before is None or len(subjects(address)) == before + 2
    assert not any("expire" in subject for subject in subjects("vera@valley.example"))


def test_an_end_that_nothing_hangs_on_is_not_told(cast: Cast) -> None:
    published(cast, days=30)
    published(cast)
    with clock.shifted(timedelta(days=31)):
        assert agreements.sweep() == 0
    other = federations.found(
        cast.actor("olga"), name="second", agreement=Draft("Title", TEXT, clock.now() + timedelta(days=1))
    )
    federations.dissolve(cast.actor("olga"), other)
    assert agreements.sweep() == 0


def test_nobody_publishes_in_a_federation_that_is_no_more(cast: Cast) -> None:
    agreement = published(cast)
    federations.dissolve(cast.actor("olga"), cast.federation)
    with refused("wrong_state"):
        published(cast)
    with refused("wrong_state"):
        agreements.accept(cast.actor("olga"), agreement)
    assert Acceptance.objects.count() == 1


def test_the_api_publishes_shows_and_accepts(cast: Cast) -> None:
    where = f"/api/v1/federations/{cast.federation.public_id}/agreements"
    ends = (clock.now() + timedelta(days=100)).isoformat()
    said = {"title": "Study agreement", "text": TEXT, "expires_at": ends}
    made = cast.client("olga").post(where, said, content_type="application/json")
    assert made.status_code == 201
    assert made.json()["accepted_by"][0]["name"] == "acme"
    for who, sees in (("otto", True), ("mia", True), ("vera", False)):
        (shown,) = cast.client(who).get(where).json()
        assert (shown["version"], shown["text"], shown["current"], shown["expired"]) == (1, TEXT, True, False)
        assert (shown["accepted_by"] is not None) == sees
    accepted = cast.client("mia").post(f"{where}/{made.json()['id']}/accept").json()
    assert accepted["accepted_at"]
    roster = cast.client("olga").get(f"/api/v1/federations/{cast.federation.public_id}/members").json()
    assert {row["name"]: row["agreement"] and row["agreement"]["version"] for row in roster} == {
        "acme": 1,
        "metro": 1,
        "valley": None,
    }


def test_joining_by_the_api_accepts_what_it_names(cast: Cast) -> None:
    agreement = published(cast)
    where = f"/api/v1/federations/{cast.federation.public_id}/join"
    said = {"accept_agreement": "agr_" + "0" * 20}
    assert cast.client("vera").post(where, said, content_type="application/json").status_code == 404
    said = {"accept_agreement": agreement.public_id}
    assert cast.client("vera").post(where, said, content_type="application/json").json()["status"] == "active"
    assert acceptors(agreement) == ["acme", "valley"]


def test_an_id_of_another_federation_is_as_good_as_missing(cast: Cast) -> None:
    other = federations.found(cast.actor("olga"), name="other", agreement=DRAFT)
    theirs = agreements.current(other)
    assert theirs is not None
    where = f"/api/v1/federations/{cast.federation.public_id}/agreements/{theirs.public_id}/accept"
    assert cast.client("mia").post(where).status_code == 404


@pytest.mark.parametrize("count", [3, 30])
def test_lists_ask_the_same_number_of_questions(cast: Cast, count: int, django_assert_max_num_queries: Any) -> None:
    for _ in range(count):
        published(cast)
    with django_assert_max_num_queries(18):
        cast.client("mia").get(f"/api/v1/federations/{cast.federation.public_id}/agreements?limit=50")
