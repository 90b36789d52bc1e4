"""Leakage audits: what an organization may take away to attack it, and what it reports of that.

Rows stay where they are, so attacks run there. What the portal gives for it is what the organization knows already or
could: the updates of its own devices as they are stored here, and the models that these devices began with and got.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from federations import permissions
from federations.models import Organization
from federations.permissions import Actor
from federations.services import audit
from fedportal.common import blobs
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.states import RoundKind, RoundState
from training.models import Assignment, LeakageAudit, Round, Run, Update
from training.privacy.protection import NONE, PLAIN, Protection
from training.services import labelling, local

# Rounds that are told of: those in which there is most to find are the first.
MOST_ROUNDS = 50
# Audits of a run that are kept for each organization; older ones go.
MOST_KEPT = 20
ACTION = "organization.audit_leakage"
OWN = "own"


def held(actor: Actor, run: Run) -> dict[str, Any]:
    """What the portal holds of the run that the actor's organization may attack, its first rounds first.

    Raises `forbidden`, and `audit_unavailable` for a model that is not described.
    """
    organization = _auditing(actor)
    if run.base_version.architecture is None:
        raise FedportalError("audit_unavailable", reason="the model's architecture is not described")
    if run.config.get(local.FIELD):
        raise FedportalError("audit_unavailable", reason="a part of this run's model stays on the devices")
    rounds = list(_rounds(run, organization)[:MOST_ROUNDS])
    with unit():
        audit.record(organization, actor, "run.leakage_taken", run.public_id)
    updates = Update.objects.filter(round__in=rounds, organization=organization).exclude(blob="")
    by_round: dict[int, list[dict[str, Any]]] = {}
    for update in updates.select_related("device").order_by("id"):
        stored = {
            "device": {"id": update.device.public_id, "identifier": update.device.identifier},
            "blob": update.blob,
            "samples": update.samples,
        }
        by_round.setdefault(update.round_id, []).append(stored)
    return {
        "run": run.public_id,
        "architecture": run.base_version.architecture,
        "strategy": run.strategy,
        "parameters": run.config.get("parameters", {}),
        "codec": run.config.get("codec"),
        "privacy": _protection(run).as_json(),
        "rounds": [
            {
                "number": one.number,
                "base": one.base_blob,
                "result": one.result_blob,
                "updates": by_round.get(one.pk, []),
            }
            for one in rounds
        ],
    }


def file_of(actor: Actor, run: Run, digest: str) -> str:
    """The digest, if it is one of the files of `held`. Raises `forbidden`, `not_found`."""
    organization = _auditing(actor)
    rounds = _rounds(run, organization)
    of_round = rounds.filter(Q(base_blob=digest) | Q(result_blob=digest))
    of_device = Update.objects.filter(round__in=rounds, organization=organization, blob=digest)
    if not digest or not (of_round.exists() or of_device.exists()) or not blobs.exists(digest):
        raise FedportalError("not_found", what="file")
    return digest


def report(actor: Actor, run: Run, found: Mapping[str, Any]) -> LeakageAudit:
    """Keep what an audit came to, as `training.api.audits` has checked it; the oldest of too many go."""
    organization = _auditing(actor)
    own = found["rows"]["source"] == OWN
    with unit():
        made = LeakageAudit.objects.create(
            organization=organization, run=run, by=actor.person, own=own, report=dict(found)
        )
        mine = LeakageAudit.objects.filter(organization=organization, run=run)
        mine.filter(pk__in=list(mine.values_list("pk", flat=True)[MOST_KEPT:])).delete()
        audit.record(organization, actor, "run.leakage_audited", run.public_id, own=own)
    return made


def of_run(actor: Actor, run: Run) -> QuerySet[LeakageAudit]:
    """The audits of the run that the actor may see, newest first: those of public rows, and those of the own
    organization's rows."""
    seen = Q(own=False) | (Q(organization=actor.organization) if actor.organization else Q(pk__in=[]))
    return LeakageAudit.objects.filter(seen, run=run).select_related("organization", "by").order_by("-id")


def allow(actor: Actor) -> None:
    """Raises `forbidden` where the actor may not audit for their organization."""
    _auditing(actor)


def _protection(run: Run) -> Protection:
    """How the run's updates were protected as far as that really happened: an audit must not credit what was only set.
    Updates that lie here one by one are in no sum, and noise that nobody adds is none."""
    facts = labelling.facts(run)
    found = facts.protection
    if found.hides and facts.hidden < facts.updates:
        found = replace(found, sums=PLAIN)
    if not facts.added and found.spends:
        found = replace(found, mechanism=NONE, noise=0.0)
    return found


def _auditing(actor: Actor) -> Organization:
    """The organization whose audit it would be. Raises `forbidden`."""
    organization = actor.organization
    if organization is None:
        raise FedportalError("forbidden", action="audit a run", who="Act for an organization that takes part in it.")
    permissions.require(actor, ACTION, organization)
    return organization


def _rounds(run: Run, organization: Organization) -> QuerySet[Round]:
    """The training rounds that came to something and in which devices of the organization were asked, in order."""
    asked = Assignment.objects.filter(round=OuterRef("pk"), organization=organization)
    rounds = Round.objects.filter(Exists(asked), run=run, kind=RoundKind.TRAIN, state=RoundState.DONE)
    return rounds.order_by("number", "attempt")
