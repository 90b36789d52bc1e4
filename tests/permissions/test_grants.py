"""The whole map of object grants after everything that may change it, written out here, not taken from the table."""

from __future__ import annotations

from typing import Any

import pytest

from federations import permissions, roles
from federations.models import Federation, Organization, Role
from federations.services import federations, organizations
from fedportal.common.transactions import unit
from registry.models import Model
from registry.services import models, versions
from tests.cast import Cast
from training.services import runs, unusual

SEE = "view view_roster"
FEDERATION = {
    "owner": {
        "owner": "view view_roster manage invite share train",
        "admin": "view view_roster manage invite",
        "data_scientist": "view view_roster share train",
        "device_operator": SEE,
        "privacy_officer": SEE,
        "auditor": SEE,
        "viewer": SEE,
    },
    "member": {
        "owner": "view view_roster share",
        "admin": SEE,
        "data_scientist": "view view_roster share",
        "device_operator": SEE,
        "privacy_officer": SEE,
        "auditor": SEE,
        "viewer": SEE,
    },
    "trainer": {
        "owner": "view view_roster share train",
        "admin": SEE,
        "data_scientist": "view view_roster share train",
        "device_operator": SEE,
        "privacy_officer": SEE,
        "auditor": SEE,
        "viewer": SEE,
    },
    "invited": dict.fromkeys(Role, "view"),
}
MODEL = {
    "owner": {
        "owner": "view pull push share train manage",
        "admin": "view",
        "data_scientist": "view pull push share train manage",
        "device_operator": "view pull",
        "privacy_officer": "view",
        "auditor": "view",
        "viewer": "view",
    },
    "member": {
        "owner": "view pull train",
        "admin": "view",
        "data_scientist": "view pull train",
        "device_operator": "view pull",
        "privacy_officer": "view",
        "auditor": "view",
        "viewer": "view",
    },
}

Map = dict[str, dict[str, str]]


def named(grants: dict[str, frozenset[str]]) -> dict[str, set[str]]:
    """The map with names of organizations in the place of their ids."""
    names = {organization.public_id: organization.name for organization in Organization.objects.all()}
    return {
        f"{names[group.partition(':')[0]]}:{group.partition(':')[2]}": set(verbs) for group, verbs in grants.items()
    }


def expected(table: Map, **relations: str) -> dict[str, set[str]]:
    """Organization → relation, as the map of every group."""
    return {
        f"{organization}:{role}": set(verbs.split())
        for organization, relation in relations.items()
        for role, verbs in table[relation].items()
    }


def of_federation(cast: Cast) -> dict[str, set[str]]:
    return named(permissions.grants(cast.federation))


@pytest.fixture
def model(cast: Cast) -> Model:
    return models.create(cast.actor("olga"), name="radiology-v1")


def test_founding_inviting_and_joining_write_exactly_their_rows(cast: Cast) -> None:
    assert of_federation(cast) == expected(FEDERATION, acme="owner", metro="member", valley="invited")


def test_a_federation_that_was_just_founded_is_its_owners_alone(cast: Cast) -> None:
    fresh = federations.found(cast.actor("rex"), name="alone")
    assert named(permissions.grants(fresh)) == expected(FEDERATION, rival="owner")


def test_joining_turns_the_invited_into_a_member(cast: Cast) -> None:
    federations.join(cast.actor("vera"), cast.federation)
    assert of_federation(cast) == expected(FEDERATION, acme="owner", metro="member", valley="member")


def test_declining_ends_the_sight(cast: Cast) -> None:
    federations.decline(cast.actor("vera"), cast.federation)
    assert of_federation(cast) == expected(FEDERATION, acme="owner", metro="member")


@pytest.mark.parametrize("end", ["leave", "suspend", "remove"])
def test_who_leaves_or_is_sent_away_keeps_nothing(cast: Cast, model: Model, end: str) -> None:
    models.share(cast.actor("olga"), model, cast.federation)
    if end == "leave":
        federations.leave(cast.actor("mia"), cast.federation)
    else:
        getattr(federations, end)(cast.actor("olga"), cast.federation, cast.metro)
    assert of_federation(cast) == expected(FEDERATION, acme="owner", valley="invited")
    assert named(permissions.grants(model)) == expected(MODEL, acme="owner")


