"""The desk behind the door: who is this device, what is there for it, what does it bring.

These functions are registered with `fedportal.door.hooks` and run in the door's threads. They are the hottest queries
of the portal, so each asks once, for many devices where it can, and for the columns it needs.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db.models import Q

from federations.models import Device, DeviceKey, DeviceTask
from federations.services import device_tasks, devices, keys, task_rows
from fedportal.common import blobs, clock
from fedportal.common.transactions import unit
from fedportal.door import parts, threads
from fedportal.door.hooks import Caller, DoorRequest, DownloadTicket, NextTask, Stored, UploadTicket
from fedwire import codecs
from fedwire.errors import FedportalError
from fedwire.messages import INLINE_BYTES
from fedwire.personal import travelling
from fedwire.states import DeviceState
from fedwire.tensors import Manifest, check_update_header

# Parameters in one query stay far below what a database takes.
CHUNK = 5000
# Short files that are remembered as they travel; a file never changes under its digest.
KEPT_FILES = 64


def identify(token: str) -> Caller:
    """The device whose key this is. Raises key_invalid, key_revoked, key_expired, device_inactive."""
    found = keys.find_holder(token)
    return Caller(found.device_pk, found.device_id, found.organization_pk, found.key_pk)


def gone(callers: Sequence[Caller]) -> list[Caller]:
    """Those of the callers whom `identify` would refuse now. A quarantined device may wait; nobody offers it a task."""
    usable: set[int] = set()
    fresh = Q(expires_at__isnull=True) | Q(expires_at__gt=clock.now())
    good = DeviceKey.objects.filter(
        fresh,
        revoked_at__isnull=True,
        device__state__in=(DeviceState.ACTIVE, DeviceState.QUARANTINED),
        organization__suspended_at__isnull=True,
    )
    for start in range(0, len(callers), CHUNK):
        asked = [caller.key_pk for caller in callers[start : start + CHUNK]]
        usable.update(good.filter(pk__in=asked).order_by().values_list("pk", flat=True))
    return [caller for caller in callers if caller.key_pk not in usable]


def next_tasks(device_pks: Sequence[int]) -> Mapping[int, NextTask]:
    """The oldest unfinished task of each of these devices that has one, as the JSON that travels."""
    now = clock.now()
    found: dict[int, NextTask] = {}
    for task in task_rows.unfinished(device_pks):
        if task.device_pk in found:
            continue
        own = {
            "id": task.public_id,
            "kind": task.kind,
            "deadline": task.deadline.isoformat(),
            "seconds_left": round((task.deadline - now).total_seconds(), 3),
            "base_digest": task.base_blob,
        }
        if content := _short_file(task.base_blob):
            own["base_content"] = content
        # The content is an object in JSON already, and may be long: it is joined, not read and written again.
        body = json.dumps(own)[:-1] + "," + task.content.lstrip()[1:]
        found[task.device_pk] = NextTask(task.pk, body.encode())
    return found


def with_work() -> list[int]:
    """Every device that has an unfinished task."""
    unfinished = DeviceTask.objects.filter(state__in=task_rows.UNFINISHED, deadline__gt=clock.now())
    return list(unfinished.order_by().values_list("device_id", flat=True).distinct())


def note_taken(task_pks: Sequence[int]) -> None:
    """These tasks left for their devices."""
    device_tasks.note_taken(task_pks)


def note_seen(device_pks: Sequence[int], at: datetime) -> None:
    """These devices were there at this moment. Who has been seen since stays as it is."""
    earlier = Device.objects.filter(Q(last_seen_at__isnull=True) | Q(last_seen_at__lt=at))
    with unit():
        for start in range(0, len(device_pks), CHUNK):
            earlier.filter(pk__in=device_pks[start : start + CHUNK]).update(last_seen_at=at)


def note_idle(device_pks: Sequence[int]) -> None:
    """These devices came to wait and there is nothing for them."""
    device_tasks.tell_idle(device_pks)


def answer(caller: Caller, task_id: str, body: bytes) -> tuple[dict[str, Any], bool]:
    """The receipt, and whether this is the first time; see `device_tasks.answer`."""
    return device_tasks.answer(caller.device_pk, task_id, body, _take_in)


def decline(caller: Caller, task_id: str, body: bytes) -> dict[str, Any]:
    """The device will not do this task; see `device_tasks.decline`."""
    return device_tasks.decline(caller.device_pk, task_id, body)


def rotate(caller: Caller) -> dict[str, Any]:
    """A fresh key for the device, shown this once; the present one ends with its first use."""
    device = Device.objects.select_related("organization").get(pk=caller.device_pk)
    fresh = devices.rotate(device)
    return {
        "id": device.public_id,
        "device_key": fresh.text,
        "key_expires_at": fresh.expires_at.isoformat() if fresh.expires_at else None,
        "server_time": clock.now().isoformat(),
    }


def update_ticket(request: DoorRequest) -> UploadTicket:
    """Leave to upload the update of an open task. Raises not_found, task_closed."""
    caller = request.identify()
    try:
        task = _open_task(request)
    except FedportalError as error:
        if error.code == "task_closed":
            device_tasks.note_late(caller.device_pk, request.params["task"])
        raise
    return _ticket(caller.device_pk, task)


def _ticket(device_pk: int, task: task_rows.Files) -> UploadTicket:
    if not task.update_bytes:
        raise FedportalError("not_found", what="upload for this task")
    codec = codecs.of_header(task.update_header)

    def explain(head: bytes, total: int) -> object:
        if codec is not None:
            codec.explain(head, total)
        return threads.with_connection(_explain, task.pk, head, total)

    def on_stored(stored: Stored) -> None:
        try:
            device_tasks.note_upload(task.pk, stored.sha256, stored.norm)
        except FedportalError:
            if not task.update_header:
                device_tasks.forget_late(stored.sha256)
            raise

    return UploadTicket(
        staging_name=task.public_id,
        expected_bytes=task.update_bytes,
        header=task.update_header,
        explain=explain,
        # Without a header come the words of a masked vector, of which each is as good as any other.
        float32_finite=codec is None and bool(task.update_header),
        codec=codec,
        stored_sha256=task.upload_sha256,
        on_stored=on_stored,
        on_refused=lambda error: device_tasks.note_refused(device_pk, task.public_id, error),
    )


def _take_in(task: DeviceTask, content: bytes, sha256: str) -> tuple[str, float | None]:
    """Store an update that came in its answer, checked as every upload is. Raises what is wrong with it, `unavailable`
    while another connection uploads it."""
    found = task_rows.files(task.device_id, task.public_id)
    if found is None or found.state not in task_rows.UNFINISHED:
        raise FedportalError("task_closed", task=task.public_id, state=found.state if found else task.state)
    try:
        stored = parts.store(_ticket(task.device_id, found), content, sha256)
    except parts.Busy as busy:
        raise FedportalError("unavailable") from busy
    return stored.sha256, stored.norm


@lru_cache(KEPT_FILES)
def _short_file(sha256: str) -> str:
    """The file in base64 when it is short enough to travel with its task; "" when it is not, or there is none."""
    if not sha256 or not blobs.exists(sha256) or blobs.size(sha256) > INLINE_BYTES:
        return ""
    return base64.b64encode(blobs.path(sha256).read_bytes()).decode()


def model_ticket(request: DoorRequest) -> DownloadTicket:
    """Leave to download the model an open task starts from. Raises not_found, task_closed."""
    sha = _open_task(request).base_blob
    if not sha:
        raise FedportalError("not_found", what="model for this task")
    return DownloadTicket(path=blobs.path(sha), size=blobs.size(sha), etag=sha)


def state_ticket(request: DoorRequest) -> DownloadTicket:
    """Leave to download the vector that belongs to the model of an open task. Raises not_found, task_closed."""
    content = DeviceTask.objects.values_list("content", flat=True).get(pk=_open_task(request).pk)
    sha = content.get("state_digest")
    if not sha:
        raise FedportalError("not_found", what="state for this task")
    return DownloadTicket(path=blobs.path(sha), size=blobs.size(sha), etag=sha)


def _open_task(request: DoorRequest) -> task_rows.Files:
    task = task_rows.files(request.identify().device_pk, request.params["task"])
    if task is None:
        raise FedportalError("not_found", what="task")
    if task.state not in task_rows.UNFINISHED:
        raise FedportalError("task_closed", task=task.public_id, state=task.state)
    return task


def _explain(task_pk: int, head: bytes, total: int) -> None:
    content = DeviceTask.objects.values_list("content", flat=True).get(pk=task_pk)
    manifest = Manifest.from_json(content.get("manifest", []))
    check_update_header(head, travelling(manifest, content.get("training", {}).get("local", ())), total=total)
