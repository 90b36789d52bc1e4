"""Questions about models and versions. Everything here is scoped to what the actor may see."""

from __future__ import annotations

from math import prod
from typing import Any

from django.db.models import Case, OuterRef, Prefetch, Q, QuerySet, Subquery, When

from federations import permissions
from federations.models import Federation
from federations.permissions import Actor
from federations.selectors import find
from fedwire.errors import FedportalError
from registry import versioning
from registry.models import Model, ModelVersion, Share
from registry.services import versions


def models_for(
    actor: Actor, *, framework: str = "", use_case: str = "", name: str = "", text: str = ""
) -> QuerySet[Model]:
    """The models the actor may see, with `latest_version`, their organization and their shares; own ones first."""
    found = permissions.visible(actor, Model.objects.all())
    for field, value in (("framework", framework), ("use_case", use_case), ("name", name)):
        if value:
            found = found.filter(**{field: value})
    if text:
        found = found.filter(Q(name__icontains=text) | Q(description__icontains=text))
    foreign = Case(When(organization=actor.organization, then=0), default=1)
    return with_latest(found).select_related("organization").order_by(foreign, "name", "id")


def with_latest(queryset: QuerySet[Model]) -> QuerySet[Model]:
    """The models with `latest_version` ("2.0.0", or None before the first)."""
    newest = ModelVersion.objects.filter(model=OuterRef("pk")).order_by("-major", "-minor", "-patch")
    return queryset.annotate(latest_version=Subquery(newest.values("version")[:1]))


def find_model(actor: Actor, reference: str) -> Model:
    """The model with this id or name among those the actor sees. Raises `not_found`, `ambiguous_name`."""
    model: Model = find(actor, Model.objects.select_related("organization"), reference, "model")
    return model


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
    rounds, organizations = version.lineage.get("rounds", 0), len(version.lineage.get("organizations", []))
    return f"aggregated from {_counted(rounds, 'round')}, {_counted(organizations, 'organization')}"


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


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