def test_reinstating_gives_back_exactly_what_suspending_took(cast: Cast, model: Model) -> None:
    models.share(cast.actor("olga"), model, cast.federation)
    before = of_federation(cast), permissions.grants(model)
    federations.suspend(cast.actor("olga"), cast.federation, cast.metro)
    federations.reinstate(cast.actor("olga"), cast.federation, cast.metro)
    assert (of_federation(cast), permissions.grants(model)) == before


def test_letting_members_start_runs_is_written_and_taken_back(cast: Cast) -> None:
    federations.change(cast.actor("olga"), cast.federation, members_may_start_runs=True)
    assert of_federation(cast) == expected(FEDERATION, acme="owner", metro="trainer", valley="invited")
    federations.join(cast.actor("vera"), cast.federation)
    assert of_federation(cast) == expected(FEDERATION, acme="owner", metro="trainer", valley="trainer")
    federations.change(cast.actor("olga"), cast.federation, members_may_start_runs=False)
    assert of_federation(cast) == expected(FEDERATION, acme="owner", metro="member", valley="member")


def test_dissolving_leaves_the_owner_alone(cast: Cast, model: Model) -> None:
    models.share(cast.actor("olga"), model, cast.federation)
    federations.dissolve(cast.actor("olga"), cast.federation)
    assert of_federation(cast) == expected(FEDERATION, acme="owner")
    assert named(permissions.grants(model)) == expected(MODEL, acme="owner")


def test_a_model_is_its_owners_until_it_is_shared(cast: Cast, model: Model) -> None:
    assert named(permissions.grants(model)) == expected(MODEL, acme="owner")


def test_sharing_shows_a_model_to_active_members_only(cast: Cast, model: Model) -> None:
    models.share(cast.actor("olga"), model, cast.federation)
    assert named(permissions.grants(model)) == expected(MODEL, acme="owner", metro="member")
    federations.join(cast.actor("vera"), cast.federation)
    assert named(permissions.grants(model)) == expected(MODEL, acme="owner", metro="member", valley="member")
    models.unshare(cast.actor("olga"), model, cast.federation)
    assert named(permissions.grants(model)) == expected(MODEL, acme="owner")


def test_leaving_one_of_two_federations_keeps_what_the_other_shows(cast: Cast, model: Model) -> None:
    second = federations.found(cast.actor("olga"), name="second")
    federations.invite(cast.actor("olga"), second, org_ids=[cast.metro.public_id])
    federations.join(cast.actor("mia"), second)
    for federation in (cast.federation, second):
        models.share(cast.actor("olga"), model, federation)
    federations.leave(cast.actor("mia"), second)
    assert named(permissions.grants(model)) == expected(MODEL, acme="owner", metro="member")
    federations.leave(cast.actor("mia"), cast.federation)
    assert named(permissions.grants(model)) == expected(MODEL, acme="owner")


def test_a_suspended_organization_keeps_its_rows_and_may_do_nothing(cast: Cast) -> None:
    staff = cast.rex
    staff.is_staff = True
    before = of_federation(cast)
    organizations.suspend(staff, cast.acme)
    assert of_federation(cast) == before
    actor = cast.actor("olga")
    assert not permissions.can(actor, "federation.view", cast.federation)
    assert list(permissions.visible(actor, Federation.objects.all())) == []


def test_a_changed_role_moves_the_person_and_no_grant(cast: Cast) -> None:
    before = of_federation(cast)
    membership = cast.acme.memberships.get(person=cast.otto)
    organizations.set_role(cast.actor("olga"), membership, Role.DATA_SCIENTIST)
    assert of_federation(cast) == before
    assert [group.name for group in cast.otto.groups.all()] == [f"{cast.acme.public_id}:data_scientist"]
    assert permissions.can(cast.actor("otto"), "federation.train", cast.federation)
    assert not permissions.can(cast.actor("otto"), "federation.manage", cast.federation)


def test_who_is_removed_from_an_organization_is_in_none_of_its_groups(cast: Cast) -> None:
    organizations.remove(cast.actor("olga"), cast.acme.memberships.get(person=cast.otto))
    assert list(cast.otto.groups.all()) == []
    assert not permissions.can(cast.actor("otto"), "federation.view", cast.federation)


