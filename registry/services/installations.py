"""What devices hold of a model: asked for by tasks of the kind `install`, settled by their answers.

Statements are about many devices at once: a step of a rollout may concern thousands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from federations.models import Device, DeviceTask
from federations.services import device_tasks
from federations.services.task_rows import UNFINISHED
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.states import DeviceState, InstallationState, RolloutState, TaskKind, TaskState
from registry.models import Installation, ModelVersion, Rollout

# A device that is away finds its task for so long; then it is offered anew.
DEADLINE = timedelta(hours=24)
# What failed is tried again after so long.
RETRY = timedelta(hours=1)
# So many rows are named in one statement: databases limit its parameters.
MOST_ROWS = 500
WAITING = (InstallationState.PENDING, InstallationState.INSTALLING)
UNSETTLED = (*WAITING, InstallationState.FAILED)


def connect() -> None:
    """Listen to the tasks of installations."""
    device_tasks.handle(TaskKind.INSTALL, on_taken=on_taken, on_answer=on_answer, on_decline=on_decline)


def join(rollout: Rollout, devices: Sequence[Device]) -> None:
    """Want the rollout's version on these devices and offer each its task. Call it inside a unit.

    What a device holds now is what it goes back to. One that holds the version already keeps it.
    """
    at = clock.now()
    known = _known(rollout, devices)
    _withdraw(row.task_id for row in known.values())
    lacking = [device for device in devices if _held(known.get(device.pk)) != rollout.version_id]
    task_of = dict(zip((device.pk for device in lacking), _offer(rollout, rollout.version, lacking, at), strict=True))
    rows = [_joined(rollout, device, known.get(device.pk), task_of.get(device.pk), at) for device in devices]
    Installation.objects.bulk_create(
        rows,
        batch_size=MOST_ROWS,
        update_conflicts=True,
        unique_fields=["device", "model"],
        update_fields=["rollout", "wanted", "previous", "state", "task", "error", "changed_at"],
    )


def withhold(rollout: Rollout) -> int:
    """Take back the tasks that no device has taken yet; how many. Call it inside a unit."""
    waiting = Installation.objects.filter(rollout=rollout, state=InstallationState.PENDING, task__state=TaskState.OPEN)
    return _withdraw(waiting.values_list("task_id", flat=True))


def give_back(rollout: Rollout) -> None:
    """Want on every device of the rollout what it had before, and offer the tasks for it. Call it inside a unit.

    Devices that never took their task are asked too: whether one left is noted only after it did.
    """
    at = clock.now()
    members = Installation.objects.filter(rollout=rollout)
    _withdraw(members.filter(state__in=WAITING).values_list("task_id", flat=True))
    members.update(wanted=F("previous"), error="", changed_at=at)
    rows = members.select_related("device", "wanted", "wanted__model")
    _ask(rollout, [row for row in rows if row.state in UNSETTLED or row.installed_id != row.wanted_id], at)


def ask_again(rollout: Rollout) -> int:
    """Offer anew what has no unfinished task: it expired, was withheld or failed a while ago; how many.

    Call it inside a unit.
    """
    at = clock.now()
    alive = DeviceTask.objects.filter(pk=OuterRef("task_id"), state__in=UNFINISHED, deadline__gt=at)
    again = Q(state__in=WAITING) | Q(state=InstallationState.FAILED, changed_at__lte=at - RETRY)
    idle = Installation.objects.filter(again, ~Exists(alive), rollout=rollout, device__state=DeviceState.ACTIVE)
    return _ask(rollout, list(idle.select_related("device", "wanted", "wanted__model")), at)


def outstanding(rollout: Rollout) -> QuerySet[Installation]:
    """Those of devices in use that are still to answer."""
    return Installation.objects.filter(rollout=rollout, state__in=WAITING, device__state=DeviceState.ACTIVE)


def settled(rollout: Rollout) -> bool:
    """Whether every device that can be asked holds what it is to hold."""
    members = Installation.objects.filter(rollout=rollout, device__state=DeviceState.ACTIVE)
    return not members.filter(state__in=UNSETTLED).exists()


def on_taken(taken: Sequence[DeviceTask]) -> None:
    """These devices are at it."""
    rows = Installation.objects.filter(task__in=[task.pk for task in taken], state=InstallationState.PENDING)
    rows.update(state=InstallationState.INSTALLING, changed_at=clock.now())


def on_answer(task: DeviceTask, answer: Mapping[str, Any], stored_sha: str, norm: float | None) -> None:
    """The device holds what it was asked to hold. What came of a task that is not the present one says nothing."""
    row = Installation.objects.filter(task=task.pk, state__in=UNSETTLED).select_related("rollout").first()
    if row is None:
        return
    at = clock.now()
    state = InstallationState.INSTALLED if row.wanted_id else InstallationState.REMOVED
    Installation.objects.filter(pk=row.pk, task=task.pk).update(
        state=state, installed=row.wanted_id, error="", changed_at=at, installed_at=at
    )
    note_restored(row.rollout)


def on_decline(task: DeviceTask, reason: str) -> None:
    """The device could not; it is asked again later."""
    rows = Installation.objects.filter(task=task.pk, state__in=WAITING)
    rows.update(state=InstallationState.FAILED, error=reason[:300], changed_at=clock.now())


def note_restored(rollout: Rollout) -> None:
    """Write down, once, that every device is back, if it is. Call it inside a unit."""
    if rollout.state == RolloutState.ROLLED_BACK and rollout.restored_at is None and settled(rollout):
        Rollout.objects.filter(pk=rollout.pk, restored_at=None).update(restored_at=clock.now())


def catch_up(rollout: Rollout) -> None:
    """What the sweeper does for a rollout that gives, or takes back: ask again, and note when all are back."""
    with unit():
        ask_again(rollout)
        note_restored(rollout)


def _known(rollout: Rollout, devices: Sequence[Device]) -> dict[int, Installation]:
    found: dict[int, Installation] = {}
    for start in range(0, len(devices), MOST_ROWS):
        some = [device.pk for device in devices[start : start + MOST_ROWS]]
        rows = Installation.objects.filter(model=rollout.model_id, device__in=some).select_for_update(no_key=True)
        found.update({row.device_id: row for row in rows})
    return found


def _held(row: Installation | None) -> int | None:
    """The version that the device is known to hold for sure; None while it is at something, or holds nothing."""
    return row.installed_id if row is not None and row.state == InstallationState.INSTALLED else None


def _joined(
    rollout: Rollout, device: Device, before: Installation | None, task: DeviceTask | None, at: datetime
) -> Installation:
    return Installation(
        organization_id=rollout.organization_id,
        device=device,
        model_id=rollout.model_id,
        rollout=rollout,
        wanted_id=rollout.version_id,
        previous_id=before.installed_id if before is not None else None,
        state=InstallationState.PENDING if task is not None else InstallationState.INSTALLED,
        task=task,
        changed_at=at,
    )


def _ask(rollout: Rollout, rows: Sequence[Installation], at: datetime) -> int:
    """Offer each of these devices the task for what it is to hold; how many."""
    by_version: dict[int | None, list[Installation]] = {}
    for row in rows:
        by_version.setdefault(row.wanted_id, []).append(row)
    for some in by_version.values():
        _offer(rollout, some[0].wanted, [row.device for row in some], at)
    of_device = DeviceTask.objects.filter(
        device=OuterRef("device_id"), kind=TaskKind.INSTALL, subject=rollout.public_id, state__in=UNFINISHED
    )
    newest = Subquery(of_device.order_by("-pk").values("pk")[:1])
    for start in range(0, len(rows), MOST_ROWS):
        some_rows = Installation.objects.filter(pk__in=[row.pk for row in rows[start : start + MOST_ROWS]])
        some_rows.update(task=newest, state=InstallationState.PENDING, changed_at=at)
    return len(rows)


def _offer(rollout: Rollout, version: ModelVersion | None, devices: Sequence[Device], at: datetime) -> list[DeviceTask]:
    """A task for each device to hold this version; None: to hold nothing."""
    common = {
        "run": "",
        "model": rollout.model.public_id,
        "model_name": rollout.model.name,
        "round": 0,
        "attempt": 0,
        "manifest": [],
        "architecture": None,
        "training": {},
        "install": {
            "rollout": rollout.public_id,
            "version": version.version if version else "",
            "size": version.size if version else 0,
        },
    }
    blob = version.blob if version else ""
    return device_tasks.offer(
        [
            device_tasks.NewTask(
                device, TaskKind.INSTALL, rollout.public_id, at + DEADLINE, base_blob=blob, common=common
            )
            for device in devices
        ]
    )


def _withdraw(task_pks: Iterable[int | None]) -> int:
    """Cancel these tasks; how many were unfinished."""
    pks = [pk for pk in task_pks if pk is not None]
    return sum(device_tasks.cancel(pks[start : start + MOST_ROWS]) for start in range(0, len(pks), MOST_ROWS))
