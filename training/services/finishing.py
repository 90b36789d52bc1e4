"""How a run ends: with a version, with a reason, or because somebody stopped it."""

from __future__ import annotations

from typing import Any

from federations.models import DeviceTask
from federations.services import audit, device_tasks
from fedportal.common import clock, faults
from fedportal.common.transactions import after_commit, unit
from fedwire.states import AssignmentState, RoundKind, RoundState, RunState
from registry.models import ModelVersion
from registry.services import versions
from training import lifecycle, progress
from training.lifecycle import ALIVE_ROUNDS, UNFINISHED, Lost
from training.models import Assignment, MaskedSum, Round, Run
from training.services import budgets, endings, giving, labelling, notices
from training.services.terms import Terms

# Of a version's runs so many, newest first, are looked at for one that measured it.
MOST_ASKED = 20


def complete(run_pk: int) -> None:
    """Publish the last model as a version, with its lineage, and end the run. Any number of calls do it once.

    Both happen in one unit: nobody can stop a run that has a version, and a stopped run gets none.
    """
    faults.point("before_version")
    rows = Run.objects.select_related("model", "federation", "base_version", "started_by", "organization")
    with unit():  # by itself, for tasks are locked before runs: devices that came late need not look at themselves
        late = Assignment.objects.filter(round__run=run_pk, round__kind=RoundKind.CHECK)
        close_parts(late, "the run is over", cancelled=True)
    with unit():
        run = rows.select_for_update(of=("self",), no_key=True).get(pk=run_pk)
        if run.state != RunState.RUNNING:
            return
        version, now = publish_last(run), clock.now()
        faults.point("after_version")
        after_commit(lambda: faults.point("after_end"))
        lifecycle.move_one(Run.objects.filter(pk=run.pk), RunState.COMPLETED, result_version=version, finished_at=now)
        audit.record(run.organization, "portal", "run.completed", run.public_id, version=version.public_id)
        news = {"version": version.version, "version_id": version.public_id, "finished_at": now.isoformat()}
        notices.finished(run, RunState.COMPLETED, version=version.version)
        progress.tell(run, "run.completed", news)


def publish_last(run: Run) -> ModelVersion:
    """The version of the model of the last round that was closed. Call it inside a unit; there must be one."""
    last = _rounds(run).filter(kind=RoundKind.TRAIN).order_by("-number")[0]
    return versions.publish(
        run.model,
        blob=last.result_blob,
        digest=last.digest,
        parent=run.base_version,
        source=f"{run.public_id}/last",
        lineage=lineage(run, last),
        metrics=metrics_of(run, last.number),
        created_by=run.started_by,
    )


def fail(run: Run, reason: str) -> None:
    """End the run because it cannot go on. Call it inside a unit.

    Raises Lost when the run is over already, and what `call_off_rounds` raises.
    """
    call_off_rounds(run, "the run failed")
    now = clock.now()
    lifecycle.move_one(Run.objects.filter(pk=run.pk), RunState.FAILED, reason=reason, finished_at=now)
    audit.record(run.organization, "portal", "run.failed", run.public_id, reason=reason)
    notices.finished(run, RunState.FAILED, reason=reason)
    progress.tell(run, "run.failed", {"reason": reason, "finished_at": now.isoformat()})


def call_off_rounds(run: Run, reason: str) -> None:
    """Cancel the run's rounds that go on, with their tasks and the parts of the devices, and let none follow.

    Call it inside a unit, in which nobody else opens a round of the run from here on. Rows are locked in one order
    everywhere: task, session, part, round, run. (Who holds a training task waits for no session.) Whoever opens a
    round, or lets a device into one, holds the run, and whoever begins a session holds the round; what they did before
    this unit got hold of it is seen only then. Raises Lost in that case: undo the unit and do it anew.
    """
    alive = list(Round.objects.filter(run=run, state__in=ALIVE_ROUNDS).values_list("pk", flat=True))
    # Of asynchronous rounds devices may still be at work that are over themselves.
    asked = Assignment.objects.filter(round__run=run, state__in=UNFINISHED)
    endings.abandon(alive, reason)
    close_parts(asked, reason, cancelled=True)
    called_off = Round.objects.filter(pk__in=alive)
    lifecycle.move(called_off, RoundState.CANCELLED, reason=reason, closed_at=clock.now())
    list(Run.objects.select_for_update(no_key=True).filter(pk=run.pk).values_list("pk"))
    opened = Round.objects.filter(run=run, state__in=ALIVE_ROUNDS)
    begun = MaskedSum.objects.filter(round__run=run, state__in=endings.ALIVE)
    if opened.exists() or begun.exists() or asked.exists():
        raise Lost
    budgets.settle(run)


