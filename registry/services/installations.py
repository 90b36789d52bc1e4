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
from fedwire.states import DeviceState, ExperimentState, InstallationState, TaskKind, TaskState
from registry.models import Experiment, Installation, Model, ModelVersion, Rollout
from registry.models.rollouts import ALIVE
from registry.services import gatekeeping

# A device that is away finds its task for so long; then it is offered anew.
DEADLINE = timedelta(hours=24)
# What failed is tried again after so long.
RETRY = timedelta(hours=1)
# So many rows are named in one statement: databases limit its parameters.
MOST_ROWS = 500
WAITING = (InstallationState.PENDING, InstallationState.INSTALLING)
UNSETTLED = (*WAITING, InstallationState.FAILED)
# What decides which version a device is to hold.
Decider = Rollout | Experiment


def connect() -> None:
    """Listen to the tasks of installations."""
    device_tasks.handle(TaskKind.INSTALL, on_taken=on_taken, on_answer=on_answer, on_decline=on_decline)


def of(decider: Decider) -> QuerySet[Installation]:
    """What it last decided about."""
    if isinstance(decider, Experiment):
        return Installation.objects.filter(experiment=decider)
    return Installation.objects.filter(rollout=decider)


def join(decider: Decider, version: ModelVersion, devices: Sequence[Device]) -> int:
    """Want the version on these devices, because of a rollout or an experiment, and offer each its task; how many.

    What a device holds now is what it goes back to; if a rollout follows from an experiment, what it held before that.
    One that holds the version already keeps it. With a closed gate only those join that had the version. Call it inside
    a unit.
    """
    at = clock.now()
    devices = gatekeeping.admitted(version, devices)
    known = _known(decider, devices)
    _withdraw(row.task_id for row in known.values())
    lacking = [device for device in devices if _held(known.get(device.pk)) != version.pk]
    task_of = dict(zip((device.pk for device in lacking), _offer(decider, version, lacking, at), strict=True))
    rows = [_joined(decider, version, device, known.get(device.pk), task_of.get(device.pk), at) for device in devices]
    Installation.objects.bulk_create(
        rows,
        batch_size=MOST_ROWS,
        update_conflicts=True,
        unique_fields=["device", "model"],
        update_fields=["rollout", "experiment", "wanted", "previous", "state", "task", "error", "changed_at"],
    )
    return len(rows)


def withhold(decider: Decider) -> int:
    """Take back the tasks that no device has taken yet; how many. Call it inside a unit."""
    waiting = of(decider).filter(state=InstallationState.PENDING, task__state=TaskState.OPEN)
    return _withdraw(waiting.values_list("task_id", flat=True))


def give_back(decider: Decider, most: int | None = None) -> int:
    """Want on every device of it, or on so many further ones, what it had before, and offer the tasks; how many.

    Devices that never took their task are asked too: whether one left is noted only after it did. Call it inside a
    unit.
    """
    at = clock.now()
    some = list(not_given_back(decider).order_by("pk").values_list("pk", flat=True)[:most])
    for start in range(0, len(some), MOST_ROWS):
        _give_back(decider, some[start : start + MOST_ROWS], at)
    return len(some)


def _give_back(decider: Decider, some: Sequence[int], at: datetime) -> None:
    members = Installation.objects.filter(pk__in=some)
    _withdraw(members.filter(state__in=WAITING).values_list("task_id", flat=True))
    members.update(wanted=F("previous"), error="", changed_at=at)
    rows = members.select_related("device", "wanted", "wanted__model")
    _ask(decider, [row for row in rows if row.state in UNSETTLED or row.installed_id != row.wanted_id], at)


def not_given_back(decider: Decider) -> QuerySet[Installation]:
    """Those of one that goes back which still want its version, and had another before or none."""
    return of(decider).filter(wanted__isnull=False).exclude(previous=F("wanted"))


