"""What people and programs are told of a run. Every function is called in the unit of what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Q

from federations.models import Organization
from federations.services import notifications
from fedwire.states import MemberState, RunState
from training.models import Round, Run, Update
from training.wording import listed, moment


def started(run: Run) -> None:
    """The run has begun."""
    who, where = run.organization.name, run.federation.name
    sentence = f"{who} started training {run.model.name} in {where}: {run.total_rounds} rounds."
    _tell(run, "run.started", sentence, {"rounds": run.total_rounds})


def finished(run: Run, state: RunState, *, reason: str = "", version: str = "") -> None:
    """The run is over: with a version, or with a reason."""
    how = {RunState.COMPLETED: "is complete", RunState.FAILED: "failed", RunState.STOPPED: "was stopped"}[state]
    why = f": {reason}" if reason else f"; the result is version {version}." if version else "."
    sentence = f"The training of {run.model.name} in {run.federation.name} {how}{why}"
    data = {"state": str(state), **({"reason": reason} if reason else {}), **({"version": version} if version else {})}
    _tell(run, "run.finished", sentence, data)


def waiting(run: Run, stalled: Round, missing: list[str]) -> None:
    """The round has waited for devices for a while."""
    named = f" for {listed(missing)}" if missing else ""
    number = f"round {stalled.number} of {run.total_rounds}" if stalled.number > 0 else "what comes before round 1"
    sentence = (
        f"The training of {run.model.name} in {run.federation.name} waits{named}: {number}"
        f" has too few devices at work and waits until {moment(stalled.deadline)}."
    )
    data = {"round": stalled.number, "attempt": stalled.attempt, "deadline": stalled.deadline.isoformat()}
    _tell(run, "run.waiting", sentence, data)


def unusual(closed: Round, update: Update) -> None:
    """An update was unlike the others of its round: told to the device's organization and to who started the run."""
    run, device = closed.run, update.device
    where = f"round {closed.number} of the training of {run.model.name}"
    reason = update.anomaly["reason"] if update.anomaly else ""
    sentence = f"An update of {device.identifier} of {update.organization.name} stands out in {where}: {reason}."
    data = {"run": run.public_id, "round": closed.number, "device": device.public_id, "reason": reason}
    for organization in {update.organization_id: update.organization, run.organization_id: run.organization}.values():
        notifications.tell(
            organization, "update.flagged", sentence=sentence, address=f"/runs/{run.public_id}", data=data
        )


def exhausted(run: Run, organization: Organization) -> None:
    """The organization's devices are left out from here on, unless it raises its budget: told to nobody else."""
    sentence = (
        f"Your privacy budget is not enough for another round of the training of {run.model.name} in"
        f" {run.federation.name}: your devices are left out of it until the budget is raised."
    )
    notifications.tell(
        organization, "budget.exhausted", sentence=sentence, address="/budget", data={"run": run.public_id}
    )


def _tell(run: Run, kind: str, sentence: str, data: Mapping[str, Any]) -> None:
    """Tell the organization that started the run and every active member of its federation."""
    members = Q(federation_members__federation_id=run.federation_id, federation_members__state=MemberState.ACTIVE)
    concerned = Organization.objects.filter(members | Q(pk=run.organization_id)).distinct().order_by("pk")
    ids = {"run": run.public_id, "model": run.model.public_id, "federation": run.federation.public_id}
    for organization in concerned:
        notifications.tell(
            organization, kind, sentence=sentence, address=f"/runs/{run.public_id}", data={**ids, **data}
        )
