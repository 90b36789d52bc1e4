"""The embedded portal with a handle: `python -m tests.driving --port N` serves the real portal, and does for the tests
beside it what only the portal's own process can do, such as offering tasks with a bell.

The handle is a Unix socket in the data folder: one JSON line `[name, {arguments}]` in, one JSON line out. The functions
of `ACTIONS` use the services that the portal itself uses.
"""

from __future__ import annotations

import hashlib
import json
import random
import socket
import sys
import threading
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import django

django.setup()

import numpy as np  # noqa: E402
from django.conf import settings  # noqa: E402
from django.db import close_old_connections  # noqa: E402

from federations.models import Device, DeviceKey, DeviceTask, Membership, Organization  # noqa: E402
from federations.permissions import Actor  # noqa: E402
from federations.services import desk, device_tasks, keys  # noqa: E402
from federations.services.device_tasks import NewTask  # noqa: E402
from fedportal import embedded  # noqa: E402
from fedportal.common import blobs, clock, live  # noqa: E402
from fedportal.common.transactions import unit  # noqa: E402
from fedportal.door.waiting import hub  # noqa: E402
from fedwire import codecs  # noqa: E402
from fedwire.states import DeviceState  # noqa: E402
from fedwire.tensors import Manifest  # noqa: E402
from registry.models import ModelVersion  # noqa: E402
from registry.services import installations, portions, rollouts  # noqa: E402
from tests.training.conftest import Site  # noqa: E402
from training import progress  # noqa: E402
from training.models import Run  # noqa: E402

# When bells rang in this process, and what upper floors were told about tasks of the kind `probe`.
RUNG: list[float] = [0.0]
HEARD: list[list[Any]] = []


def enrol(count: int = 1, organization: str = "metro", first: int = 1) -> list[dict[str, Any]]:
    """Devices with a key each, as registering makes them: [{pk, id, key}]."""
    with unit():
        owner, _ = Organization.objects.get_or_create(name=organization)
        made = Device.objects.bulk_create(
            Device(organization=owner, identifier=f"hospital-{number:03d}", public_key="")
            for number in range(first, first + count)
        )
        return [{"pk": device.pk, "id": device.public_id, "key": keys.issue_device_key(device)} for device in made]


