"""The portal is killed at a marked point of an update's walk and starts again: nothing acknowledged is lost, nothing
counts twice, and the device that simply repeats itself gets through."""

from __future__ import annotations

import contextlib
import time

import pytest

from fedwire import routes
from tests.protocol.conftest import enrol
from tests.protocol.wire import Device, Reply, eventually, manifest, sha256, update
from tests.running import Portal

SMALL, LARGE = manifest(), manifest(3_000_000)


def patiently(portal: Portal, attempt: object, seconds: float = 30.0) -> Reply:
    """Repeat a request while the portal is away; start the portal again when it died."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            reply: Reply = attempt()  # type: ignore[operator]
            if reply.status < 500:
                return reply
        except (ConnectionError, OSError):
            if not portal.running:
                portal.start()
        assert time.monotonic() < give_up
        time.sleep(0.05)


def walk(portal: Portal, device: Device, task: str, body: bytes) -> dict[str, object]:
    """What a device does, with patience; the receipt."""
    assert patiently(portal, lambda: device.next(wait=5)).json()["id"] == task

    def upload() -> Reply:
        stored = device.stored(task)
        return device.put(task, body[stored:], Upload_Offset=stored, Upload_Digest=sha256(body))

    assert patiently(portal, upload).json()["complete"]
    reply = patiently(portal, lambda: device.answer(task, {"sha256": sha256(body), "samples": 3}))
    assert reply.status in (200, 201)
    receipt: dict[str, object] = reply.json()
    return receipt


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "shape"),
    [
        pytest.param(point, shape, id=f"{point}-{size}")
        for point in ("task_taken", "mid_upload", "after_blob", "before_commit", "after_commit")
        for size, shape in (("small", SMALL), ("large", LARGE))
        if (point, size) != ("mid_upload", "small")  # a small body comes in one piece and has no middle
    ],
)
def test_a_kill_at_any_point_loses_nothing_and_counts_nothing_twice(point: str, shape: object) -> None:
    body = update(shape)  # type: ignore[arg-type]
    with Portal(module="tests.driving") as portal:
        device = enrol(portal)
        task = device.offered(shape)  # type: ignore[arg-type]
        portal.stop()
        portal.start(FAULT=f"{point}:2" if point == "mid_upload" and shape is LARGE else point)
        receipt = walk(portal, device, task, body)
        if point == "task_taken" and portal.running:
            with contextlib.suppress(AssertionError):  # the note is written a moment after the task has left, if at all
                eventually(lambda: not portal.running, 3)
        died = portal.log.read_text().count("fedportal answers at") == 3
        assert died or point == "task_taken", "the fault never struck"
        if not portal.running:
            portal.start()
        row = portal.do("task", task_id=task)
        assert row["state"] == "answered"
        assert row["receipt"] == receipt
        assert row["upload_sha256"] == sha256(body)
        again = device.answer(task, {"sha256": sha256(body), "samples": 3})
        assert (again.status, again.json()) == (200, receipt)
        assert device.next().status == 204
        assert portal.do("files")["uploads"] == []


def test_a_portal_that_is_killed_while_devices_wait_serves_them_again_after_a_restart(own_portal: Portal) -> None:
    device = enrol(own_portal)
    with device.wire() as wire:
        wire.head("GET", f"{routes.TASK_NEXT}?wait=25")
        time.sleep(0.3)
        own_portal.kill()
        with pytest.raises(ConnectionError):
            wire.reply()
    own_portal.start()
    task = device.offered()
    assert device.next(wait=5).json()["id"] == task
