"""Organizations and the people in them."""

from __future__ import annotations

import pytest

from federations import permissions
from federations.models import Membership, Organization, Person, Role
from federations.permissions import Actor
from federations.services import invitations, keys, organizations
from fedwire.errors import FedportalError
from tests.cast import Cast
from tests.federations.helpers import recorded, refused

JSON = "application/json"


def member(cast: Cast, name: str) -> Membership:
    return Membership.objects.get(person=getattr(cast, name), organization=cast.organization_of(name))


def test_a_name_belongs_to_one_organization_in_whatever_case(cast: Cast) -> None:
    with refused("name_taken", what="organization"):
        organizations.found("Acme", cast.rex)
    assert Organization.objects.filter(name__iexact="acme").count() == 1


def test_a_person_may_be_in_several_organizations(cast: Cast) -> None:
    second = organizations.found("acme labs", cast.olga)
    assert set(Organization.objects.filter(memberships__person=cast.olga)) == {cast.acme, second}


def test_a_role_is_changed_and_recorded(cast: Cast) -> None:
    with recorded("person.role_changed", cast.otto.public_id):
        organizations.set_role(cast.actor("olga"), member(cast, "otto"), Role.ADMIN)
    assert member(cast, "otto").role == Role.ADMIN


@pytest.mark.parametrize("target", ["otto", "olga"])
def test_nobody_raises_anyone_above_their_own_role(cast: Cast, target: str) -> None:
    admin = Actor(cast.colleague(cast.acme, Role.ADMIN), cast.acme)
    with refused("role_too_high"):
        organizations.set_role(admin, member(cast, target), Role.OWNER)


def test_an_admin_takes_nothing_from_an_owner(cast: Cast) -> None:
    admin = Actor(cast.colleague(cast.acme, Role.ADMIN), cast.acme)
    with refused("role_too_high"):
        organizations.set_role(admin, member(cast, "olga"), Role.VIEWER)
    with refused("role_too_high"):
        organizations.remove(admin, member(cast, "olga"))


@pytest.mark.parametrize("giver", [role for role in Role if role not in (Role.OWNER, Role.ADMIN)])
def test_only_owners_and_admins_change_people(cast: Cast, giver: Role) -> None:
    actor = Actor(cast.colleague(cast.acme, giver), cast.acme)
    for role in Role:
        with refused("forbidden"):
            organizations.set_role(actor, member(cast, "otto"), role)
        with refused("forbidden"):
            invitations.invite_colleague(actor, cast.acme, email="new@acme.example", role=role)


def test_the_last_owner_stays(cast: Cast) -> None:
    for act in (
        lambda: organizations.set_role(cast.actor("olga"), member(cast, "olga"), Role.ADMIN),
        lambda: organizations.remove(cast.actor("olga"), member(cast, "olga")),
    ):
        with refused("last_owner"):
            act()
    organizations.set_role(cast.actor("olga"), member(cast, "otto"), Role.OWNER)
    organizations.remove(cast.actor("olga"), member(cast, "olga"))
    assert not Membership.objects.filter(person=cast.olga, organization=cast.acme).exists()


def test_removing_a_person_ends_their_keys_here_and_nowhere_else(cast: Cast) -> None:
    elsewhere = organizations.found("ottos own", cast.otto)
    kept = cast.key_for(cast.otto, elsewhere, ["*"])
    with recorded("person.removed", cast.otto.public_id):
        organizations.remove(cast.actor("olga"), member(cast, "otto"))
    with pytest.raises(FedportalError, match="revoked"):
        keys.find_api_key(cast.keys["otto"])
    assert keys.find_api_key(kept).organization == elsewhere
    assert cast.client("otto").get("/api/v1/whoami").status_code == 401


def test_a_person_may_go_by_themselves(cast: Cast) -> None:
    with recorded("person.left", cast.otto.public_id):
        organizations.remove(cast.actor("otto"), member(cast, "otto"))


def test_a_foreign_membership_is_not_found(cast: Cast) -> None:
    with refused("not_found"):
        organizations.remove(cast.actor("rex"), member(cast, "otto"))


def test_suspending_an_organization_refuses_everybody_in_it_at_once(cast: Cast) -> None:
    staff = cast.rex
    staff.is_staff = True
    ask = {
        "mia": lambda: cast.client("mia").get("/api/v1/federations"),
        "device": lambda: cast.client("device").post(f"/api/v1/devices/{cast.device.public_id}/heartbeat", "{}", JSON),
    }
    assert {who: call().status_code for who, call in ask.items()} == {"mia": 200, "device": 200}
    with recorded("organization.suspended", cast.metro.public_id):
        organizations.suspend(staff, cast.metro)
    organizations.suspend(staff, cast.metro)  # again: nothing
    for call in ask.values():
        assert (call().status_code, call().json()["error"]) == (403, "organization_suspended")
    assert cast.browser("mia").get("/api/v1/federations").json() == []
    with recorded("organization.reinstated", cast.metro.public_id):
        organizations.reinstate(staff, cast.metro)
    assert cast.client("mia").get("/api/v1/federations").status_code == 200