def offer(
    device_pks: list[int],
    kind: str = "probe",
    manifest: list[dict[str, Any]] | None = None,
    base: str = "",
    seconds: float = 600.0,
    content: dict[str, Any] | None = None,
    codec: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A task for each device, with an upload if there is a manifest: {ids, at}, `at` being when the bell rang."""
    shape = codecs.of(codec, Manifest.from_json(manifest)) if manifest else None
    devices = Device.objects.in_bulk(device_pks)
    with unit():
        tasks = device_tasks.offer(
            [
                NewTask(
                    device=devices[pk],
                    kind=kind,
                    subject=f"test-{pk}",
                    deadline=clock.now() + timedelta(seconds=seconds),
                    content={"run": "run_test", "manifest": manifest or [], **(content or {})},
                    base_blob=base,
                    update_header=shape.header if shape else b"",
                    update_bytes=shape.nbytes if shape else 0,
                )
                for pk in device_pks
            ]
        )
    return {"ids": [task.public_id for task in tasks], "at": RUNG[-1]}


def roll_out(organization: str, model: str, shares: list[int]) -> list[float]:
    """Send the model's latest version to these shares of the devices, one after the other, and roll it back.

    How many seconds each took until the last device was asked.
    """
    owner = Membership.objects.select_related("person", "organization").get(organization__name=organization)
    actor = Actor(owner.person, owner.organization)
    version = ModelVersion.objects.select_related("model").filter(model__name=model)[0]
    took: list[float] = []
    for share in shares:
        begun = time.perf_counter()
        rollout = rollouts.deploy(actor, version, share=share)
        while portions.missing(rollout):
            time.sleep(0.02)
        took.append(round(time.perf_counter() - begun, 3))
    begun = time.perf_counter()
    rollout = rollouts.roll_back(actor, rollout)
    while installations.not_given_back(rollout).exists():
        time.sleep(0.02)
    return [*took, round(time.perf_counter() - begun, 3)]


def asked(subject: str) -> dict[str, int]:
    """How many tasks there are with this subject, and of how many devices."""
    found = DeviceTask.objects.filter(subject=subject)
    return {"tasks": found.count(), "devices": found.values("device").distinct().count()}


def task(task_id: str) -> dict[str, Any]:
    """What the row says."""
    row = DeviceTask.objects.get(public_id=task_id)
    columns = ("state", "upload_sha256", "upload_norm", "answer_digest", "receipt")
    return {column: getattr(row, column) for column in columns}


def close(task_ids: list[str], how: str = "cancel") -> int:
    """Cancel or expire tasks."""
    pks = list(DeviceTask.objects.filter(public_id__in=task_ids).values_list("pk", flat=True))
    with unit():
        return {"cancel": device_tasks.cancel, "expire": device_tasks.expire}[how](pks)


def revoke_keys(device_pks: list[int]) -> None:
    """End the devices' keys."""
    with unit():
        DeviceKey.objects.filter(device__in=device_pks).update(revoked_at=clock.now())


def set_state(device_pks: list[int], state: str) -> None:
    """Put devices in a state."""
    with unit():
        Device.objects.filter(pk__in=device_pks).update(state=DeviceState(state))


def seen(device_pks: list[int]) -> list[str | None]:
    """When each device was last seen."""
    moments = dict(Device.objects.filter(pk__in=device_pks).values_list("pk", "last_seen_at"))
    return [moments[pk].isoformat() if moments[pk] else None for pk in device_pks]


def only(device_pks: list[int]) -> None:
    """Of all devices these alone are there."""
    with unit():
        Device.objects.update(last_seen_at=None)
        Device.objects.filter(pk__in=device_pks).update(last_seen_at=clock.now())


def come(device_pks: list[int], at_once: int = 1) -> list[float]:
    """The devices come to wait, so many at a time; the seconds that the portal took for each lot."""
    took = []
    for start in range(0, len(device_pks), at_once):
        some = device_pks[start : start + at_once]
        desk.note_seen(some, clock.now())
        began = time.perf_counter()
        desk.note_idle(some)
        took.append(time.perf_counter() - began)
    return took


def answer(device_pks: list[int], samples: int = 10, times: float = 1.0, **more: Any) -> int:
    """The devices answer what they are asked, each much like the others; the number of tasks. Updates are `times` as
    long; `more` are further fields of the answer."""
    answered = 0
    for device in Device.objects.filter(pk__in=device_pks).order_by("pk"):
        site = Site(device, samples, 1.0)
        for task in site.tasks():
            if task.kind == "check":
                site.say(task, {"samples": 0, **more})
            else:
                length = Manifest.from_json(task.content["manifest"]).parameters
                noise = np.random.default_rng([device.pk, task.content["round"]]).normal(0, 0.01, length)
                site.answer(task, ((1 + noise) * times).astype(np.float32), seconds=0.25, **more)
            answered += 1
    return answered


def put_blob(size: int = 0, text: str = "") -> str:
    """Store a blob of `size` pseudo-random bytes, or of `text`; its digest."""
    return blobs.put(random.Random(size).randbytes(size) if size else text.encode())


def make_blob(size: int) -> str:
    """A blob of `size` zeros, written in pieces so that this process does not grow; its digest."""
    staged, sha = blobs.scratch(), hashlib.sha256()
    with open(staged, "wb") as file:
        for start in range(0, size, 1 << 20):
            piece = bytes(min(1 << 20, size - start))
            sha.update(piece)
            file.write(piece)
    blobs.adopt(staged, sha.hexdigest())
    return sha.hexdigest()


def waiting() -> int:
    """How many devices wait."""
    return len(hub)


def heard() -> list[list[Any]]:
    """What upper floors were told so far."""
    return HEARD


def files() -> dict[str, list[str]]:
    """What lies in the folders of the disk."""
    root = settings.FEDPORTAL_DATA_DIR
    return {
        name: sorted(path.name for path in (root / name).rglob("*") if path.is_file())
        for name in ("uploads", "scratch", "blobs")
    }


def sql_busy(seconds: float) -> None:
    """Hold the writer's lock for so long, as a slow transaction would."""
    with unit():
        time.sleep(seconds)


def replay(run: str, rounds: int) -> int:
    """Tell the events of the run's last training round again, as those of so many further rounds; the last number."""
    found = Run.objects.get(public_id=run)
    news = list(found.events.order_by("sequence").values_list("kind", "data"))
    begins = [n for n, (kind, data) in enumerate(news) if kind == "round.opened" and data["kind"] == "train"][-1]
    ends = next(n for n, (kind, _) in enumerate(news) if n > begins and kind == "round.done")
    for further in range(1, rounds + 1):
        with unit():
            progress.tell_all(found, [(kind, _moved(data, further)) for kind, data in news[begins : ends + 1]])
        time.sleep(0.02)  # a real round takes longer
    return int(Run.objects.values_list("sequence", flat=True).get(pk=found.pk))


def _moved(data: dict[str, Any], by: int) -> dict[str, Any]:
    moved = {**data, "number": data["number"] + by}
    if data.get("point"):
        moved["point"] = {**data["point"], "number": data["point"]["number"] + by}
    return moved


ACTIONS = {
    action.__name__: action
    for action in (
        *(enrol, offer, roll_out, asked, task, close, revoke_keys, set_state, seen),
        *(only, come, answer),
        *(put_blob, make_blob, waiting, heard, files, sql_busy, replay),
    )
}


def listen(path: Path) -> None:
    """Take lines and do what they say, one connection after another, in a thread of its own."""
    device_tasks.handle(
        "probe",
        on_taken=lambda tasks: HEARD.append(["taken", [task.public_id for task in tasks]]),
        on_answer=lambda task, answer, sha, norm: HEARD.append(["answer", task.public_id, answer, sha, norm]),
        on_decline=lambda task, reason: HEARD.append(["decline", task.public_id, reason]),
        on_late=lambda task: HEARD.append(["late", task.public_id]),
        on_refused=lambda task, code, sentence: HEARD.append(["refused", task.public_id, code]),
    )
    device_tasks.on_idle(lambda pks: HEARD.append(["idle", list(pks)]))
    live.on_bell(lambda pks: RUNG.append(time.time()))
    with socket.socket(socket.AF_UNIX) as server:
        path.unlink(missing_ok=True)
        server.bind(str(path))
        server.listen()
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rw") as lines:
                for line in lines:
                    lines.write(json.dumps(_do(*json.loads(line))) + "\n")
                    lines.flush()


def _do(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    close_old_connections()
    try:
        return {"result": ACTIONS[name](**arguments)}
    except Exception:
        return {"error": traceback.format_exc()}


if __name__ == "__main__":
    threading.Thread(target=listen, args=(settings.FEDPORTAL_DATA_DIR / "driver.sock",), daemon=True).start()
    embedded.main(sys.argv[1:])