def ask_again(decider: Decider, most: int | None = None) -> int:
    """Offer anew, to all or to so many, what has no unfinished task: it expired, was withheld or failed; how many.

    Of one that goes back only what was given back is offered: never again what is being taken back. Call it inside a
    unit.
    """
    at = clock.now()
    alive = DeviceTask.objects.filter(pk=OuterRef("task_id"), state__in=UNFINISHED, deadline__gt=at)
    again = Q(state__in=WAITING) | Q(state=InstallationState.FAILED, changed_at__lte=at - RETRY)
    idle = of(decider).filter(again, ~Exists(alive), device__state=DeviceState.ACTIVE)
    if decider.going_back:
        idle = idle.filter(Q(wanted=None) | Q(previous=F("wanted")))
    if closed := [version for version in _versions(idle) if not gatekeeping.standing(version).open]:
        # Those who are not to get it must not stand before others who are.
        idle = idle.filter(~Q(wanted__in=closed) | Q(installed=F("wanted")) | Q(previous=F("wanted")))
    some = idle.order_by("pk").select_related("device", "wanted", "wanted__model")[:most]
    return _ask(decider, list(some), at)


def outstanding(decider: Decider) -> QuerySet[Installation]:
    """Those of devices in use that are still to answer."""
    waiting = of(decider).filter(state__in=WAITING)
    found = waiting | not_given_back(decider) if decider.going_back else waiting
    return found.filter(device__state=DeviceState.ACTIVE)


def recall(model: Model) -> int:
    """Take back the tasks for versions of the model whose gate is closed, unless the device had them; how many."""
    waiting = _unheld(model).filter(state__in=WAITING, task__state__in=UNFINISHED)
    closed = [version for version in _versions(waiting) if not gatekeeping.standing(version).open]
    if not closed:
        return 0
    with unit():
        return _withdraw(waiting.filter(wanted__in=closed).values_list("task_id", flat=True))


def moving(model: Model) -> set[int]:
    """The versions of the model that devices are to get and do not have, or that are about to be given to them."""
    alive = Rollout.objects.filter(model=model, state__in=ALIVE).order_by().values_list("version_id", flat=True)
    compared = Experiment.objects.filter(model=model, state=ExperimentState.RUNNING).order_by()
    arms = {pk for pair in compared.values_list("control_id", "treatment_id") for pk in pair}
    return {*alive, *arms, *(version.pk for version in _versions(_unheld(model).filter(state__in=UNSETTLED)))}


def settled(decider: Decider) -> bool:
    """Whether every device that can be asked holds what it is to hold."""
    members = of(decider).filter(device__state=DeviceState.ACTIVE)
    if members.filter(state__in=UNSETTLED).exists():
        return False
    return not (decider.going_back and not_given_back(decider).filter(device__state=DeviceState.ACTIVE).exists())


def on_taken(taken: Sequence[DeviceTask]) -> None:
    """These devices are at it."""
    rows = Installation.objects.filter(task__in=[task.pk for task in taken], state=InstallationState.PENDING)
    rows.update(state=InstallationState.INSTALLING, changed_at=clock.now())


def on_answer(task: DeviceTask, answer: Mapping[str, Any], stored_sha: str, norm: float | None) -> None:
    """The device holds what it was asked to hold. What came of a task that is not the present one says nothing."""
    row = Installation.objects.filter(task=task.pk, state__in=UNSETTLED).select_related("rollout", "experiment").first()
    decider = (row.rollout or row.experiment) if row is not None else None
    if row is None or decider is None:
        return
    at = clock.now()
    state = InstallationState.INSTALLED if row.wanted_id else InstallationState.REMOVED
    Installation.objects.filter(pk=row.pk, task=task.pk).update(
        state=state, installed=row.wanted_id, error="", changed_at=at, installed_at=at
    )
    note_restored(decider)


def on_decline(task: DeviceTask, reason: str) -> None:
    """The device could not; it is asked again later."""
    rows = Installation.objects.filter(task=task.pk, state__in=WAITING)
    rows.update(state=InstallationState.FAILED, error=reason[:300], changed_at=clock.now())


def note_restored(decider: Decider) -> None:
    """Write down, once, that every device is back, if it is. Call it inside a unit."""
    if decider.going_back and decider.restored_at is None and settled(decider):
        type(decider)._default_manager.filter(pk=decider.pk, restored_at=None).update(restored_at=clock.now())


def _unheld(model: Model) -> QuerySet[Installation]:
    """What the model's devices are to hold, where they neither hold it nor had it before."""
    rows = Installation.objects.filter(model=model, wanted__isnull=False).order_by()
    return rows.exclude(installed=F("wanted")).exclude(previous=F("wanted"))


def _versions(rows: QuerySet[Installation]) -> list[ModelVersion]:
    wanted = rows.values_list("wanted_id", flat=True).distinct()
    return list(ModelVersion.objects.filter(pk__in=list(wanted)).select_related("model__organization"))


