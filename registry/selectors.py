"""Questions about models and versions. Everything here is scoped to what the actor may see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf, prod
from typing import Any

from django.db.models import Case, Count, OuterRef, Prefetch, Q, QuerySet, Subquery, When

from federations import permissions
from federations.models import Federation, Member
from federations.permissions import Actor
from federations.selectors import find
from fedwire.errors import FedportalError
from fedwire.formats import SAFETENSORS
from fedwire.states import InstallationState, MemberState
from registry import formats, versioning, wording
from registry.models import Artifact, Installation, Model, ModelVersion, Rollout, Share
from registry.services import health, installations, portions, versions

# How much of a model's history a picture shows.
DRAWN, DRAWN_BEFORE, DRAWN_AFTER = 6, 3, 4
# What a version notes of those who took part in its run.
AMONG_MEMBERS = ("organizations", "federation", "privacy_spent", "fairness", "slices", "personal", "devices")


def model_names(actor: Actor, ids: Iterable[str]) -> Mapping[str, str]:
    """Public id → name, of those models that the actor may see. One query."""
    seen = permissions.visible(actor, Model.objects.filter(public_id__in=list(ids)))
    return dict(seen.values_list("public_id", "name"))


def models_for(
    actor: Actor, *, framework: str = "", use_case: str = "", name: str = "", text: str = ""
) -> QuerySet[Model]:
    """The models the actor may see, with what `with_latest` adds and their organization; own ones first."""
    found = permissions.visible(actor, Model.objects.all())
    for field, value in (("framework", framework), ("use_case", use_case), ("name", name)):
        if value:
            found = found.filter(**{field: value})
    if text:
        found = found.filter(Q(name__icontains=text) | Q(description__icontains=text))
    foreign = Case(When(organization=actor.organization, then=0), default=1)
    return with_latest(found).select_related("organization").order_by(foreign, "name", "id")


def with_latest(queryset: QuerySet[Model]) -> QuerySet[Model]:
    """The models with `latest_version` ("2.0.0") and `latest_at`, when it came; both None before the first."""
    newest = ModelVersion.objects.filter(model=OuterRef("pk")).order_by("-major", "-minor", "-patch")
    return queryset.annotate(
        latest_version=Subquery(newest.values("version")[:1]), latest_at=Subquery(newest.values("created_at")[:1])
    )


def may_train(actor: Actor, model: Model, federation: Federation | None = None) -> bool:
    """Whether the actor may start a run of the model: in this federation, or in any that it is shared with."""
    if not permissions.can(actor, "model.train", model):
        return False
    shared = Federation.objects.filter(
        dissolved_at=None, pk__in=Share.objects.filter(model=model).values("federation_id")
    )
    if federation is not None:
        shared = shared.filter(pk=federation.pk)
    return permissions.holding(actor, "federation.train", shared).exists()


def find_model(actor: Actor, reference: str) -> Model:
    """The model with this id or name among those the actor sees. Raises `not_found`, `ambiguous_name`."""
    model: Model = find(actor, Model.objects.select_related("organization"), reference, "model")
    return model


def find_by_alias(actor: Actor, reference: str | int) -> Model:
    """The model with this id, name or whole-number alias; a name of digits comes before an alias.

    Raises `not_found`, `ambiguous_name`.
    """
    if isinstance(reference, str):
        number = reference.isascii() and reference.isdigit() and len(reference) < 18
        try:
            return find_model(actor, reference)
        except FedportalError as error:
            if error.code != "not_found" or not number:
                raise
    alias = Model.objects.filter(alias=int(reference)).select_related("organization")
    found: Model | None = permissions.visible(actor, alias).first()
    if found is None:
        raise FedportalError("not_found", what="model")
    return found


def find_version(model: Model, reference: str) -> ModelVersion:
    """The version called "2.0.0", "latest" or by its id. Raises `not_found`, `version_invalid`."""
    if reference == "latest":
        found = versions.latest(model)
    elif reference.startswith("ver_"):
        found = versions_of(model).filter(public_id=reference).first()
    else:
        found = versions_of(model).filter(version=str(versioning.parse(reference))).first()
    if found is None:
        raise FedportalError("not_found", what="version")
    return found


def versions_of(model: Model) -> QuerySet[ModelVersion]:
    """The model's versions, newest first, with what a list of them shows."""
    rows = ModelVersion.objects.filter(model=model).select_related(
        "model", "model__organization", "parent", "created_by"
    )
    return rows.order_by("-major", "-minor", "-patch")


