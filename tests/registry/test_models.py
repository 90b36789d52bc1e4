"""Models: registered, described, shared with a federation, and taken out of it again."""

from __future__ import annotations

from typing import Any

import pytest

from federations import permissions
from federations.models import AuditEntry, Federation, Role
from federations.permissions import Actor
from federations.services import audit, federations
from registry import selectors
from registry.models import Model, Share
from registry.services import models
from tests.registry.conftest import House, refusal

LOGISTIC = {"kind": "logistic", "inputs": 3}


def seen_by(actor: Actor) -> list[str]:
    return [model.name for model in selectors.models_for(actor)]


def test_an_owner_registers_a_model(house: House) -> None:
    model = models.create(house.olga, name="radiology-v1", description="X-rays", architecture=LOGISTIC)
    assert model.public_id.startswith("mdl_")
    assert model.organization == house.acme
    assert model.architecture == {**LOGISTIC, "classes": 2, "standardise": False}
    assert permissions.can(house.olga, "model.push", model)
    assert not permissions.can(house.otto, "model.push", model)
    assert permissions.can(house.otto, "model.view", model)
    entry = AuditEntry.objects.get(action="model.created")
    assert (entry.subject, entry.organization, entry.actor) == (
        model.public_id,
        house.acme,
        house.olga.person.public_id,
    )


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": ""}, "invalid_name"),
        ({"name": "a/b"}, "invalid_name"),
        ({"name": "../up"}, "invalid_name"),
        ({"name": "x" * 101}, "invalid_name"),
        ({"name": "sessions"}, "reserved_name"),
        ({"name": "latest"}, "reserved_name"),
        ({"name": "mdl_mine"}, "reserved_name"),
        ({"name": "m", "architecture": {"kind": "oracle"}}, "architecture_invalid"),
        ({"name": "m", "framework": "x" * 31}, "field_invalid"),
        ({"name": "m", "description": "x" * 10_001}, "field_invalid"),
        ({"name": "m", "description": "a\0b"}, "field_invalid"),
        ({"name": "m", "use_case": 7}, "field_invalid"),
    ],
    ids=str,
)
def test_an_unusable_model_is_refused_and_leaves_nothing(house: House, fields: dict[str, Any], code: str) -> None:
    assert refusal(models.create, house.olga, **fields).code == code
    assert not Model.objects.exists()
    assert not AuditEntry.objects.filter(action="model.created").exists()


def test_a_name_is_taken_within_its_organization_only(house: House) -> None:
    models.create(house.olga, name="radiology")
    assert refusal(models.create, house.olga, name="radiology").code == "name_taken"
    assert models.create(house.mia, name="radiology").organization == house.metro


def test_a_viewer_cannot_register_a_model_and_learns_who_can(house: House) -> None:
    error = refusal(models.create, house.otto, name="radiology")
    assert error.code == "forbidden"
    assert "owner" in error.next_step


def test_someone_without_an_organization_cannot_register_a_model(house: House) -> None:
    assert refusal(models.create, Actor(house.rex.person, None), name="radiology").code == "forbidden"


def test_a_key_without_the_scope_cannot_register_a_model(house: House) -> None:
    reader, _ = house.through_key(house.olga, "models:read")
    assert refusal(models.create, reader, name="radiology").code == "scope_missing"
    writer, _ = house.through_key(house.olga, "models:write")
    assert models.create(writer, name="radiology").organization == house.acme


