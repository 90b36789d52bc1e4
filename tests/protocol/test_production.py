"""The door in several processes, on a real PostgreSQL and a real Valkey or Redis."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil
import pytest

from fedwire import routes
from tests import services
from tests.production import environment
from tests.protocol.wire import Device, eventually, manifest, sha256, update
from tests.running import Portal

pytestmark = [pytest.mark.services, pytest.mark.slow]

SHAPE = manifest(1_000_000)
WORKERS = 2


@pytest.fixture(scope="module")
def production() -> Iterator[Portal]:
    with ExitStack() as stack:
        try:
            database = stack.enter_context(services.postgresql())
            broker = stack.enter_context(services.valkey())
        except services.Unavailable as reason:
            pytest.skip(f"NOT TESTED on real PostgreSQL and Valkey/Redis: {reason}")
        portal = Portal(
            module="fedportal.serve",
            arguments=["--workers", str(WORKERS)],
            **environment(database, broker),
        )
        portal.manage("migrate", "--verbosity", "0")
        yield stack.enter_context(portal)


def beside(portal: Portal, source: str) -> Any:
    """The value of `source`'s last line, in another process of the same portal, as a Celery worker would be one."""
    *lines, last = source.strip().splitlines()
    script = "\n".join(
        ["import json, time", "from tests.driving import *", *lines, f"print('=>' + json.dumps({last}))"]
    )
    return json.loads(portal.manage("shell", "--no-imports", "-c", script).split("=>")[1])


def enrolled(portal: Portal, count: int, first: int) -> list[Device]:
    return [Device(portal, made) for made in beside(portal, f"enrol({count}, first={first})")]


def test_bells_of_another_process_reach_devices_in_every_process(production: Portal) -> None:
    devices = enrolled(production, 12, first=1)
    arrived: dict[int, float] = {}

    def wait(device: Device) -> None:
        assert device.next(wait=25).status == 200
        arrived[device.pk] = time.time()

    threads = [threading.Thread(target=wait, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    source = (
        f"at = {{}}\nfor pk in {[device.pk for device in devices]}:\n    offer([pk])\n    at[pk] = time.time()\n"
        "    time.sleep(0.13)\nat"
    )
    rung = beside(production, source)
    for thread in threads:
        thread.join()
    delays = [arrived[device.pk] - rung[str(device.pk)] for device in devices]
    assert statistics.median(delays) < 0.5, delays  # who is not woken looks every two seconds
    assert max(delays) < 10, delays


def test_a_walk_through_several_processes_ends_with_one_receipt(production: Portal) -> None:
    device, body = enrolled(production, 1, first=100)[0], update(SHAPE)
    task = beside(production, f"offer([{device.pk}], manifest={SHAPE.to_json()!r})")["ids"][0]
    assert device.next(wait=5).json()["id"] == task
    for start in range(0, len(body), 1 << 20):  # each piece on a connection of its own
        piece = body[start : start + (1 << 20)]
        reply = device.put(task, piece, Upload_Offset=start, Upload_Complete="?0", Upload_Digest=sha256(body))
        assert reply.json()["stored"] == start + len(piece)
    replies = [device.answer(task, {"sha256": sha256(body), "samples": 5}) for _ in range(6)]
    assert [reply.status for reply in replies] == [201] + [200] * 5
    assert len({reply.body for reply in replies}) == 1
    row = beside(production, f"task({task!r})")
    assert (row["state"], row["receipt"]) == ("answered", replies[0].json())


def test_uploads_of_one_task_in_several_processes_do_not_mix(production: Portal) -> None:
    device = enrolled(production, 1, first=200)[0]
    task = beside(production, f"offer([{device.pk}], manifest={SHAPE.to_json()!r})")["ids"][0]
    bodies = [update(SHAPE, seed) for seed in range(6)]

    def put(body: bytes) -> None:
        while device.put(task, body, Upload_Digest=sha256(body)).status in (409, 503):
            time.sleep(0.05)

    threads = [threading.Thread(target=put, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = beside(production, f"{{**task({task!r}), 'ok': blobs.verify(task({task!r})['upload_sha256'])}}")
    assert row["upload_sha256"] in {sha256(body) for body in bodies}
    assert row["ok"]


def test_a_key_revoked_elsewhere_ends_its_wait_within_a_second(production: Portal) -> None:
    device = enrolled(production, 1, first=300)[0]
    with device.wire() as wire:
        wire.head("GET", f"{routes.TASK_NEXT}?wait=25")
        time.sleep(0.5)
        at = beside(production, f"revoke_keys([{device.pk}])\ntime.time()")
        assert wire.reply().code == "key_revoked"
        assert time.time() - at < 10  # a busy machine is slow; its wait would take 25 s


def test_a_killed_web_process_is_replaced_and_its_devices_come_back(production: Portal) -> None:
    device = enrolled(production, 1, first=400)[0]
    task = beside(production, f"offer([{device.pk}])")["ids"][0]
    parent = psutil.Process(production.pid)
    web = [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(web) == WORKERS
    for child in web:
        child.kill()

    def answered() -> bool:
        try:
            return bool(device.next(wait=1).json()["id"] == task)
        except OSError:
            return False

    assert eventually(answered, seconds=30)
