"""What people see of plans of inference: found, listed, and each with what was released. Nothing here changes anything.

While a plan runs only numbers of devices are told. What a single device answered is told to nobody, at no time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count, QuerySet

from federations import permissions
from federations.models import Federation
from federations.permissions import Actor
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.inference import CONFUSION, asked_of
from fedwire.states import AskedState, InferenceState, word
from registry.models import ModelVersion
from training.models import InferenceConsent, InferencePart, InferencePlan
from training.services import inference_costs

# So many plans are looked through for one that says something of a version.
MOST_ASKED = 10
RIGHT = "federation.view_roster"  # for members; who is only invited sees neither who is in nor what they count


def of_federation(actor: Actor, federation: Federation) -> QuerySet[InferencePlan]:
    """The plans of the federation, newest first. Raises `forbidden` for who is not in it."""
    permissions.require(actor, RIGHT, federation)
    return _with_names(InferencePlan.objects.filter(federation=federation))


def measured(version: ModelVersion) -> dict[str, Any]:
    """The accuracy that the newest plan found which counted true and predicted classes of this version and may show all
    of them; empty where none did."""
    done = InferencePlan.objects.filter(version=version, state=InferenceState.DONE, asked__summary=CONFUSION)
    for result in done.exclude(result=None).order_by("-pk").values_list("result", flat=True)[:MOST_ASKED]:
        if "accuracy" in result:
            return {"accuracy": result["accuracy"]}
    return {}


def find_plan(actor: Actor, public_id: str) -> InferencePlan:
    """The plan with this id. Raises `not_found` for a missing and for a foreign one alike."""
    found = _with_names(InferencePlan.objects.filter(public_id=public_id)).first()
    if found is None or not permissions.can(actor, RIGHT, found.federation):
        permissions.require_scope(actor, RIGHT)
        raise FedportalError("not_found", what="plan")
    return found


def shown(plans: Iterable[InferencePlan]) -> list[dict[str, Any]]:
    """Plans as JSON, each with how its devices stand. One query for all."""
    found = list(plans)
    counts: dict[int, dict[str, int]] = {}
    rows = InferencePart.objects.filter(plan__in=found).order_by().values_list("plan", "state")
    for plan, state, count in rows.annotate(count=Count("pk")):
        counts.setdefault(plan, {})[state] = count
    return [_plan(plan, counts.get(plan.pk, {})) for plan in found]


def own_parts(actor: Actor, plan: InferencePlan) -> QuerySet[InferencePart]:
    """The parts of the actor's own organization's devices: how each stands, and why one declined."""
    rows = InferencePart.objects.filter(plan=plan, organization=actor.organization)
    return rows.select_related("device").order_by("device__identifier").defer("cells")


def consent_shown(consent: InferenceConsent | None) -> dict[str, Any]:
    """A consent as JSON; `given` is false without one."""
    if consent is None:
        return {"given": False}
    return {
        "given": True,
        "summaries": consent.summaries,
        "least_count": consent.least_count,
        "least_noise": consent.least_noise,
        "plans_a_month": consent.plans_a_month,
        "given_at": consent.given_at.isoformat(),
    }


def _plan(plan: InferencePlan, counts: dict[str, int]) -> dict[str, Any]:
    asked = asked_of(plan.asked)
    architecture = Architecture.parse(plan.version.architecture)
    return {
        "id": plan.public_id,
        "name": plan.name,
        "federation": {"id": plan.federation.public_id, "name": plan.federation.name},
        "organization": {"id": plan.organization.public_id, "name": plan.organization.name},
        "model": {"id": plan.model.public_id, "name": plan.model.name},
        "version": plan.version.version,
        "features": list(architecture.columns),
        "labels": list(architecture.labels) or [str(number) for number in range(architecture.classes)],
        "asked": asked.as_json(),
        "least_devices": plan.least_devices,
        "least_organizations": plan.least_organizations,
        "epsilon": inference_costs.epsilon(asked, plan.delta),
        "delta": plan.delta if asked.noise else None,
        "status": str(plan.state),
        "words": word("inference", plan.state),
        "reason": plan.reason,
        "devices": {str(state): counts.get(state, 0) for state in AskedState if counts.get(state)},
        "left_out": plan.left_out,
        "result": plan.result if plan.state == InferenceState.DONE else None,
        "created_at": plan.created_at.isoformat(),
        "deadline": plan.deadline.isoformat() if plan.deadline else None,
        "ended_at": plan.ended_at.isoformat() if plan.ended_at else None,
    }


def _with_names(rows: QuerySet[InferencePlan]) -> QuerySet[InferencePlan]:
    return rows.select_related(
        "organization", "federation", "federation__organization", "model", "version", "created_by"
    ).order_by("-pk")