def shared_with(actor: Actor, federation: Federation) -> QuerySet[Model]:
    """The models shared with the federation that the actor may see, with `latest_version`."""
    found = permissions.visible(actor, Model.objects.filter(shares__federation=federation))
    return with_latest(found).select_related("organization").order_by("name", "id")


def federations_of(actor: Actor, model: Model) -> list[Federation]:
    """The federations the model is shared with that the actor may see."""
    found = permissions.visible(actor, Federation.objects.filter(shares__model=model, dissolved_at__isnull=True))
    return list(found.order_by("name", "id"))


def with_shares(actor: Actor, queryset: QuerySet[Model]) -> QuerySet[Model]:
    """The models with `visible_shares`: their shares in federations that the actor may see."""
    seen = permissions.visible(actor, Federation.objects.filter(dissolved_at__isnull=True))
    shares = Share.objects.filter(federation__in=seen).select_related("federation").order_by("federation__name", "id")
    return queryset.prefetch_related(Prefetch("shares", shares, to_attr="visible_shares"))


def history(model: Model, most: int) -> list[ModelVersion]:
    """The newest versions, oldest first, without their lists of tensors."""
    return list(versions_of(model).defer("manifest", "parent__manifest")[:most])[::-1]


def around(version: ModelVersion) -> list[ModelVersion]:
    """The version with those it was trained from and those that were trained from it, oldest first."""
    rows = versions_of(version.model).defer("manifest", "parent__manifest")
    parents = _parents(version, DRAWN_BEFORE)
    children = rows.filter(parent=version)[:DRAWN_AFTER]
    return [*rows.filter(version__in=[*parents, version.version]).reverse(), *reversed(children)]


def federations_seen_from_inside(actor: Actor) -> set[str]:
    """The ids of the federations in which the actor's organization is active: there it sees every run."""
    inside = Federation.objects.filter(members__organization=actor.organization, members__state=MemberState.ACTIVE)
    return set(inside.values_list("public_id", flat=True))


@dataclass(frozen=True)
class File:
    """A form in which a version can be fetched. `state`: ready, pending, failed, or "" when nobody asked for it yet."""

    form: str
    state: str
    size: int | None
    sha256: str | None = None
    reason: str = ""


def files_of(version: ModelVersion) -> list[File]:
    """Every form there is or could be."""
    made = {row.format: row for row in Artifact.objects.filter(version=version)}
    found = [File(SAFETENSORS, Artifact.State.READY, version.size, version.blob)]
    for form in formats.possible(version.architecture):
        row = made.get(form)
        if row is not None and row.state == Artifact.State.READY:
            found.append(File(form, row.state, row.size, row.blob))
        elif form != SAFETENSORS:
            found.append(File(form, row.state if row else "", None, None, row.reason if row else ""))
    return found


def told(actor: Actor, rows: Iterable[ModelVersion]) -> list[ModelVersion]:
    """The versions with as much of their lineage and metrics as the actor may know; to be shown, never saved.

    Who gave to a run, in which federation, and how the model does at each of them stays among the members of that
    federation while they are members, and the organization that owns the model. A model can be shared beyond them.
    """
    found = list(rows)
    own = actor.organization.pk if actor.organization else None
    places = {
        place.federation.public_id: place
        for place in Member.objects.filter(organization=actor.organization).select_related("federation")
    }
    for row in found:
        noted = row.lineage.get("federation", {}).get("id")
        if row.model.organization_id != own and not _was_inside(places.get(noted), row):
            row.lineage = {name: value for name, value in row.lineage.items() if name not in AMONG_MEMBERS}
            row.metrics = {name: value for name, value in row.metrics.items() if name not in AMONG_MEMBERS}
    return found