def test_only_staff_suspend(cast: Cast) -> None:
    with refused("forbidden"):
        organizations.suspend(cast.olga, cast.metro)


def test_ownership_is_handed_over_in_one_act(cast: Cast) -> None:
    with recorded("organization.transferred", cast.otto.public_id):
        organizations.transfer(cast.actor("olga"), member(cast, "otto"))
    assert (member(cast, "otto").role, member(cast, "olga").role) == (Role.OWNER, Role.ADMIN)
    olga, otto = cast.actor("olga"), cast.actor("otto")
    assert permissions.can(otto, "organization.set_policy", cast.acme)
    assert permissions.can(otto, "federation.train", cast.federation)
    assert not permissions.can(olga, "organization.set_policy", cast.acme)
    assert not permissions.can(olga, "federation.train", cast.federation)
    organizations.remove(olga, member(cast, "olga"))  # now she may leave


def test_only_the_owner_hands_over_and_renames(cast: Cast) -> None:
    for role in (role for role in Role if role != Role.OWNER):
        actor = Actor(cast.colleague(cast.acme, role), cast.acme)
        with refused("forbidden"):
            organizations.transfer(actor, member(cast, "otto"))
        with refused("forbidden"):
            organizations.rename(actor, cast.acme, "mine now")
    with refused("not_found"):
        organizations.transfer(cast.actor("rex"), member(cast, "otto"))


def test_ownership_does_not_go_to_oneself_or_to_somebody_locked_out(cast: Cast) -> None:
    with refused("field_invalid"):
        organizations.transfer(cast.actor("olga"), member(cast, "olga"))
    cast.otto.is_active = False
    cast.otto.save()
    with refused("wrong_state"):
        organizations.transfer(cast.actor("olga"), member(cast, "otto"))
    assert member(cast, "olga").role == Role.OWNER


def test_whoever_went_meanwhile_is_missing_and_nothing_is_recorded(cast: Cast) -> None:
    olga, gone = cast.actor("olga"), member(cast, "otto")
    organizations.remove(olga, member(cast, "otto"))
    with refused("not_found"):
        organizations.transfer(olga, gone)
    with refused("not_found"):
        organizations.set_role(olga, gone, Role.ADMIN)
    with refused("not_found"):
        organizations.remove(olga, gone)
    assert member(cast, "olga").role == Role.OWNER


def test_whoever_was_locked_out_meanwhile_does_not_become_owner(cast: Cast) -> None:
    heir = member(cast, "otto")
    assert heir.person.is_active  # as the page saw it
    Person.objects.filter(pk=cast.otto.pk).update(is_active=False)
    with refused("wrong_state"):
        organizations.transfer(cast.actor("olga"), heir)


def test_letters_that_only_an_owner_may_write_end_with_the_transfer(cast: Cast) -> None:
    owners = invitations.invite_colleague(cast.actor("olga"), cast.acme, email="x@acme.example", role=Role.OWNER)
    viewers = invitations.invite_colleague(cast.actor("olga"), cast.acme, email="y@acme.example", role=Role.VIEWER)
    organizations.transfer(cast.actor("olga"), member(cast, "otto"))
    states = {one.invitation.pk: one.invitation for one in (owners, viewers)}
    for invitation in states.values():
        invitation.refresh_from_db()
    assert (owners.invitation.state, viewers.invitation.state) == ("revoked", "pending")


def test_the_last_owner_is_told_to_transfer(cast: Cast) -> None:
    with pytest.raises(FedportalError) as caught:
        organizations.remove(cast.actor("olga"), member(cast, "olga"))
    assert "Transfer the ownership" in caught.value.next_step


def test_an_organization_is_renamed_and_stays_the_same(cast: Cast) -> None:
    with recorded("organization.renamed", cast.acme.public_id):
        organizations.rename(cast.actor("olga"), cast.acme, "  acme hospitals ")
    assert Organization.objects.get(public_id=cast.acme.public_id).name == "acme hospitals"
    with refused("name_taken"):
        organizations.rename(cast.actor("olga"), Organization.objects.get(pk=cast.acme.pk), "METRO")
    with refused("reserved_name"):
        organizations.rename(cast.actor("olga"), Organization.objects.get(pk=cast.acme.pk), "sessions")
    organizations.rename(cast.actor("olga"), Organization.objects.get(pk=cast.acme.pk), "ACME hospitals")  # its own