def _known(decider: Decider, devices: Sequence[Device]) -> dict[int, Installation]:
    found: dict[int, Installation] = {}
    for start in range(0, len(devices), MOST_ROWS):
        some = [device.pk for device in devices[start : start + MOST_ROWS]]
        rows = Installation.objects.filter(model=decider.model_id, device__in=some)
        rows = rows.select_related("rollout", "experiment__rollout").select_for_update(of=("self",), no_key=True)
        found.update({row.device_id: row for row in rows})
    return found


def _held(row: Installation | None) -> int | None:
    """The version that the device is known to hold for sure; None while it is at something, or holds nothing."""
    return row.installed_id if row is not None and row.state == InstallationState.INSTALLED else None


def _joined(
    decider: Decider,
    version: ModelVersion,
    device: Device,
    before: Installation | None,
    task: DeviceTask | None,
    at: datetime,
) -> Installation:
    return Installation(
        organization_id=decider.organization_id,
        device=device,
        model_id=decider.model_id,
        rollout=decider if isinstance(decider, Rollout) else None,
        experiment=decider if isinstance(decider, Experiment) else None,
        wanted=version,
        previous_id=_goes_back_to(decider, before),
        state=InstallationState.PENDING if task is not None else InstallationState.INSTALLED,
        task=task,
        changed_at=at,
    )


def _goes_back_to(decider: Decider, before: Installation | None) -> int | None:
    if before is None:
        return None
    follows = before.experiment_id is not None and before.experiment_id == getattr(decider, "experiment_id", None)
    return before.previous_id if follows or _taken_back(before) else before.installed_id


def _taken_back(row: Installation) -> bool:
    """Whether what was decided last about the device is being taken back: it may be away, or its turn may not have
    come, so what it holds is not what it is to return to."""
    decider = row.rollout or row.experiment
    promoting = getattr(row.experiment, "rollout", None)
    return any(found is not None and found.going_back for found in (decider, promoting))


def _ask(decider: Decider, rows: Sequence[Installation], at: datetime) -> int:
    """Offer each of these devices the task for what it is to hold; how many."""
    by_version: dict[int | None, list[Installation]] = {}
    for row in rows:
        by_version.setdefault(row.wanted_id, []).append(row)
    rows = []
    for some in by_version.values():
        wanted = some[0].wanted
        devices = [row.device for row in some]
        through = devices if wanted is None else gatekeeping.admitted(wanted, devices)
        _offer(decider, wanted, through, at)
        admitted = {device.pk for device in through}
        rows += [row for row in some if row.device_id in admitted]
    of_device = DeviceTask.objects.filter(
        device=OuterRef("device_id"), kind=TaskKind.INSTALL, subject=decider.public_id, state__in=UNFINISHED
    )
    newest = Subquery(of_device.order_by("-pk").values("pk")[:1])
    for start in range(0, len(rows), MOST_ROWS):
        some_rows = Installation.objects.filter(pk__in=[row.pk for row in rows[start : start + MOST_ROWS]])
        some_rows.update(task=newest, state=InstallationState.PENDING, changed_at=at)
    return len(rows)


def _offer(decider: Decider, version: ModelVersion | None, devices: Sequence[Device], at: datetime) -> list[DeviceTask]:
    """A task for each device to hold this version; None: to hold nothing. Raises what `gatekeeping.guard` raises."""
    if version is not None:
        gatekeeping.guard(version, devices)
    common = {
        "run": "",
        "model": decider.model.public_id,
        "model_name": decider.model.name,
        "round": 0,
        "attempt": 0,
        "manifest": [],
        "architecture": version.architecture if version else None,
        "training": {},
        "install": {
            "rollout": decider.public_id,
            "version": version.version if version else "",
            "size": version.size if version else 0,
        },
    }
    blob = version.blob if version else ""
    return device_tasks.offer(
        [
            device_tasks.NewTask(
                device, TaskKind.INSTALL, decider.public_id, at + DEADLINE, base_blob=blob, common=common
            )
            for device in devices
        ]
    )


def _withdraw(task_pks: Iterable[int | None]) -> int:
    """Cancel these tasks; how many were unfinished."""
    pks = [pk for pk in task_pks if pk is not None]
    return sum(device_tasks.cancel(pks[start : start + MOST_ROWS]) for start in range(0, len(pks), MOST_ROWS))
