"""Organizations and the people in them."""

from __future__ import annotations

import pytest

from federations.models import Membership, Organization, Role
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
