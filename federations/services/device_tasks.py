"""The one thing a device waits for: offered, taken, answered or declined, or closed without it.

Upper floors offer tasks inside their own unit and register with `handle` what happens when one moves. Every move is a
guarded UPDATE that must touch the row in its old state, so that of two that race one wins, and what the upper floor
writes commits with it or not at all.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from federations.models import Device, DeviceTask
from federations.services import answers, task_rows
from federations.services.task_rows import UNFINISHED, Offered
from fedportal.common import blobs, clock, faults, ids, live
from fedportal.common.transactions import after_commit, unit
from fedwire.errors import FedportalError
from fedwire.messages import INLINE_BYTES
from fedwire.states import TaskKind, TaskState

# So often an answer is tried while its task changes under it.
TRIES = 3
# Fields of a travelling task that come from its row.
OWN_FIELDS = frozenset({"id", "kind", "deadline", "seconds_left", "base_digest"})


@dataclass(frozen=True)
class NewTask:
    """A task to be offered. `subject` is the upper floor's own id for it.

    `content` holds the fields of `fedwire.messages.Task` that the upper floor decides: run, model, round, attempt,
    manifest, architecture, training, and in `answer` max_samples, metrics, reports and least_records. Those that are
    the same for many tasks may stand in one object `common`, which is written as JSON once. With
    `update_bytes` the answer needs an upload of exactly that length that begins with `update_header`.
    """

    device: Device
    kind: str
    subject: str
    deadline: datetime
    content: dict[str, Any] = field(default_factory=dict)
    base_blob: str = ""
    update_header: bytes = b""
    update_bytes: int = 0
    common: Mapping[str, Any] = field(default_factory=dict)


OnTaken = Callable[[Sequence[DeviceTask]], None]
# (task, checked answer, digest of its upload or "", L2 norm of the upload or None)
OnAnswer = Callable[[DeviceTask, dict[str, Any], str, float | None], None]
OnDecline = Callable[[DeviceTask, str], None]
OnLate = Callable[[DeviceTask], None]
# (task, code of the catalogue, its sentence)
OnRefused = Callable[[DeviceTask, str, str], None]
OnIdle = Callable[[Sequence[int]], None]
# (task, update, the SHA-256 that was announced) → its digest and norm, once it is stored and noted like an upload
TakeIn = Callable[[DeviceTask, bytes, str], tuple[str, float | None]]


@dataclass(frozen=True)
class _Handlers:
    on_taken: OnTaken | None = None
    on_answer: OnAnswer | None = None
    on_decline: OnDecline | None = None
    on_late: OnLate | None = None
    on_refused: OnRefused | None = None


_handlers: dict[str, _Handlers] = {}
# Refusals of an answer that say nothing about its content: the device mends them by itself.
PASSING = frozenset({"digest_mismatch"})
MOST_REMEMBERED = 10_000
MOST_REASON = 300
_refused: OrderedDict[tuple[str, str], None] = OrderedDict()
_idle: list[OnIdle] = []


def handle(
    kind: str,
    *,
    on_taken: OnTaken | None = None,
    on_answer: OnAnswer | None = None,
    on_decline: OnDecline | None = None,
    on_late: OnLate | None = None,
    on_refused: OnRefused | None = None,
) -> None:
    """Say what happens when a task of this kind moves. Each is called inside the unit that moves the task.

    `on_answer` may raise FedportalError: then nothing is recorded and the device gets the error. `on_late` hears that
    an upload or answer came for a task that was expired or cancelled; the device gets `task_closed` all the same.
    `on_refused` hears that an upload or answer for an unfinished task was refused; a better one may still come.
    """
    _handlers[kind] = _Handlers(on_taken, on_answer, on_decline, on_late, on_refused)


def on_idle(listener: OnIdle) -> None:
    """Call `listener(device_pks)` when devices come to wait and there is nothing for them. It may offer them a task."""
    if listener not in _idle:
        _idle.append(listener)


def tell_idle(device_pks: Sequence[int]) -> None:
    """Tell upper floors that these devices wait with nothing to do."""
    for listener in _idle:
        listener(device_pks)


def offer(rows: Sequence[NewTask]) -> list[DeviceTask]:
    """Create tasks and wake their devices after the commit. Call it inside a unit."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("tasks are offered inside a unit")
    faults.point("waiting")
    written: dict[int, str] = {}  # what many tasks have in common, as JSON without its last bracket
    tasks = task_rows.insert([_offered(row, written) for row in rows], clock.now())
    device_pks = [row.device.pk for row in rows]
    after_commit(lambda: live.ring_devices(device_pks))
    return tasks


