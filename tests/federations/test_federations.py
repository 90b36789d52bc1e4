"""Federations: founded, joined, left, suspended, dissolved; every move of a member that there is."""

from __future__ import annotations

import pytest

from federations import permissions, selectors
from federations.models import Federation, Letter, Member, Role
from federations.permissions import Actor
from federations.services import federations, invitations
from fedwire.states import MOVES, MemberState
from tests.cast import FEDERATION, Cast
from tests.federations.helpers import recorded, refused


def state(cast: Cast, name: str) -> str:
    return str(Member.objects.get(federation=cast.federation, organization=getattr(cast, name)).state)


def test_the_founder_owns_and_is_the_first_active_member(cast: Cast) -> None:
    with recorded("federation.founded"):
        federation = federations.found(cast.actor("mia"), name="  second ", description="Two.")
    assert (federation.name, federation.organization) == ("second", cast.metro)
    member = federation.members.get()
    assert (member.organization, member.state, member.joined_at is not None) == (cast.metro, "active", True)


def test_a_name_is_unique_within_its_owner_only(cast: Cast) -> None:
    with refused("name_taken", name=FEDERATION):
        federations.found(cast.actor("olga"), name=FEDERATION)
    assert federations.found(cast.actor("rex"), name=FEDERATION).organization == cast.rival


@pytest.mark.parametrize("name", ["rounds", "Sessions", "fed_x", "a/b"])
def test_reserved_and_unusable_names_are_refused(cast: Cast, name: str) -> None:
    before = Federation.objects.count()
    with refused("invalid_name" if "/" in name else "reserved_name"):
        federations.found(cast.actor("olga"), name=name)
    assert Federation.objects.count() == before


@pytest.mark.parametrize("role", [role for role in Role if role not in (Role.OWNER, Role.ADMIN)])
def test_founding_is_for_owners_and_admins(cast: Cast, role: Role) -> None:
    colleague = cast.colleague(cast.acme, role)
    with refused("forbidden"):
        federations.found(Actor(colleague, cast.acme), name="fresh")


def test_a_person_without_an_organization_founds_nothing(cast: Cast) -> None:
    with refused("forbidden"):
        federations.found(Actor(cast.rex, None), name="fresh")


def test_the_federation_is_changed(cast: Cast) -> None:
    with recorded("federation.changed", cast.federation.public_id):
        federations.change(cast.actor("olga"), cast.federation, name="consortium", description="Bigger.")
    cast.federation.refresh_from_db()
    assert (cast.federation.name, cast.federation.description) == ("consortium", "Bigger.")
    federations.change(cast.actor("olga"), cast.federation, name="consortium")  # nothing to change


def test_a_taken_name_changes_nothing(cast: Cast) -> None:
    federations.found(cast.actor("olga"), name="second")
    with refused("name_taken"):
        federations.change(cast.actor("olga"), cast.federation, name="second", description="New.")
    assert Federation.objects.get(pk=cast.federation.pk).description == "Three hospitals."


def test_an_invited_organization_sees_the_federation_by_name_and_joins(cast: Cast) -> None:
    vera = cast.actor("vera")
    assert [f.public_id for f in selectors.federations(vera, FEDERATION)] == [cast.federation.public_id]
    found = selectors.find_own_place(vera, FEDERATION)
    with recorded("federation.joined", cast.federation.public_id):
        assert federations.join(vera, found).state == MemberState.ACTIVE
    federations.join(vera, found)  # again: nothing
    assert Member.objects.get(organization=cast.valley).joined_at is not None


def test_strangers_do_not_join(cast: Cast) -> None:
    with refused("not_invited"):
        federations.join(cast.actor("rex"), cast.federation)


def test_a_viewer_of_the_invited_does_not_answer_for_it(cast: Cast) -> None:
    viewer = Actor(cast.colleague(cast.valley, Role.VIEWER), cast.valley)
    for act in (federations.join, federations.decline, federations.leave):
        with refused("forbidden"):
            act(viewer, cast.federation)


def test_inviting_writes_to_the_owners_and_admins_of_the_organization(cast: Cast) -> None:
    cast.colleague(cast.rival, Role.ADMIN)
    cast.colleague(cast.rival, Role.VIEWER)
    Letter.objects.all().delete()
    with recorded("federation.invited", cast.federation.public_id):
        done = federations.invite(cast.actor("olga"), cast.federation, org_ids=[cast.rival.public_id] * 2)
    assert [member.state for member in done.members] == ["invited"]
    assert sorted(Letter.objects.values_list("to", flat=True)) == ["admin@rival.example", "rex@rival.example"]


def test_all_are_invited_or_none(cast: Cast) -> None:
    for bad in ([cast.rival.public_id, "org_missing"], [cast.rival.public_id, cast.metro.public_id]):
        with refused("not_found" if "org_missing" in bad else "already_member"):
            federations.invite(cast.actor("olga"), cast.federation, org_ids=bad)
    with refused("field_invalid"):
        federations.invite(cast.actor("olga"), cast.federation, org_ids=[cast.rival.public_id], emails=["nonsense"])
    assert not Member.objects.filter(organization=cast.rival).exists()
    assert not Letter.objects.filter(to="rex@rival.example").exists()


@pytest.mark.parametrize("count", [0, 101])
def test_nobody_and_too_many_cannot_be_invited(cast: Cast, count: int) -> None:
    with refused("field_invalid", field="org_ids"):
        federations.invite(cast.actor("olga"), cast.federation, emails=[f"p{n}@x.example" for n in range(count)])


