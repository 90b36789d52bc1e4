"""What devices do in a round: take their part, answer it, decline it, come too late.

Every function is called by `federations.services.device_tasks` inside the unit that moves the device's task, so that
task, part, update, event and receipt commit together or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from federations.models import DeviceTask
from federations.services import device_tasks
from fedportal.common import clock
from fedwire import answers
from fedwire.errors import FedportalError
from fedwire.states import AssignmentState, RoundKind, RoundState, TaskKind, TaskState
from training import checks, lifecycle, progress, wording
from training.lifecycle import UNFINISHED, Lost
from training.models import Assignment, Round, Run
from training.services import opening, part_rows, quorum
from training.services.part_rows import Part, RunRow

KINDS = (TaskKind.CHECK, TaskKind.STATISTICS, TaskKind.TRAIN, TaskKind.EVALUATE)
# What of an answer is kept with the update.
KEPT = (
    *("check", "evaluation", "personal", "statistics", "metrics", "seconds"),
    *("steps", "normaliser", "base_loss", "devices", "work_share"),
)
COMMITMENT = re.compile("[0-9a-f]{64}")


def connect() -> None:
    """Listen to the tasks of rounds."""
    for kind in KINDS:
        device_tasks.handle(
            kind,
            on_taken=on_taken,
            on_answer=on_answer,
            on_decline=on_decline,
            on_late=on_late,
            on_refused=on_refused,
        )
    device_tasks.on_idle(opening.welcome)


def on_taken(taken: Sequence[DeviceTask]) -> None:
    """These tasks left for their devices: their parts are in training."""
    parts = [p for p in part_rows.of_tasks([task.pk for task in taken]) if p.state == AssignmentState.OFFERED]
    rows = Assignment.objects.filter(pk__in=[part.pk for part in parts])
    lifecycle.move(rows, AssignmentState.TRAINING, changed_at=clock.now())
    by_run: dict[RunRow, list[Part]] = {}
    for part in parts:
        by_run.setdefault(part.run, []).append(part)
    for run, of_run in by_run.items():
        progress.tell_all(run, [_changed(part, AssignmentState.TRAINING) for part in of_run])


def on_answer(task: DeviceTask, answer: Mapping[str, Any], stored_sha: str, norm: float | None) -> None:
    """The device's answer: its part is done, the update counts, and a complete round rings its bell after the commit.

    Raises `task_closed` when the round went on meanwhile, `forbidden` when the device or its membership is not
    active any more, `metrics_invalid` for statistics of another width, `field_invalid` for a report on local training
    that does not fit the task; then nothing is recorded.
    """
    part = _part(task)
    if not part.may_answer:
        raise FedportalError(
            "forbidden", action="take part", who="Only active devices of active members may take part."
        )
    if part.kind == RoundKind.STATISTICS:
        _check_width(part, answer)
    if task.content.get("masking") and not answer.get("ready"):
        raise FedportalError("field_invalid", field="ready", reason="this round's updates are added up under masks.")
    answers.check_local_work(task.content.get("training", {}), answer)
    now = clock.now()
    failed = answer["check"]["failed"] if part.kind == RoundKind.CHECK else ()
    why = {"reason": failed[0]} if failed else {}
    try:
        lifecycle.move_row(Assignment, part.pk, AssignmentState.SUBMITTED, changed_at=now, **why)
        counted_in = part_rows.place(part, task.update_bytes)
    except Lost:
        raise _closed(task) from None
    if counted_in is None:  # its round may have been made asynchronous since the part was read
        part = part._replace(asynchronous=True)
    part_rows.keep(
        part,
        blob=stored_sha,
        size=task.update_bytes,
        samples=answer["samples"],
        norm=norm,
        answer={name: answer[name] for name in KEPT if name in answer} | _committed(task, answer),
        at=now,
        counted_in=counted_in,
    )
    checking = part.kind == RoundKind.CHECK
    said = {"seconds": answer.get("seconds"), "devices": answer.get("devices")}
    said["share"] = answer.get("work_share")
    said["samples"] = None if checking else answer["samples"]  # a check stands for no rows
    news = _changed(part, AssignmentState.SUBMITTED, reason=checks.sentence(failed[0]) if failed else "", **said)
    progress.tell(part.run, *news)
    quorum.after_answer(part)


def on_decline(task: DeviceTask, reason: str) -> None:
    """The device will not do it. Somebody else may take its place."""
    part = _part(task)
    rows = Assignment.objects.filter(pk=part.pk)
    if not lifecycle.move(rows, AssignmentState.DECLINED, reason=reason, changed_at=clock.now()):
        return
    # Rows are locked in one order everywhere: task, session, part, round, run.
    list(Round.objects.select_for_update(no_key=True).filter(pk=part.round_pk).values_list("pk"))
    progress.tell(part.run, *_changed(part, AssignmentState.DECLINED, reason=reason))
    if part.kind == RoundKind.TRAIN and not part.asynchronous:
        opening.fill(part.round_pk)
    quorum.after_answer(part)


def on_late(task: DeviceTask) -> None:
    """An answer came for a task that was closed: the part was late, its update does not count.

    Nothing is told of an answer to a round that was called off, or that had enough of them: the device did nothing
    wrong.
    """
    parts = part_rows.of_tasks([task.pk])
    if not parts or Round.objects.filter(pk=parts[0].round_pk, state=RoundState.CANCELLED).exists():
        return
    part = parts[0]
    rows = Assignment.objects.filter(pk=part.pk).exclude(reason=wording.NOT_NEEDED)
    reason = "the answer came after the round had gone on"
    if part.asynchronous:  # no round went on without it; why it was closed is why it is late
        reason = rows.values_list("reason", flat=True).first() or reason
    if lifecycle.move(rows, AssignmentState.LATE, reason=reason, changed_at=clock.now()):
        progress.tell(part.run, *_changed(part, AssignmentState.LATE, reason=reason))


def on_refused(task: DeviceTask, code: str, sentence: str) -> None:
    """What the device sent was refused. Its part stays as it is, for something better may follow; the page says why."""
    parts = part_rows.of_tasks([task.pk])
    if not parts or parts[0].state not in UNFINISHED:
        return
    part, refusal = parts[0], {"code": code, "sentence": sentence, "at": clock.now().isoformat()}
    if Assignment.objects.filter(pk=part.pk, state__in=UNFINISHED).update(refusal=refusal):
        card = wording.participant(part.party, part.state, refusal=refusal)
        progress.tell(
            part.run, "assignment.refused", wording.changed(part.number, part.attempt, card, part.asynchronous)
        )


def _committed(task: DeviceTask, answer: Mapping[str, Any]) -> dict[str, str]:
    """What a device that masks its update commits itself to, in case groups are drawn; nothing for what is none."""
    said = answer.get("masking", {}).get("commitment") if task.content.get("masking") else None
    return {"commitment": said} if isinstance(said, str) and COMMITMENT.fullmatch(said) else {}


def _part(task: DeviceTask) -> Part:
    found = part_rows.of_tasks([task.pk])
    if not found:
        raise _closed(task)
    return found[0]


def _changed(part: Part, state: str, **more: Any) -> progress.News:
    card = wording.participant(part.party, state, **more)
    return "assignment.changed", wording.changed(part.number, part.attempt, card, part.asynchronous)


def _check_width(part: Part, answer: Mapping[str, Any]) -> None:
    version = (
        Run.objects.select_related("base_version").only("base_version__architecture").get(pk=part.run.pk).base_version
    )
    expected, got = opening.columns_of(version), len(answer["statistics"]["mean"])
    if got != expected:
        raise FedportalError("metrics_invalid", reason=f"the statistics have {got} columns, the model has {expected}.")


def _closed(task: DeviceTask) -> FedportalError:
    return FedportalError("task_closed", task=task.public_id, state=str(TaskState.EXPIRED))