def _offered(row: NewTask, written: dict[int, str]) -> Offered:
    if id(row.common) not in written:
        common = {name: value for name, value in row.common.items() if name not in OWN_FIELDS}
        written[id(row.common)] = json.dumps(common)[:-1] + (", " if common else "")
    device = row.device
    return Offered(
        ids.tsk_id(),
        device.organization_id,
        device.pk,
        row.kind,
        row.subject,
        written[id(row.common)] + json.dumps(_travelling(row))[1:],
        row.base_blob,
        row.update_header,
        row.update_bytes,
        row.deadline,
    )


def _travelling(row: NewTask) -> dict[str, Any]:
    """The part of the task's JSON that is its own, and the same whenever it is handed out."""
    content = {name: value for name, value in row.content.items() if name not in OWN_FIELDS}
    shape = {"max_samples": settings.FEDPORTAL_MAX_SAMPLES, "metrics": False, **content.get("answer", {})}
    if 0 < row.update_bytes <= INLINE_BYTES:
        shape["inline_bytes"] = INLINE_BYTES
    return {**content, "answer": {**shape, "update_bytes": row.update_bytes}}


def note_taken(task_pks: Sequence[int]) -> None:
    """These tasks left for their devices: open → taken. Those that were answered meanwhile stay as they are."""
    faults.point("task_taken")
    with unit():
        tasks = list(
            DeviceTask.objects.filter(pk__in=task_pks, state=TaskState.OPEN)
            .order_by("pk")
            .select_for_update(no_key=True)
        )
        now = clock.now()
        DeviceTask.objects.filter(pk__in=[task.pk for task in tasks]).update(state=TaskState.TAKEN, taken_at=now)
        by_kind: dict[str, list[DeviceTask]] = {}
        for task in tasks:
            task.state, task.taken_at = TaskState.TAKEN, now
            by_kind.setdefault(task.kind, []).append(task)
        for kind, moved in by_kind.items():
            if listener := _handlers.get(kind, _Handlers()).on_taken:
                listener(moved)


def find(device_pk: int, task_id: str) -> DeviceTask:
    """The task of this device. Raises `not_found` for a missing and for a foreign one alike."""
    task = task_rows.find(device_pk, task_id)
    if task is None:
        raise FedportalError("not_found", what="task")
    return task


def answer(device_pk: int, task_id: str, body: bytes, take_in: TakeIn | None = None) -> tuple[dict[str, Any], bool]:
    """Record the answer in `body` (JSON text) exactly once; the receipt, and whether this is the first time.

    An update that comes in the answer is taken in first, and is then one that was uploaded. The same answer again, with
    the update or without it, gets the first receipt. Raises `answer_differs` for another one, `task_closed`,
    `upload_incomplete` or `digest_mismatch` when the upload it speaks of is not there, `conflict` when that is replaced
    again and again, what `answers.check` raises, what `take_in` refuses, and what the upper floor raises; then only the
    refusal is recorded.
    """
    try:
        return _answer(device_pk, task_id, body, take_in)
    except FedportalError as error:
        if error.status in (400, 403) and error.code not in PASSING:
            note_refused(device_pk, task_id, error)
        raise


