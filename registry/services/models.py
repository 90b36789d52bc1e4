"""Models and with whom they are shared."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError

from federations import permissions
from federations.models import Federation, Member, Organization
from federations.permissions import Actor
from federations.services import audit, members, names, notifications
from fedportal.common.transactions import unit
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.states import MemberState
from registry.models import Model, Share

MAX_TEXT = 10_000


def create(
    actor: Actor,
    *,
    name: str,
    description: str = "",
    framework: str = "pytorch",
    use_case: str = "other",
    architecture: dict[str, Any] | None = None,
) -> Model:
    """A new model of the actor's organization, without a version yet.

    `architecture` is a description as in `fedwire.architectures`; with one, every version must be of it unless it
    brings its own. Raises `forbidden`, `name_taken`, `invalid_name`, `reserved_name`, `field_invalid` or
    `architecture_invalid`.
    """
    organization = _organization_of(actor)
    permissions.require(actor, "organization.create_model", organization)
    name = names.checked(name)
    texts = _checked(description=description, framework=framework, use_case=use_case)
    described = Architecture.parse(architecture).spec() if architecture is not None else None
    with unit():
        if Model.objects.filter(organization=organization, name=name).exists():
            raise FedportalError("name_taken", what="model", name=name)
        model = _created(organization=organization, name=name, architecture=described, created_by=actor.person, **texts)
        permissions.write(model, "owner", organization)
        audit.record(organization, actor, "model.created", model.public_id, name=name)
    return model


def describe(actor: Actor, model: Model, **texts: str) -> Model:
    """Change `description`, `framework` or `use_case`; the name stays. Raises `forbidden`, `field_invalid`."""
    permissions.require(actor, "model.manage", model)
    changes = {field: text for field, text in _checked(**texts).items() if getattr(model, field) != text}
    if changes:
        with unit():
            Model.objects.filter(pk=model.pk).update(**changes)
            audit.record(model.organization, actor, "model.changed", model.public_id, fields=sorted(changes))
        model.refresh_from_db()
    return model


def share(actor: Actor, model: Model, federation: Federation) -> Share:
    """Show the model to the federation's active members. Sharing twice changes nothing.

    Raises `forbidden` unless the actor may share both the model and with the federation, and `not_found` for a
    federation that is dissolved.
    """
    with unit():
        members.lock(federation)
        permissions.require(actor, "model.share", model)
        permissions.require(actor, "federation.share", federation)
        if federation.dissolved_at is not None:
            raise FedportalError("not_found", what="federation")
        found, fresh = Share.objects.get_or_create(
            model=model,
            federation=federation,
            defaults={"organization": model.organization, "created_by": actor.person},
        )
        if fresh:
            _settle(model, federation)
            audit.record(model.organization, actor, "model.shared", model.public_id, federation=federation.public_id)
            _tell_members(model, federation)
    return found


def unshare(actor: Actor, model: Model, federation: Federation) -> None:
    """Take the model out of the federation: by who may share the model, or who manages the federation.

    Raises `forbidden`, and `not_found` when it is not shared there.
    """
    with unit():
        members.lock(federation)
        if not permissions.can(actor, "federation.manage", federation):
            permissions.require(actor, "model.share", model)
        gone, _ = Share.objects.filter(model=model, federation=federation).delete()
        if not gone:
            raise FedportalError("not_found", what="share")
        _settle(model, federation)
        audit.record(model.organization, actor, "model.unshared", model.public_id, federation=federation.public_id)


def relation(model: Model, organization: Organization) -> str | None:
    """What the model is to the organization: its own, shared with it as an active member, or nothing."""
    if model.organization_id == organization.pk:
        return "owner"
    shared = Member.objects.filter(
        organization=organization,
        state=MemberState.ACTIVE,
        federation__dissolved_at__isnull=True,
        federation__shares__model=model,
    )
    return "member" if shared.exists() else None


def shared_in(federation: Federation) -> list[Model]:
    """Every model shared with the federation, locked until the unit ends.

    A model may be shared with several federations. Of two units that send an organization away from two of them, the
    one that locks the model later sees what the other did, so one of them withdraws the grants.
    """
    shared = Model.objects.filter(pk__in=Share.objects.filter(federation=federation).values("model_id"))
    return list(shared.select_for_update(no_key=True).order_by("pk"))


def _tell_members(model: Model, federation: Federation) -> None:
    """The other active members hear that they see the model now."""
    others = Organization.objects.filter(
        federation_members__federation=federation, federation_members__state=MemberState.ACTIVE
    ).exclude(pk=model.organization_id)
    for organization in others.order_by("pk"):
        notifications.tell(
            organization,
            "model.shared",
            sentence=f"{model.organization.name} shared the model {model.name} with {federation.name}.",
            address=f"/models/{model.public_id}",
            data={"model": model.public_id, "federation": federation.public_id},
        )


def _settle(model: Model, federation: Federation) -> None:
    """Make the grants of the federation's organizations true; the owner keeps theirs."""
    Model.objects.select_for_update(no_key=True).get(pk=model.pk)  # for the reason that `shared_in` says
    others = Organization.objects.filter(federation_members__federation=federation).exclude(pk=model.organization_id)
    for organization in others.order_by("pk"):
        permissions.settle(model, organization, relation(model, organization))


def _organization_of(actor: Actor) -> Organization:
    if actor.organization is None:
        raise FedportalError("forbidden", action="create models", who="Found or join an organization first.")
    return actor.organization


def _created(**fields: Any) -> Model:
    try:
        with unit():
            return Model.objects.create(**fields)
    except IntegrityError:  # somebody took the name between the question and the row
        raise FedportalError("name_taken", what="model", name=fields["name"]) from None


def _checked(**texts: str) -> dict[str, str]:
    """The texts, if each fits its column. Raises `field_invalid`."""
    for field, text in texts.items():
        limit = Model._meta.get_field(field).max_length or MAX_TEXT
        if not isinstance(text, str):
            raise FedportalError("field_invalid", field=field, reason="it is not text.")
        if len(text) > limit:
            raise FedportalError("field_invalid", field=field, reason=f"it is longer than {limit} characters.")
        if "\0" in text:
            raise FedportalError("field_invalid", field=field, reason="it holds a NUL character.")
    return texts
