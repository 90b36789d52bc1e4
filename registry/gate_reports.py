"""Where a version stands with its gate, with as much of it as the reader may know: for the API and the pages alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from federations.permissions import Actor
from registry import selectors
from registry.delivery import gates
from registry.delivery.gates import Check
from registry.models import GateOverride, GatePolicy, GateReport, ModelVersion
from registry.services import gatekeeping
from registry.services.gates import overrides_of

NONE = "none"
HIDDEN = "only the members of its federation see how each of them does"


@dataclass(frozen=True)
class Line:
    """A check as one reads it."""

    name: str
    title: str
    figure: float | None
    bound: str
    limit: float
    outcome: str
    reason: str


@dataclass(frozen=True)
class Shown:
    """A version's report by the present limits. `state` is "none" without limits; `open`: it may go to devices."""

    model_id: str
    version: str
    open: bool
    state: str
    code: str
    reason: str
    revision: int | None
    checks: list[Line]
    against: str | None
    judged_at: datetime | None
    overrides: list[GateOverride]
    override: GateOverride | None


def shown(actor: Actor, version: ModelVersion) -> Shown:
    """The report, and for the organization that owns the model also who let the version through, and why.

    Checks that wait to be judged are there without a figure.
    """
    found = gatekeeping.standing(version)
    policy, report = found.policy, found.report
    own = actor.organization == version.model.organization
    lines: list[Line] = []
    state = NONE
    if policy is not None and policy.limits.checks():
        judged = report is not None and found.code != gatekeeping.UNJUDGED
        state = report.state if report is not None and judged else GateReport.State.PENDING
        lines = [_line(check, policy) for check in _checks(policy, report)]
        if not own and not _sees_gap(actor, version):
            lines = [_without_figure(line) if line.name == "gap" else line for line in lines]
    return Shown(
        model_id=version.model.public_id,
        version=version.version,
        open=found.open,
        state=str(state),
        code=found.code,
        reason=found.reason,
        revision=policy.revision if state != NONE and policy is not None else None,
        checks=lines,
        against=report.against.version if report is not None and report.against is not None else None,
        judged_at=report.judged_at if report is not None else None,
        overrides=overrides_of(version) if own else [],
        override=found.override,
    )


def _checks(policy: GatePolicy, report: GateReport | None) -> list[Check]:
    if report is not None and report.checks:
        return gatekeeping.checks(report)
    return [
        Check(name, None, limit, "unknown", "it is not judged yet") for name, limit in policy.limits.checks().items()
    ]


def _line(check: Check, policy: GatePolicy) -> Line:
    title, bound = gates.title(check.name, policy.metric), gates.bound(check.name, policy.metric)
    return Line(check.name, title, check.figure, bound, check.limit, check.outcome, check.reason)


def _without_figure(line: Line) -> Line:
    return Line(line.name, line.title, None, line.bound, line.limit, line.outcome, HIDDEN)


def _sees_gap(actor: Actor, version: ModelVersion) -> bool:
    """Whether what the run that made the version noted of its members is for this reader too."""
    row = ModelVersion.objects.select_related("model").get(pk=version.pk)  # what came may be told already
    return "fairness" in selectors.told(actor, [row])[0].metrics