def close_parts(parts: Any, reason: str, *, cancelled: bool = False) -> list[int]:
    """Close the unfinished ones of these parts and their tasks; the primary keys of those that were closed.

    Call it inside a unit. Tasks come first, in order, because a device's answer also locks its task first.
    """
    unfinished = list(parts.filter(state__in=UNFINISHED).values_list("pk", "task_id"))
    if not unfinished:
        return []
    task_pks = [task for _, task in unfinished if task is not None]
    list(DeviceTask.objects.select_for_update(no_key=True).filter(pk__in=task_pks).order_by("pk").values_list("pk"))
    (device_tasks.cancel if cancelled else device_tasks.expire)(task_pks)
    still = Assignment.objects.filter(pk__in=[pk for pk, _ in unfinished], state__in=UNFINISHED)
    closed = list(still.values_list("pk", flat=True))
    lifecycle.move(
        Assignment.objects.filter(pk__in=closed), AssignmentState.EXPIRED, reason=reason, changed_at=clock.now()
    )
    return closed


def lineage(run: Run, made: Round, chosen: str = "last") -> dict[str, Any]:
    """Where a run's result, the model of the round `made`, comes from: what is kept with the version.

    `chosen`: whether it is the "last" or the "best" model of the run.
    """
    label = labelling.of(run)
    spent = label.pop("organizations")
    best = _rounds(run).filter(number=run.best_round, kind=RoundKind.TRAIN).first() if run.best_round else None
    return {
        "run": run.public_id,
        "federation": {"id": run.federation.public_id, "name": run.federation.name},
        "strategy": run.strategy,
        "config": run.config,
        "plan": Terms.of(run.plan).as_json(),
        "rounds": made.number,
        "chosen": chosen,
        "organizations": [
            {
                "id": share.organization_id,
                "name": share.organization,
                "devices": share.devices,
                "updates": share.updates,
                "samples": share.samples,
            }
            for share in sorted(giving.shares(run), key=lambda share: share.organization)
        ],
        "label": label,
        "privacy_spent": spent,
        "base": {"version": run.base_version.version, "digest": run.base_version.digest},
        "result": {"round": made.number, "digest": made.digest, "sha256": made.result_blob},
        "best": {
            "round": best.number,
            "digest": best.digest,
            "sha256": best.result_blob,
            "by": run.config.get("best"),
            "value": run.best_value,
        }
        if best
        else None,
    }


def metrics_of(run: Run, number: int) -> dict[str, Any]:
    """What a version says of the model of round `number`: the next round's devices measured it, if any did."""
    after = _rounds(run).filter(number=number + 1).first()
    if after is None or not after.metrics:
        return {}
    names = ("organizations", "fairness", "slices", "personal", "devices")
    further = {name: after.metrics[name] for name in names if name in after.metrics}
    return {**after.metrics["overall"], **further}


def measured(version: ModelVersion) -> dict[str, Any]:
    """What devices measured of a version before the newest run that began with just these weights trained on them.

    Empty where none did. Of runs that leave part of the model on the devices none counts: there it is not this model.
    """
    for run in Run.objects.filter(base_version=version).order_by("-pk")[:MOST_ASKED]:
        first = _rounds(run).filter(number=1, base_blob=version.blob)
        if not run.config.get("local") and first.exists() and (found := metrics_of(run, 0)):
            return found
    return {}


def _rounds(run: Run) -> Any:
    return Round.objects.filter(run=run, state=RoundState.DONE)