def note_refused(device_pk: int, task_id: str, error: FedportalError) -> None:
    """What the device brought for this task was refused with `error`. Told once for a task and a code, as far as this
    process remembers, so that a device that repeats itself costs nothing."""
    told = (task_id, error.code)
    if told in _refused:
        return
    _refused[told] = None
    while len(_refused) > MOST_REMEMBERED:
        _refused.popitem(last=False)
    task = task_rows.find(device_pk, task_id)
    listener = _handlers.get(task.kind, _Handlers()).on_refused if task is not None else None
    if task is not None and listener is not None and task.state in UNFINISHED:
        reason = "".join(c if c.isprintable() else " " for c in error.message)[:MOST_REASON]
        with unit():
            listener(task, error.code, reason)


def note_late(device_pk: int, task_id: str) -> None:
    """The device brings something for a task that was closed without it. Told whenever; the listener knows its rows."""
    task = task_rows.find(device_pk, task_id)
    if task is not None and task.state in (TaskState.EXPIRED, TaskState.CANCELLED):
        _tell_late(task)


def _tell_late(task: DeviceTask) -> None:
    if listener := _handlers.get(task.kind, _Handlers()).on_late:
        with unit():
            listener(task)


def _answer(device_pk: int, task_id: str, body: bytes, take_in: TakeIn | None) -> tuple[dict[str, Any], bool]:
    said = answers.parse(body)
    content, sha256 = answers.content_of(said), said.get("sha256")
    digest = answers.digest(said)
    for _ in range(TRIES):
        task = find(device_pk, task_id)
        if task.state not in UNFINISHED:
            return _repeated(task, digest), False
        if take_in and content is not None and isinstance(sha256, str) and task.upload_sha256 != sha256:
            task.upload_sha256, task.upload_norm = take_in(task, content, sha256)
        if receipt := _close_answered(task, said, digest):
            faults.point("after_commit")
            return receipt, True
        # Somebody closed the task meanwhile, or another connection of the device replaced its upload: look again.
    raise FedportalError("conflict")


def _close_answered(task: DeviceTask, said: dict[str, Any], digest: str) -> dict[str, Any] | None:
    """Record the answer to this task; the receipt, None when the task is not any more what it was when it was read."""
    checked = _checked(task, said)
    _check_upload(task, checked.get("sha256", ""))
    now = clock.now()
    receipt = {
        "task": task.public_id,
        "state": str(TaskState.ANSWERED),
        "sha256": task.upload_sha256,
        "samples": checked["samples"],
        "received_at": now.isoformat(),
    }
    with unit():
        if not task_rows.close_answered(task, now, digest, receipt):
            return None
        if listener := _handlers.get(task.kind, _Handlers()).on_answer:
            listener(task, checked, task.upload_sha256, task.upload_norm)
        faults.point("before_commit")
    return receipt


def decline(device_pk: int, task_id: str, body: bytes) -> dict[str, Any]:
    """The device will not do this task. Declining again is the same as once. Raises `task_closed`, `field_invalid`."""
    reason = (answers.parse(body) if body.strip() else {}).get("reason") or ""
    if not isinstance(reason, str):
        raise FedportalError("field_invalid", field="reason", reason="it is not text.")
    reason = "".join(c if c.isprintable() else " " for c in reason)[:MOST_REASON]
    task = find(device_pk, task_id)
    with unit():
        won = _close([task.pk], TaskState.DECLINED)
        if won and (listener := _handlers.get(task.kind, _Handlers()).on_decline):
            listener(task, reason)
    if not won:
        task.refresh_from_db(fields=["state"])
        if task.state != TaskState.DECLINED:
            raise FedportalError("task_closed", task=task.public_id, state=task.state)
    return {"task": task.public_id, "state": str(TaskState.DECLINED)}


