"""Roles, actions and scopes: the tables hold together, and the answers say who would do."""

from __future__ import annotations

import pytest

from federations import permissions, roles
from federations.models import Role
from federations.permissions import Actor
from federations.services import keys
from fedwire.errors import FedportalError
from tests.cast import Cast

ACTIONS = sorted(roles.SCOPES[roles.ANY_SCOPE])


def test_every_action_has_a_word_and_a_scope() -> None:
    assert set(ACTIONS) == set(roles.WORDS)
    # Overriding a gate and consenting are decisions of a person: only a key that may everything has them.
    decisions = {"organization.override_gates", "organization.consent_inference"}
    assert {action for action in ACTIONS if roles.scope_for(action) == roles.ANY_SCOPE} == decisions == roles.UNSCOPED


def test_a_key_that_pushes_versions_does_not_let_them_through_their_gate(cast: Cast) -> None:
    key = keys.find_api_key(cast.key_for(cast.olga, cast.acme, ["models:write", "federations:write"]))
    actor = Actor(key.person, key.organization, key)
    assert permissions.can(actor, "organization.set_gates", cast.acme)
    for action in roles.UNSCOPED:
        assert permissions.can(cast.actor("olga"), action, cast.acme)
        with pytest.raises(FedportalError) as caught:
            permissions.require(actor, action, cast.acme)
        assert (caught.value.code, caught.value.context) == ("scope_missing", {"scope": "*"})


def test_scopes_name_only_actions_that_exist() -> None:
    assert {action for actions in roles.SCOPES.values() for action in actions} == set(ACTIONS)


def test_every_role_sees_its_own_organization_and_what_it_owns() -> None:
    for role in Role:
        assert role in roles.ORGANIZATION["organization.view"]
        for noun in roles.OBJECTS:
            first = "starter" if noun == "run" else "owner"
            assert "view" in roles.verbs(noun, first, role)


def test_no_relation_gives_what_the_owner_does_not_have() -> None:
    for noun, relations in roles.OBJECTS.items():
        for relation in relations:
            for role in Role:
                assert roles.verbs(noun, relation, role) <= roles.verbs(noun, "owner", role), (noun, relation, role)


def test_what_every_relation_to_a_run_shows_is_written_down() -> None:
    assert set(roles.FLAGS) == set(roles.OBJECTS["run"])
    for relation, words in roles.FLAGS.items():
        assert (words, "", roles.EVERYONE) in roles.rows("run", relation)
    assert roles.rows("model", "member")[0] == ("see this model", "model.view", roles.EVERYONE)


def test_who_administers_people_need_not_be_the_one_who_may_train() -> None:
    assert "train" not in roles.verbs("federation", "owner", Role.ADMIN)
    assert Role.DATA_SCIENTIST not in roles.ORGANIZATION["organization.manage_people"]


@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_exactly_what_its_row_says(cast: Cast, role: Role) -> None:
    actor = Actor(cast.colleague(cast.acme, role), cast.acme)
    for action, allowed in roles.ORGANIZATION.items():
        assert permissions.can(actor, action, cast.acme) == (role in allowed), action
        assert not permissions.can(actor, action, cast.rival), action
    for verb in roles.OBJECTS["federation"]["owner"]:
        may = verb in roles.verbs("federation", "owner", role)
        assert permissions.can(actor, f"federation.{verb}", cast.federation) == may, verb


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        ("federation.train", "An owner or a data scientist of acme may do this."),
        ("federation.manage", "An owner or an admin of acme may do this."),
        ("organization.manage_devices", "An owner, an admin or a device operator of acme may do this."),
        ("organization.view", "Anyone of acme may do this."),
    ],
)
def test_the_refusal_says_who_may(cast: Cast, action: str, sentence: str) -> None:
    obj = cast.acme if action.startswith("organization") else cast.federation
    assert permissions.who_may(action, obj, cast.actor("otto")) == sentence


def test_a_member_is_told_of_its_own_people_where_they_would_do(cast: Cast) -> None:
    analyst = Actor(cast.colleague(cast.metro, Role.VIEWER), cast.metro)
    with pytest.raises(FedportalError, match="You may not share models with this federation here") as caught:
        permissions.require(analyst, "federation.share", cast.federation)
    assert caught.value.next_step == "An owner or a data scientist of metro may do this."
    with pytest.raises(FedportalError) as caught:
        permissions.require(analyst, "federation.manage", cast.federation)
    assert caught.value.next_step == "An owner or an admin of acme may do this."


@pytest.mark.parametrize("scope", sorted(set(roles.SCOPES) - {"*"}))
def test_a_key_may_only_what_its_scope_says_whatever_its_person_may(cast: Cast, scope: str) -> None:
    token = cast.key_for(cast.olga, cast.acme, [scope])
    key = keys.find_api_key(token)
    actor = Actor(key.person, key.organization, key)
    for action in ACTIONS:
        if action.startswith(("organization", "federation")):
            obj = cast.acme if action.startswith("organization") else cast.federation
            assert permissions.can(actor, action, obj) == (action in roles.SCOPES[scope]), action


def test_a_key_never_has_more_rights_than_its_person(cast: Cast) -> None:
    key = keys.find_api_key(cast.keys["otto"])
    assert not permissions.can(Actor(key.person, key.organization, key), "federation.train", cast.federation)


def test_a_missing_scope_is_named(cast: Cast) -> None:
    key = keys.find_api_key(cast.key_for(cast.olga, cast.acme, ["federations:read"]))
    with pytest.raises(FedportalError) as caught:
        permissions.require(Actor(key.person, key.organization, key), "federation.invite", cast.federation)
    assert (caught.value.code, caught.value.context) == ("scope_missing", {"scope": "federations:write"})


def test_a_stranger_with_any_key_hears_that_there_is_nothing(cast: Cast) -> None:
    key = keys.find_api_key(cast.key_for(cast.rex, cast.rival, ["devices:enroll"]))
    with pytest.raises(FedportalError) as caught:
        permissions.require(Actor(key.person, key.organization, key), "federation.invite", cast.federation)
    assert caught.value.code == "not_found"


def test_an_inactive_person_may_nothing(cast: Cast) -> None:
    cast.olga.is_active = False
    cast.olga.save()
    assert not permissions.can(cast.actor("olga"), "federation.view", cast.federation)


@pytest.mark.parametrize("role", list(Role))
def test_scopes_that_write_are_only_of_roles_that_change_something(role: Role) -> None:
    writing = {scope for scope in roles.scopes_of(role) if scope.endswith((":write", ":enroll"))}
    assert bool(writing) == (role not in (Role.AUDITOR, Role.VIEWER))
    for scope in set(roles.SCOPES) - set(roles.scopes_of(role)):
        gained = roles.SCOPES[scope] - roles.SCOPES.get(scope.replace(":write", ":read"), frozenset())
        assert scope.endswith(":read") or not (gained & roles.actions_of(role) - {"organization.make_key"})
    assert roles.ANY_SCOPE in roles.scopes_of(role)