def test_a_description_is_changed_and_noted(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    assert models.describe(house.olga, model, description="Chest X-rays").description == "Chest X-rays"
    models.describe(house.olga, model, description="Chest X-rays")
    assert AuditEntry.objects.get(action="model.changed").details == {"fields": ["description"]}
    assert refusal(models.describe, house.otto, model, description="mine").code == "forbidden"
    assert refusal(models.describe, house.rex, model, description="mine").code == "not_found"


def test_active_members_see_a_shared_model_and_nobody_else(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    assert [seen_by(actor) for actor in (house.olga, house.mia)] == [["radiology"], []]
    models.share(house.olga, model, house.federation)
    for actor, names in ((house.otto, 1), (house.mia, 1), (house.vera, 0), (house.rex, 0)):
        assert len(seen_by(actor)) == names
    assert permissions.can(house.mia, "model.pull", model)
    assert not permissions.can(house.mia, "model.push", model)
    assert not permissions.can(house.mia, "model.manage", model)
    assert refusal(permissions.require, house.vera, "model.view", model).code == "not_found"


def test_sharing_again_changes_nothing(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    first = models.share(house.olga, model, house.federation)
    before = permissions.grants(model)
    assert models.share(house.olga, model, house.federation) == first
    assert permissions.grants(model) == before
    assert AuditEntry.objects.filter(action="model.shared").count() == 1


def test_whoever_joins_later_sees_what_is_shared(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    models.share(house.olga, model, house.federation)
    federations.join(house.vera, house.federation)
    assert seen_by(house.vera) == ["radiology"]
    assert permissions.can(house.vera, "model.pull", model)


def test_whoever_leaves_sees_it_no_more(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    models.share(house.olga, model, house.federation)
    federations.leave(house.mia, house.federation)
    assert seen_by(house.mia) == []
    assert refusal(selectors.find_model, house.mia, model.public_id).code == "not_found"


def test_a_suspended_member_sees_nothing_until_it_is_back(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    models.share(house.olga, model, house.federation)
    federations.suspend(house.olga, house.federation, house.metro)
    assert seen_by(house.mia) == []
    federations.reinstate(house.olga, house.federation, house.metro)
    assert seen_by(house.mia) == ["radiology"]


def test_a_model_shared_twice_is_seen_until_both_ways_are_gone(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    other = federations.found(house.olga, name="second")
    federations.invite(house.olga, other, org_ids=[house.metro.public_id])
    federations.join(house.mia, other)
    models.share(house.olga, model, house.federation)
    models.share(house.olga, model, other)
    federations.leave(house.mia, house.federation)
    assert seen_by(house.mia) == ["radiology"]
    models.unshare(house.olga, model, other)
    assert seen_by(house.mia) == []


def test_unsharing_takes_back_every_grant_of_the_members(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    before = permissions.grants(model)
    models.share(house.olga, model, house.federation)
    assert permissions.grants(model) != before
    models.unshare(house.olga, model, house.federation)
    assert permissions.grants(model) == before
    assert not Share.objects.exists()
    assert refusal(models.unshare, house.olga, model, house.federation).code == "not_found"


def test_a_member_shares_its_own_model_and_leaves_the_owners_alone(house: House) -> None:
    model = models.create(house.mia, name="pathology")
    models.share(house.mia, model, house.federation)
    assert seen_by(house.olga) == ["pathology"]
    assert not permissions.can(house.olga, "model.push", model)
    theirs = models.create(house.olga, name="radiology")
    models.share(house.olga, theirs, house.federation)
    assert refusal(models.unshare, house.mia, theirs, house.federation).code == "forbidden"
    # Who manages the federation may take any model out of it.
    models.unshare(house.olga, model, house.federation)
    assert seen_by(house.mia) == ["pathology", "radiology"]


@pytest.mark.parametrize(("who", "code"), [("otto", "forbidden"), ("vera", "not_found"), ("rex", "not_found")])
def test_who_may_not_share(house: House, who: str, code: str) -> None:
    model = models.create(house.olga, name="radiology")
    assert refusal(models.share, getattr(house, who), model, house.federation).code == code


def test_an_invited_organization_cannot_share_yet(house: House) -> None:
    model = models.create(house.vera, name="dermatology")
    assert refusal(models.share, house.vera, model, house.federation).code == "forbidden"


def test_a_stranger_cannot_share_into_a_federation(house: House) -> None:
    model = models.create(house.rex, name="trojan")
    assert refusal(models.share, house.rex, model, house.federation).code == "not_found"


def test_a_dissolved_federation_shows_its_models_to_nobody(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    models.share(house.olga, model, house.federation)
    federations.dissolve(house.olga, house.federation)
    assert seen_by(house.mia) == []
    assert seen_by(house.olga) == ["radiology"]
    gone = Federation.objects.get(pk=house.federation.pk)
    assert refusal(models.share, house.olga, model, gone).code in ("not_found", "wrong_state")


def test_a_name_resolves_among_what_one_sees_with_ones_own_first(house: House) -> None:
    theirs = models.create(house.olga, name="radiology")
    models.share(house.olga, theirs, house.federation)
    assert selectors.find_model(house.mia, "radiology") == theirs
    own = models.create(house.mia, name="radiology")
    assert selectors.find_model(house.mia, "radiology") == own
    assert selectors.find_model(house.mia, theirs.public_id) == theirs
    assert refusal(selectors.find_model, house.rex, "radiology").code == "not_found"


def test_an_ambiguous_name_is_refused_with_the_ids(house: House) -> None:
    federations.join(house.vera, house.federation)
    found = []
    for actor in (house.olga, house.mia):
        found.append(models.create(actor, name="radiology"))
        models.share(actor, found[-1], house.federation)
    error = refusal(selectors.find_model, house.vera, "radiology")
    assert error.code == "ambiguous_name"
    assert all(model.public_id in error.message for model in found)


def test_own_models_are_listed_first_and_filtered(house: House) -> None:
    models.create(house.olga, name="aorta", framework="sklearn")
    models.share(house.olga, Model.objects.get(name="aorta"), house.federation)
    models.create(house.mia, name="zygoma", use_case="orthopaedics")
    assert seen_by(house.mia) == ["zygoma", "aorta"]
    assert [m.name for m in selectors.models_for(house.mia, framework="sklearn")] == ["aorta"]
    assert [m.name for m in selectors.models_for(house.mia, use_case="orthopaedics")] == ["zygoma"]
    assert [m.name for m in selectors.models_for(house.mia, name="aorta")] == ["aorta"]
    assert [m.name for m in selectors.models_for(house.mia, text="ZYG")] == ["zygoma"]


def test_every_change_is_in_the_owners_unbroken_log(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    models.share(house.olga, model, house.federation)
    models.unshare(house.olga, model, house.federation)
    actions = list(AuditEntry.objects.filter(subject=model.public_id).values_list("action", flat=True))
    assert actions == ["model.created", "model.shared", "model.unshared"]
    assert audit.verify(house.acme.public_id) is None


def test_a_new_person_of_a_member_sees_what_is_shared(house: House) -> None:
    model = models.create(house.olga, name="radiology")
    models.share(house.olga, model, house.federation)
    newcomer = house.cast.colleague(house.metro, Role.DATA_SCIENTIST)
    assert seen_by(Actor(newcomer, house.metro)) == ["radiology"]