def note_upload(task_pk: int, sha256: str, norm: float | None) -> None:
    """The task's upload is complete and stored. Raises `task_closed` when the task went on without it."""
    with unit():
        noted = task_rows.note_upload(task_pk, sha256, norm)
    if not noted:
        state = DeviceTask.objects.filter(pk=task_pk).values_list("state", flat=True).first() or "gone"
        raise FedportalError("task_closed", state=state)


def forget_late(sha256: str) -> None:
    """Remove a masked vector that came when its task was closed, unless another task has the same bytes."""
    known = DeviceTask.objects.filter(Q(upload_sha256=sha256) | Q(base_blob=sha256))
    if not known.exists():
        blobs.remove(sha256)


def cancel(task_pks: Iterable[int]) -> int:
    """Close these unfinished tasks because their work is not wanted any more; how many."""
    return _close(task_pks, TaskState.CANCELLED)


def expire(task_pks: Iterable[int]) -> int:
    """Close these unfinished tasks because their time is over; how many."""
    return _close(task_pks, TaskState.EXPIRED)


def bring_forward(task_pks: Iterable[int], until: datetime) -> int:
    """These unfinished tasks are wanted by `until`, which devices that ask for them again are told; how many."""
    return DeviceTask.objects.filter(pk__in=list(task_pks), state__in=UNFINISHED, deadline__gt=until).update(
        deadline=until
    )


def extend_deadlines(by: timedelta) -> int:
    """Give every unfinished task `by` more time (the portal was down so long); how many."""
    return DeviceTask.objects.filter(state__in=UNFINISHED).update(deadline=F("deadline") + by)


def _close(task_pks: Iterable[int], state: TaskState) -> int:
    pks = list(task_pks)
    if not pks:
        return 0
    return DeviceTask.objects.filter(pk__in=pks, state__in=UNFINISHED).update(state=state, closed_at=clock.now())


def _repeated(task: DeviceTask, digest: str) -> dict[str, Any]:
    if task.state == TaskState.ANSWERED:
        if task.answer_digest == digest and task.receipt is not None:
            return dict(task.receipt)
        raise FedportalError("answer_differs", task=task.public_id)
    if task.state in (TaskState.EXPIRED, TaskState.CANCELLED):
        _tell_late(task)
    raise FedportalError("task_closed", task=task.public_id, state=task.state)


def _checked(task: DeviceTask, said: dict[str, Any]) -> dict[str, Any]:
    """The answer, checked against what the task asks for. What came with one that is too small is not kept."""
    shape = task.content.get("answer", {})
    least, most = shape.get("least_records"), shape.get("max_samples")
    # How many rows there are is hidden too, so the device keeps to the floor by itself.
    if task.content.get("masking") or task.kind == TaskKind.INFER:
        least = None
    needed, individual = shape.get("reports", ()), bool(shape.get("individual"))
    try:
        return answers.check(
            said, kind=task.kind, max_samples=most, least_records=least, needed=needed, individual=individual
        )
    except FedportalError as error:
        if error.code == "records_too_few" and task.upload_sha256:
            _forget_upload(task)
        raise


def _forget_upload(task: DeviceTask) -> None:
    """Remove the task's upload: it tells about fewer rows than its organization lets anybody learn from."""
    sha = task.upload_sha256
    with unit():
        own = DeviceTask.objects.filter(pk=task.pk, upload_sha256=sha, state__in=UNFINISHED)
        # The same bytes may have come for another task, of a device with a copy of the same rows.
        if own.update(upload_sha256="") and not DeviceTask.objects.filter(upload_sha256=sha).exists():
            after_commit(lambda: blobs.remove(sha))


def _check_upload(task: DeviceTask, sha256: str) -> None:
    if not task.update_bytes:
        return
    if not task.upload_sha256:
        part = blobs.staging(task.public_id)
        stored = part.stat().st_size if part.exists() else 0
        raise FedportalError("upload_incomplete", stored=stored, expected=task.update_bytes)
    if sha256 != task.upload_sha256:
        raise FedportalError("digest_mismatch", stored=task.upload_sha256, announced=sha256)
