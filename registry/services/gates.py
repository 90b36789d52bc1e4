"""What versions have to pass before they go to devices: limits are set, versions judged, and one let through by hand.

Figures come from what is there already: the evaluation that a run recorded, which made the version or began with it, on
rows that devices held out; the files; and a forward pass on this machine. Nothing is asked of a device for a gate. So
the same version gets the same report, however often it is judged; what was not known may be known later, and a time is
measured anew when somebody asks for that.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db.models import Q

from federations import permissions
from federations.permissions import Actor
from federations.services import audit
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from registry.delivery import gates
from registry.models import GateOverride, GatePolicy, GateReport, Model, ModelVersion
from registry.services import figures, gatekeeping, installations, models

log = logging.getLogger(__name__)

SET, OVERRIDE = "organization.set_gates", "organization.override_gates"
# A worker that has not finished in this time was killed; another may begin.
CLAIM = timedelta(minutes=30)
MAX_REASON = 500
# Limit → the smallest and the largest that means something.
RANGES: Mapping[str, tuple[float, float]] = {
    "quality": (0, 1e9),
    "gap": (0, 1e9),
    "drift": (0, 1e9),
    "cosine": (0, 2),
    "size": (1, 1 << 60),
    "latency": (0, 1e9),
}


def policy_of(model: Model) -> GatePolicy:
    """The model's limits; a policy that was not saved, of revision 0, where nobody set any."""
    found = GatePolicy.objects.filter(model=model).select_related("changed_by").first()
    return found or GatePolicy(organization=model.organization, model=model, changed_at=model.created_at)


def set_policy(actor: Actor, model: Model, *, metric: str = "accuracy", **limits: float | None) -> GatePolicy:
    """Set exactly these limits: quality, gap, drift, cosine, size, latency; what is left out is not looked at.

    A change makes the next revision, by which every version is judged anew, and what is on its way to devices without
    having passed it is called back. The same limits again change nothing. Raises `forbidden`, `field_invalid`.
    """
    _require(actor, SET, model)
    wanted = _checked(metric, limits)
    with unit():
        gatekeeping.lock(model.pk)
        policy = policy_of(model)
        before = {name: getattr(policy, name) for name in wanted}
        unset = policy.pk is None and all(value is None for value in limits.values())
        if unset or (policy.pk is not None and before == wanted):
            return policy
        for name, value in wanted.items():
            setattr(policy, name, value)
        policy.revision += 1
        policy.changed_at, policy.changed_by = clock.now(), actor.person
        policy.save()
        said = {name: value for name, value in wanted.items() if value is not None}
        audit.record(model.organization, actor, "gate.changed", model.public_id, revision=policy.revision, **said)
    installations.recall(model)
    return policy


def ask(actor: Actor, version: ModelVersion, *, remeasure: bool = False) -> GateReport:
    """The report of the version by the present limits; pending when it has to be judged, which `judge` does.

    What is judged and still true stays as it is. `remeasure`: also what was measured as a time. Raises `forbidden`, and
    `no_gate` for a model without limits.
    """
    model = version.model
    if not (model.organization == actor.organization and permissions.can(actor, SET, model.organization)):
        permissions.require(actor, "model.push", model)
    report = wanted(version, remeasure=remeasure, unknown_too=True)
    if report is None:
        raise FedportalError("no_gate", model=model.name)
    return report


def wanted(version: ModelVersion, *, remeasure: bool = False, unknown_too: bool = False) -> GateReport | None:
    """The report by the present limits, pending when it is not there, or not true any more; None without limits.

    `unknown_too`: also when something was not known, which may be known by now.
    """
    with unit():
        gatekeeping.lock(version.model_id)
        found = gatekeeping.standing(version)
        if found.policy is None or not found.policy.limits.checks():
            return None
        if found.report is None:
            return GateReport.objects.create(
                organization_id=version.organization_id, version=version, revision=found.policy.revision
            )
        report = found.report
        if report.state != GateReport.State.PENDING:
            old = gatekeeping.outdated(version, report, found.serving) or (unknown_too and _lacks(report))
            if old or (remeasure and "latency" in found.policy.limits.checks()):
                GateReport.objects.filter(pk=report.pk).update(state=GateReport.State.PENDING, claimed_at=None)
                report.state = GateReport.State.PENDING
    return report


def judge(report_pk: int, remeasure: bool = False) -> bool:
    """Judge the version of a pending report, if nobody else is at it; whether this call did. It may take a while."""
    claim = clock.now()
    free = Q(claimed_at__isnull=True) | Q(claimed_at__lt=claim - CLAIM)
    rows = GateReport.objects.filter(pk=report_pk, state=GateReport.State.PENDING)
    if not rows.filter(free).update(claimed_at=claim):
        return False
    report = GateReport.objects.select_related("version__model__organization", "version__parent").get(pk=report_pk)
    policy = GatePolicy.objects.get(model=report.version.model_id)
    if policy.revision != report.revision:  # nobody asks any more
        rows.delete()
        return False
    now = gatekeeping.serving(report.version.model)
    found = figures.of(report.version, policy.limits, now, remeasure=remeasure)
    if found is None:  # the files are being compared by somebody else; the sweeper rings again
        rows.filter(claimed_at=claim).update(claimed_at=None)
        return False
    checks = gates.judge(policy.limits, found)
    outcome = gates.outcome(checks)
    with unit():
        gatekeeping.lock(report.version.model_id)
        won = rows.filter(claimed_at=claim).update(
            state=outcome, checks=[vars(check) for check in checks], against=now, judged_at=clock.now()
        )
        if won:
            said = {"revision": report.revision, "outcome": outcome, "version": report.version.version}
            against = {"against": now.version} if now is not None else {}
            owner = report.version.model.organization
            audit.record(owner, audit.PORTAL, "gate.judged", report.version.public_id, **said, **against)
    installations.recall(report.version.model)
    return bool(won)


