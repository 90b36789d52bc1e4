"""What devices do in a round: take their part, answer it, decline it, come too late.

Every function is called by `federations.services.device_tasks` inside the unit that moves the device's task, so that
task, part, update, event and receipt commit together or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db.models import Exists, F, OuterRef

from federations.models import DeviceTask, Member
from federations.services import device_tasks
from fedportal.common import clock, faults
from fedportal.common.jobs import ring
from fedportal.common.transactions import after_commit
from fedwire.errors import FedportalError
from fedwire.states import AssignmentState, MemberState, RoundKind, RoundState, TaskKind, TaskState
from training import lifecycle, progress, tasks, wording
from training.lifecycle import Lost
from training.models import Assignment, Round, Run, Update
from training.services import opening, rounds
from training.wording import Party

KINDS = (TaskKind.STATISTICS, TaskKind.TRAIN, TaskKind.EVALUATE)
COLUMNS = (
    *("pk", "round_id", "device_id", "organization_id", "device__last_seen_at"),
    *("round__number", "round__attempt", "round__kind", "round__run_id"),
    *("round__run__public_id", "round__run__organization_id", "round__run__min_participants"),
    *rounds.PARTY,
)


class RunRow:
    """As much of a run as its events need."""

    def __init__(self, part: Mapping[str, Any]) -> None:
        self.pk: int = part["round__run_id"]
        self.public_id: str = part["round__run__public_id"]
        self.organization_id: int = part["round__run__organization_id"]


def connect() -> None:
    """Listen to the tasks of rounds."""
    for kind in KINDS:
        device_tasks.handle(kind, on_taken=on_taken, on_answer=on_answer, on_decline=on_decline, on_late=on_late)
    device_tasks.on_idle(opening.welcome)


def on_taken(taken: Sequence[DeviceTask]) -> None:
    """These tasks left for their devices: their parts are in training."""
    parts = _parts([task.pk for task in taken]).filter(state=AssignmentState.OFFERED)
    rows = list(parts.values(*COLUMNS))
    now = clock.now()
    lifecycle.move(
        Assignment.objects.filter(pk__in=[row["pk"] for row in rows]), AssignmentState.TRAINING, changed_at=now
    )
    by_run: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_run.setdefault(row["round__run_id"], []).append(row)
    for of_run in by_run.values():
        progress.tell_all(RunRow(of_run[0]), [_changed(row, AssignmentState.TRAINING) for row in of_run])


def on_answer(task: DeviceTask, answer: Mapping[str, Any], stored_sha: str, norm: float | None) -> None:
    """The device's answer: its part is done, the update counts, and a complete round rings its bell after the commit.

    Raises `task_closed` when the round went on meanwhile, `forbidden` when the organization is no active member any
    more, `metrics_invalid` for statistics of another width; then nothing is recorded.
    """
    part = _part(task, Exists(_membership()))
    if not part["is_member"]:
        raise FedportalError("forbidden", action="take part", who="Only devices of active members may take part.")
    if part["round__kind"] == RoundKind.STATISTICS:
        _check_width(part, answer)
    now = clock.now()
    try:
        lifecycle.move_one(Assignment.objects.filter(pk=part["pk"]), AssignmentState.SUBMITTED, changed_at=now)
    except Lost:
        raise _closed(task) from None
    still_open = Round.objects.filter(pk=part["round_id"], state=RoundState.OPEN)
    if not still_open.update(bytes_up=F("bytes_up") + task.update_bytes):
        raise _closed(task)
    Update.objects.create(
        organization_id=part["organization_id"],
        round_id=part["round_id"],
        device_id=part["device_id"],
        assignment_id=part["pk"],
        blob=stored_sha,
        size=task.update_bytes,
        samples=answer["samples"],
        norm=norm,
        answer={name: answer[name] for name in ("evaluation", "statistics", "metrics", "seconds") if name in answer},
        received_at=now,
    )
    news = _changed(part, AssignmentState.SUBMITTED, samples=answer["samples"], seconds=answer.get("seconds"))
    progress.tell(RunRow(part), *news)
    _ring_if_complete(part)


def on_decline(task: DeviceTask, reason: str) -> None:
    """The device will not do it. Somebody else may take its place."""
    part = _part(task)
    rows = Assignment.objects.filter(pk=part["pk"])
    if not lifecycle.move(rows, AssignmentState.DECLINED, reason=reason, changed_at=clock.now()):
        return
    # Rows are locked in one order everywhere: task, part, round, run.
    list(Round.objects.select_for_update().filter(pk=part["round_id"]).values_list("pk"))
    progress.tell(RunRow(part), *_changed(part, AssignmentState.DECLINED, reason=reason))
    if part["round__kind"] == RoundKind.TRAIN:
        opening.fill(part["round_id"])
    _ring_if_complete(part)


def on_late(task: DeviceTask) -> None:
    """An answer came for a task that was closed: the part was late, its update does not count."""
    part = _parts([task.pk]).values(*COLUMNS).first()
    if part is None:
        return
    rows, reason = Assignment.objects.filter(pk=part["pk"]), "the answer came after the round had gone on"
    if lifecycle.move(rows, AssignmentState.LATE, reason=reason, changed_at=clock.now()):
        progress.tell(RunRow(part), *_changed(part, AssignmentState.LATE, reason=reason))


def _parts(task_pks: Sequence[int]) -> Any:
    return Assignment.objects.filter(task_id__in=task_pks).order_by("pk")


def _part(task: DeviceTask, is_member: Any = None) -> Mapping[str, Any]:
    rows = _parts([task.pk])
    found = rows.annotate(is_member=is_member).values(*COLUMNS, "is_member") if is_member else rows.values(*COLUMNS)
    part: Mapping[str, Any] | None = found.first()
    if part is None:
        raise _closed(task)
    return part


def _membership() -> Any:
    return Member.objects.filter(
        federation_id=OuterRef("round__run__federation_id"),
        organization_id=OuterRef("organization_id"),
        state=MemberState.ACTIVE,
    )


def _changed(part: Mapping[str, Any], state: str, **more: Any) -> progress.News:
    card = wording.participant(Party(*(part[column] for column in rounds.PARTY)), state, **more)
    return "assignment.changed", wording.changed(part["round__number"], part["round__attempt"], card)


def _check_width(part: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    version = (
        Run.objects.select_related("base_version")
        .only("base_version__architecture")
        .get(pk=part["round__run_id"])
        .base_version
    )
    expected, got = opening.columns_of(version), len(answer["statistics"]["mean"])
    if got != expected:
        raise FedportalError("metrics_invalid", reason=f"the statistics have {got} columns, the model has {expected}.")


def _ring_if_complete(part: Mapping[str, Any]) -> None:
    stands = rounds.standing(part["round_id"])
    if stands.complete(part["round__kind"], part["round__run__min_participants"]):
        after_commit(lambda: faults.point("before_bell"))
        ring(tasks.settle_round, part["round_id"])


def _closed(task: DeviceTask) -> FedportalError:
    return FedportalError("task_closed", task=task.public_id, state=str(TaskState.EXPIRED))