def test_a_guest_has_what_was_granted_and_only_in_person(cast: Cast) -> None:
    with unit():
        permissions.write_guest(cast.federation, cast.rex, ["view_roster"])
    assert permissions.grants(cast.federation)[cast.rex.public_id] == {"view", "view_roster"}
    rex = cast.actor("rex")
    assert permissions.can(rex, "federation.view_roster", cast.federation)
    assert not permissions.can(rex, "federation.invite", cast.federation)
    assert cast.federation in permissions.visible(rex, Federation.objects.all())
    # The key of rival acts within rival.
    assert cast.client("rex").get(f"/api/v1/federations/{cast.federation.public_id}").status_code == 404
    assert cast.browser("rex").get(f"/api/v1/federations/{cast.federation.public_id}").status_code == 200
    permissions.withdraw_guest(cast.federation, cast.rex)
    assert not permissions.can(rex, "federation.view", cast.federation)


def test_a_superuser_is_a_stranger_to_every_tenant(cast: Cast) -> None:
    cast.rex.is_superuser = cast.rex.is_staff = True
    cast.rex.save()
    for action in ("federation.view", "federation.manage", "organization.view"):
        obj: Any = cast.acme if action.startswith("organization") else cast.federation
        assert not permissions.can(cast.actor("rex"), action, obj)
    assert list(permissions.visible(cast.actor("rex"), Federation.objects.all())) == []


RUN = {
    "starter": {
        "owner": "view control",
        "admin": "view",
        "data_scientist": "view control",
        "device_operator": "view",
        "privacy_officer": "view",
        "auditor": "view",
        "viewer": "view",
    },
    "member": dict.fromkeys(Role, "view"),
}
RUN["owner"] = RUN["starter"]


@pytest.fixture
def trained(cast: Cast, tmp_path: Any, settings: Any) -> Model:
    """A model with a version, shared with the consortium whose members may start runs."""
    settings.FEDPORTAL_DATA_DIR = tmp_path
    described = {"kind": "logistic", "inputs": 2, "classes": 2}
    model = models.create(cast.actor("olga"), name="radiology-v2", architecture=described)
    versions.initial(cast.actor("olga"), model)
    models.share(cast.actor("olga"), model, cast.federation)
    federations.change(cast.actor("olga"), cast.federation, members_may_start_runs=True)
    return model


def test_a_run_is_its_starters_the_owners_and_the_members(cast: Cast, trained: Model) -> None:
    own = runs.start(cast.actor("olga"), trained, rounds=1)
    assert named(permissions.grants(own)) == expected(RUN, acme="owner", metro="member")
    theirs = runs.start(cast.actor("mia"), trained, rounds=1)
    assert named(permissions.grants(theirs)) == expected(RUN, acme="owner", metro="starter")


def test_flags_of_a_run_are_for_whom_the_table_says(cast: Cast, trained: Model) -> None:
    federations.join(cast.actor("vera"), cast.federation)
    run = runs.start(cast.actor("mia"), trained, rounds=1)
    for person in ("olga", "otto", "mia", "vera"):
        actor = cast.actor(person)
        assert actor.organization is not None
        relation = runs.relation(run, actor.organization)
        every = roles.FLAGS[relation or ""] == roles.EVERY_FLAG
        assert unusual.sight(actor, run) == (unusual.EVERYBODYS if every else actor.organization.public_id), person
    assert [runs.relation(run, one) for one in (cast.acme, cast.metro, cast.valley)] == ["owner", "starter", "member"]


def test_a_run_follows_the_members_that_come_and_go(cast: Cast, trained: Model) -> None:
    run = runs.start(cast.actor("olga"), trained, rounds=1)
    federations.join(cast.actor("vera"), cast.federation)
    assert named(permissions.grants(run)) == expected(RUN, acme="owner", metro="member", valley="member")
    federations.suspend(cast.actor("olga"), cast.federation, cast.metro)
    assert named(permissions.grants(run)) == expected(RUN, acme="owner", valley="member")
    federations.reinstate(cast.actor("olga"), cast.federation, cast.metro)
    federations.leave(cast.actor("vera"), cast.federation)
    assert named(permissions.grants(run)) == expected(RUN, acme="owner", metro="member")


def test_the_map_of_everything_has_no_other_rows(cast: Cast, trained: Model) -> None:
    run = runs.start(cast.actor("olga"), trained, rounds=1)
    everything = sum(
        len(verbs) for obj in (cast.federation, trained, run) for verbs in permissions.grants(obj).values()
    )
    assert permissions.count_grants() == everything