def override(actor: Actor, version: ModelVersion, reason: str) -> GateOverride:
    """Let this version, which did not pass the present revision of the limits, go to devices all the same.

    It holds for nothing else: not for another version, and not when the limits change. Again: once. Raises `forbidden`,
    `field_invalid` without a reason, `gate_unjudged` for a version that has no report yet, `no_gate`, and
    `wrong_state` for one that passed.
    """
    model = version.model
    _require(actor, OVERRIDE, model)
    reason = reason.strip() if isinstance(reason, str) else ""
    if not reason or len(reason) > MAX_REASON or not reason.isprintable():
        what = f"say why, in 1 to {MAX_REASON} printable characters."
        raise FedportalError("field_invalid", field="reason", reason=what)
    with unit():
        gatekeeping.lock(model.pk)
        found = gatekeeping.standing(version)
        if found.override is not None:
            return found.override
        if found.policy is None or not found.policy.limits.checks():
            raise FedportalError("no_gate", model=model.name)
        if found.code == gatekeeping.UNJUDGED:
            raise gatekeeping.refused(version, found)
        if found.open:
            what, hint = f"{model.name} {version.version}", "It may go to devices: nothing is left to override."
            raise FedportalError("wrong_state", what=what, state="through its gate", hint=hint)
        revision = found.policy.revision
        made = GateOverride.objects.create(
            organization=model.organization, version=version, revision=revision, reason=reason, by=actor.person
        )
        _tell(actor, version, "gate.overridden", revision=revision, reason=reason)
    return made


def withdraw(actor: Actor, version: ModelVersion) -> None:
    """Take back that the version was let through; what is on its way to devices is called back. Devices that hold it
    keep it: a rollback takes it from them. Raises `forbidden`, and `not_found` when it was not let through."""
    model = version.model
    _require(actor, SET, model)
    with unit():
        gatekeeping.lock(model.pk)
        found = gatekeeping.standing(version).override
        alive = GateOverride.objects.filter(pk=found.pk if found is not None else None, withdrawn_at=None)
        if found is None or not alive.update(withdrawn_at=clock.now(), withdrawn_by=actor.person):
            raise FedportalError("not_found", what="override")
        _tell(actor, version, "gate.override_withdrawn", revision=found.revision)
    installations.recall(model)


def overrides_of(version: ModelVersion) -> list[GateOverride]:
    """Every time that the version was let through, newest first."""
    return list(GateOverride.objects.filter(version=version).select_related("by", "withdrawn_by"))


def due() -> list[int]:
    """The pending reports that nobody is at: of what is newest or on its way, of every model with limits.

    Also calls back what is on its way and may not be, should a call have been lost.
    """
    for policy in GatePolicy.objects.select_related("model__organization"):
        try:
            _look_after(policy)
        except Exception:  # one that cannot be looked at must not hold up those behind it
            log.exception("the gate of %s was not looked at; the next pass tries again", policy.model.public_id)
    free = Q(claimed_at__isnull=True) | Q(claimed_at__lt=clock.now() - CLAIM)
    pending = GateReport.objects.filter(free, state=GateReport.State.PENDING).order_by("pk")
    return list(pending.values_list("pk", flat=True))


def _look_after(policy: GatePolicy) -> None:
    if policy.limits.checks():
        for version in _looked_after(policy.model):
            if gatekeeping.standing(version).code == gatekeeping.UNJUDGED:
                wanted(version)
        installations.recall(policy.model)


def _looked_after(model: Model) -> list[ModelVersion]:
    """The newest version, and what is on its way to devices."""
    rows = ModelVersion.objects.filter(model=model).select_related("model__organization").order_by()
    moving = rows.filter(pk__in=installations.moving(model))
    newest = rows.order_by("-major", "-minor", "-patch").first()
    return list({version.pk: version for version in [*moving, *([newest] if newest else [])]}.values())


def _lacks(report: GateReport) -> bool:
    return any(check.outcome == "unknown" for check in gatekeeping.checks(report))


def _require(actor: Actor, action: str, model: Model) -> None:
    """Gates are the business of the organization that owns the model. Raises `forbidden`, `not_found`, …"""
    if actor.organization is None or models.relation(model, actor.organization) is None:
        raise FedportalError("not_found", what="model")
    if actor.organization != model.organization:
        raise permissions.Refused(actor, action, model.organization)
    permissions.require(actor, action, model.organization)


def _checked(metric: str, limits: Mapping[str, float | None]) -> dict[str, Any]:
    """Every column of the limits, with what was said. Raises `field_invalid`."""
    if metric not in gates.METRICS:
        raise FedportalError("field_invalid", field="metric", reason=f"it is one of {', '.join(gates.METRICS)}.")
    for name, value in limits.items():
        if name not in RANGES:
            raise FedportalError("field_invalid", field=name, reason="there is no such limit.")
        low, high = RANGES[name]
        if name == "quality" and not gates.METRICS[metric]:
            high = 1
        fits = not isinstance(value, bool) and isinstance(value, int if name == "size" else (int, float))
        if value is not None and not (fits and math.isfinite(value) and low <= value <= high):
            raise FedportalError("field_invalid", field=name, reason=f"it must be a number from {low:g} to {high:g}.")
    return {"metric": metric, **{name: limits.get(name) for name in RANGES}}


def _tell(actor: Actor, version: ModelVersion, action: str, **details: Any) -> None:
    named = {"model": version.model.public_id, "version": version.version}
    audit.record(version.model.organization, actor, action, version.public_id, **named, **details)