@pytest.mark.parametrize("end", ["decline", "leave", "remove"])
def test_who_went_comes_back_by_a_new_invitation_only(cast: Cast, end: str) -> None:
    who, name = (cast.actor("vera"), "valley") if end == "decline" else (cast.actor("mia"), "metro")
    organization = getattr(cast, name)
    if end == "remove":
        federations.remove(cast.actor("olga"), cast.federation, organization)
    else:
        getattr(federations, end)(who, cast.federation)
    with refused("not_invited"):
        federations.join(who, cast.federation)
    federations.invite(cast.actor("olga"), cast.federation, org_ids=[organization.public_id])
    assert federations.join(who, cast.federation).state == MemberState.ACTIVE


def test_a_suspended_member_sees_nothing_and_may_still_leave(cast: Cast) -> None:
    with recorded("federation.member_suspended", cast.federation.public_id):
        federations.suspend(cast.actor("olga"), cast.federation, cast.metro)
    mia = cast.actor("mia")
    with refused("not_found"):
        selectors.find_federation(mia, FEDERATION)
    with refused("not_invited"):
        federations.join(mia, cast.federation)
    with recorded("federation.left"):
        federations.leave(mia, selectors.find_own_place(mia, FEDERATION))
    assert state(cast, "metro") == "left"


ACTS = {
    MemberState.ACTIVE: "reinstate",
    MemberState.SUSPENDED: "suspend",
    MemberState.REMOVED: "remove",
}


@pytest.mark.parametrize("old", list(MemberState))
@pytest.mark.parametrize("new", list(ACTS))
def test_the_owner_moves_members_only_along_the_table(cast: Cast, old: MemberState, new: MemberState) -> None:
    Member.objects.filter(organization=cast.metro).update(state=old)
    allowed = new in MOVES["member"][old] and (new != MemberState.ACTIVE or old == MemberState.SUSPENDED)
    act = getattr(federations, ACTS[new])
    if allowed:
        assert act(cast.actor("olga"), cast.federation, cast.metro).state == new
    else:
        with refused("wrong_state"):
            act(cast.actor("olga"), cast.federation, cast.metro)
        assert state(cast, "metro") == old


@pytest.mark.parametrize("act", ["suspend", "remove"])
def test_the_owner_stays_in_its_federation(cast: Cast, act: str) -> None:
    with refused("wrong_state"):
        getattr(federations, act)(cast.actor("olga"), cast.federation, cast.acme)
    for own in (federations.leave, federations.decline):
        with refused("wrong_state"):
            own(cast.actor("olga"), cast.federation)


def test_an_organization_outside_is_no_member_to_manage(cast: Cast) -> None:
    with refused("not_found", what="member"):
        federations.suspend(cast.actor("olga"), cast.federation, cast.rival)


def test_dissolving_ends_members_letters_and_the_name(cast: Cast) -> None:
    letter = federations.invite(cast.actor("olga"), cast.federation, emails=["a@x.example"]).letters[0]
    with recorded("federation.dissolved", cast.federation.public_id):
        federations.dissolve(cast.actor("olga"), cast.federation)
    federations.dissolve(cast.actor("olga"), cast.federation)
    assert (state(cast, "metro"), state(cast, "valley")) == ("removed", "removed")
    with refused("invitation_revoked"):
        invitations.find(letter.link.rpartition("/")[2])
    with refused("wrong_state"):
        federations.invite(cast.actor("olga"), cast.federation, emails=["b@x.example"])
    again = federations.found(cast.actor("olga"), name=FEDERATION)
    assert selectors.find_federation(cast.actor("olga"), FEDERATION) == again
    assert selectors.find_federation(cast.actor("olga"), cast.federation.public_id) == cast.federation


def test_ones_own_name_comes_first_and_two_strange_ones_are_ambiguous(cast: Cast) -> None:
    for owner in ("rex", "vera"):
        other = federations.found(cast.actor(owner), name="shared-name")
        federations.invite(cast.actor(owner), other, org_ids=[cast.metro.public_id])
    mia = cast.actor("mia")
    with refused("ambiguous_name") as _:
        selectors.find_federation(mia, "shared-name")
    own = federations.found(mia, name="shared-name")
    assert selectors.find_federation(mia, "shared-name") == own


def test_the_roster_tells_who_is_in_with_devices_and_letters(cast: Cast) -> None:
    federations.invite(cast.actor("olga"), cast.federation, emails=["guest@x.example"])
    lines = [
        (place.organization.name if place.organization else place.invitation.email, place.role, str(place.state))
        for place in selectors.roster(cast.federation)
    ]
    assert lines == [
        ("acme", "owner", "active"),
        ("metro", "member", "active"),
        ("valley", "member", "invited"),
        ("guest@x.example", "invited", "pending"),
    ]
    metro = selectors.roster(cast.federation)[1]
    assert (metro.devices, metro.last_seen_at) == (1, cast.device.last_seen_at)
    assert len(selectors.roster(cast.federation, letters=False)) == 3


def test_grants_follow_what_upper_floors_register(cast: Cast) -> None:
    """A follower is asked about each of its objects whenever a member comes or goes."""
    asked = []
    followers = list(permissions._followers)
    try:
        permissions.follow(
            within=lambda federation: [federation],
            relation=lambda obj, organization: asked.append((obj, organization)) or "member",
        )
        federations.join(cast.actor("vera"), cast.federation)
    finally:
        permissions._followers[:] = followers
    assert asked == [(cast.federation, cast.valley)]