def _was_inside(place: Member | None, version: ModelVersion) -> bool:
    if place is None or place.state == MemberState.ACTIVE:
        return place is not None
    # A suspended member does not see the federation, until it is let in again.
    gone = place.state in (MemberState.SUSPENDED, MemberState.LEFT, MemberState.REMOVED)
    return gone and place.joined_at is not None and version.created_at <= place.changed_at


def parameters(version: ModelVersion) -> int:
    """P: how many numbers a run of this version averages."""
    return sum(prod(row["shape"]) for row in version.manifest if row["role"] == "weight")


def lineage(version: ModelVersion) -> dict[str, Any]:
    """Where the version comes from, as one reads it: a sentence, its parents up to the first, and what a run noted."""
    return {
        "origin": version.origin,
        "sentence": sentence(version),
        "parents": _parents(version),
        **version.lineage,
    }


def sentence(version: ModelVersion) -> str:
    """ "aggregated from 50 rounds, 2 organizations" for a trained version, else how it came."""
    if version.origin != ModelVersion.Origin.TRAINED:
        return "initial weights" if "seed" in version.lineage else "pushed"
    sentence = f"aggregated from {wording.counted(version.lineage.get('rounds', 0), 'round')}"
    organizations = version.lineage.get("organizations")
    if organizations is not None:
        sentence += f", {wording.counted(len(organizations), 'organization')}"
    return f"{sentence}; the best of its run" if version.lineage.get("chosen") == "best" else sentence


def _parents(version: ModelVersion, most: int = 20) -> list[str]:
    """The versions before this one, nearest first."""
    parent_of = dict(ModelVersion.objects.filter(model_id=version.model_id).order_by().values_list("pk", "parent_id"))
    chain: list[int] = []
    pk = version.parent_id
    while pk is not None and len(chain) < most:
        chain.append(pk)
        pk = parent_of.get(pk)
    names = dict(ModelVersion.objects.filter(pk__in=chain).order_by().values_list("pk", "version"))
    return [names[pk] for pk in chain]


# --- rollouts --------------------------------------------------------------------------------------------------------


def rollouts_of(actor: Actor, model: Model | None = None) -> QuerySet[Rollout]:
    """The rollouts to the devices of the actor's organization, of this model or of all, newest first."""
    permissions.require_scope(actor, "model.view")
    found = permissions.visible(actor, Rollout.objects.all())
    found = found.filter(model=model) if model is not None else found
    return found.select_related("model", "version", "version__model", "previous_version", "organization")


def find_rollout(actor: Actor, reference: str) -> Rollout:
    """The rollout with this id, to the devices of the actor's organization. Raises `not_found`."""
    found = rollouts_of(actor).filter(public_id=reference).first()
    if found is None:
        raise FedportalError("not_found", what="rollout")
    return found


def installed_by_state(rollout: Rollout) -> dict[str, int]:
    """State of an installation → how many of the rollout's devices are in it."""
    return dict(rollout.installations.order_by().values_list("state").annotate(Count("pk")))


def outstanding(rollout: Rollout) -> int:
    """How many devices in use have not answered yet."""
    return installations.outstanding(rollout).count() + portions.missing(rollout)


def failures(rollout: Rollout) -> QuerySet[Installation]:
    """What devices could not do, the latest first."""
    rows = rollout.installations.filter(state=InstallationState.FAILED).select_related("device")
    return rows.order_by("-changed_at", "-pk")


def health_of(rollout: Rollout) -> dict[str, Any]:
    """What devices reported in the rollout's window: predictions, errors, rates; None where nothing was seen.

    `latency_ms` is the 95th of a hundred, None also beyond what is counted in classes.
    """
    seen = health.verdict(rollout)
    return {
        "predictions": seen.count,
        "errors": seen.errors,
        "error_rate": seen.error_rate,
        "latency_ms": None if seen.latency_ms == inf else seen.latency_ms,
        "judged": seen.judged,
        "accuracy": seen.accuracy,
        "problem": seen.problem,
    }
