"""The long poll, over the wire."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime

import pytest

from fedwire import routes
from fedwire.messages import INLINE_BYTES
from tests.protocol.conftest import enrol
from tests.protocol.wire import Device, Wire, eventually, exchange, manifest
from tests.running import Portal

NEXT = routes.TASK_NEXT
# What comes at once comes within this on a busy machine too; a wait that is not cut short takes 20 s and more.
PATIENCE = 10.0


def test_an_open_task_is_handed_out_at_once_with_everything_a_device_needs(device: Device) -> None:
    shape = manifest()
    task = device.offered(shape, content={"round": 3, "training": {"epochs": 2}, "answer": {"metrics": True}})
    reply = device.next(wait=10)
    assert reply.status == 200
    body = reply.json()
    assert body["id"] == task
    assert body["kind"] == "probe"
    assert body["run"] == "run_test"
    assert body["round"] == 3
    assert body["training"] == {"epochs": 2}
    assert body["manifest"] == shape.to_json()
    wanted = {
        "update_bytes": shape.update_bytes,
        "inline_bytes": INLINE_BYTES,
        "max_samples": 10_000_000,
        "metrics": True,
    }
    assert body["answer"] == wanted
    assert 590 < body["seconds_left"] <= 600
    assert "T" in body["deadline"]
    assert body["base_digest"] == ""


def test_without_work_the_wait_ends_with_nothing_when_its_seconds_are_over(device: Device) -> None:
    began = time.monotonic()
    reply = device.next(wait=0.6)
    assert reply.status == 204
    assert reply.body == b""
    assert 0.5 < time.monotonic() - began < PATIENCE


def test_a_wait_of_zero_seconds_asks_once(device: Device) -> None:
    began = time.monotonic()
    assert device.next(wait=0).status == 204
    assert time.monotonic() - began < PATIENCE


def test_a_waiting_device_is_woken_at_once_by_a_task(portal: Portal, device: Device) -> None:
    delays = []
    for _ in range(5):
        with device.wire() as wire:
            wire.head("GET", f"{NEXT}?wait=20")
            time.sleep(0.3)
            rung = portal.do("offer", device_pks=[device.pk])
            assert wire.reply().json()["id"] == rung["ids"][0]
            delays.append(time.time() - rung["at"])
        portal.do("close", task_ids=rung["ids"])
    assert statistics.median(delays) < 0.5, delays  # who is not woken looks every two seconds


def test_a_task_whose_bell_was_lost_is_found_within_two_seconds(portal: Portal, device: Device) -> None:
    source = (
        "from datetime import timedelta; from federations.models import Device; from fedportal.common import clock\n"
        "from fedportal.common.transactions import unit; from federations.services.device_tasks import *\n"
        f"device = Device.objects.get(pk={device.pk})\n"
        "with unit(): offer([NewTask(device, 'infer', 's', clock.now() + timedelta(seconds=60))])\n"
        "import time; print('offered', time.time())"
    )
    with device.wire() as wire:
        wire.head("GET", f"{NEXT}?wait=25")
        time.sleep(0.3)
        printed = portal.manage("shell", "--no-imports", "-c", source)  # another process: its bell rings nowhere
        reply = wire.reply()
        assert reply.status == 200
        assert time.time() - float(printed.split("offered ")[1]) < PATIENCE


def test_a_task_is_handed_out_again_until_it_is_answered(portal: Portal, device: Device) -> None:
    task = device.offered()
    assert device.next().json()["id"] == task
    eventually(lambda: portal.do("task", task_id=task)["state"] == "taken")
    assert device.next().json()["id"] == task, "a device that was switched off gets its task again"
    assert device.answer(task, {"samples": 1}).status == 201
    assert device.next().status == 204


def test_taking_is_told_to_the_floor_above_once(portal: Portal, device: Device) -> None:
    task = device.offered()
    device.next()
    device.next()
    eventually(lambda: ["taken", [task]] in portal.do("heard"))
    assert portal.do("heard").count(["taken", [task]]) == 1


def test_the_oldest_of_several_tasks_comes_first(device: Device) -> None:
    first, second = device.offered(), device.offered()
    assert device.next().json()["id"] == first
    device.answer(first, {"samples": 1})
    assert device.next().json()["id"] == second


def test_a_task_beyond_its_deadline_is_not_handed_out(device: Device) -> None:
    device.offered(seconds=-1)
    assert device.next().status == 204


def test_a_device_gets_its_own_tasks_only(device: Device, other_device: Device) -> None:
    device.offered()
    assert other_device.next().status == 204


def test_a_device_that_left_does_not_take_its_task_with_it(portal: Portal, device: Device) -> None:
    with device.wire() as wire:
        wire.head("GET", f"{NEXT}?wait=20")
        time.sleep(0.3)
    time.sleep(0.2)
    task = device.offered()
    time.sleep(0.6)
    assert portal.do("task", task_id=task)["state"] == "open"
    assert device.next().json()["id"] == task


def test_of_two_waits_of_one_device_the_later_is_served(device: Device) -> None:
    with device.wire() as first, device.wire() as second:
        first.head("GET", f"{NEXT}?wait=20")
        time.sleep(0.2)
        second.head("GET", f"{NEXT}?wait=20")
        ousted = first.reply()
        assert (ousted.status, ousted.code) == (409, "conflict")
        task = device.offered()
        assert second.reply().json()["id"] == task


def test_a_connection_serves_wait_after_wait(device: Device) -> None:
    with device.wire() as wire:
        for _ in range(3):
            assert wire.request("GET", f"{NEXT}?wait=0").status == 204
        task = device.offered()
        assert wire.request("GET", f"{NEXT}?wait=5").json()["id"] == task


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("", "not_authenticated"),
        ("edg_nonsense", "key_invalid"),
        ("edg_aaaaaaaa_" + "b" * 43 + "_000000", "key_invalid"),
        ("\x00\x7f", "key_invalid"),
    ],
)
def test_without_a_valid_key_nobody_waits(portal: Portal, key: str, code: str) -> None:
    if key == "\x00\x7f":
        with Wire(portal, key) as wire:  # refused by the HTTP parser
            wire.head("GET", NEXT)
            assert wire.reply().status == 400
        return
    reply = exchange(portal, key, "GET", NEXT)
    assert (reply.status, reply.code) == (401, code)
    assert reply.headers["www-authenticate"] == "Bearer"


def test_revoking_a_key_ends_its_wait_within_a_second(portal: Portal, device: Device) -> None:
    with device.wire() as wire:
        wire.head("GET", f"{NEXT}?wait=25")
        time.sleep(0.5)
        began = time.monotonic()
        portal.do("revoke_keys", device_pks=[device.pk])
        reply = wire.reply()
        assert (reply.status, reply.code) == (401, "key_revoked")
        assert time.monotonic() - began < PATIENCE
    assert device.next().code == "key_revoked"


@pytest.mark.parametrize("state", ["revoked", "retired"])
def test_a_device_that_is_no_longer_welcome_stops_waiting(portal: Portal, device: Device, state: str) -> None:
    with device.wire() as wire:
        wire.head("GET", f"{NEXT}?wait=25")
        time.sleep(0.3)
        portal.do("set_state", device_pks=[device.pk], state=state)
        reply = wire.reply()
        assert (reply.status, reply.code) == (403, "device_inactive")


def test_waiting_is_noted_as_a_sign_of_life(portal: Portal, device: Device) -> None:
    assert portal.do("seen", device_pks=[device.pk]) == [None]
    with device.wire() as wire:
        wire.head("GET", f"{NEXT}?wait=20")
        eventually(lambda: portal.do("seen", device_pks=[device.pk])[0])


def test_a_sign_of_life_is_noted_with_its_own_moment_and_not_that_of_the_note(portal: Portal, device: Device) -> None:
    """Who declined and went away has not been seen since, although the note of its coming is written later."""
    task = device.offered()
    device.next(wait=5)
    assert device.request("POST", routes.TASK_DECLINE.format(task=task), body=b"{}").status == 200
    left = datetime.now(UTC)
    seen = eventually(lambda: portal.do("seen", device_pks=[device.pk])[0])
    assert datetime.fromisoformat(seen) < left


def test_the_floor_above_hears_once_of_a_device_with_nothing_to_do(portal: Portal, device: Device) -> None:
    with device.wire() as wire:
        wire.head("GET", f"{NEXT}?wait=3")
        assert wire.reply().status == 204
    told = [pk for kind, *rest in portal.do("heard") if kind == "idle" for pk in rest[0]]
    assert told.count(device.pk) == 1


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", "inf", "1e9"])
def test_a_wait_that_is_no_number_of_seconds_is_refused(device: Device, wait: str) -> None:
    reply = device.request("GET", f"{NEXT}?wait={wait}")
    assert (reply.status, reply.code) == (400, "field_invalid")


def test_another_method_is_refused_as_json(device: Device) -> None:
    reply = device.request("DELETE", NEXT)
    assert (reply.status, reply.code, reply.headers["allow"]) == (405, "method_not_allowed", "GET")


def test_two_hundred_waiting_devices_take_no_thread_each(portal: Portal) -> None:
    devices = [Device(portal, made) for made in portal.do("enrol", count=200, organization="valley", first=1)]
    wires = [device.wire() for device in devices]
    try:
        for wire in wires:
            wire.head("GET", f"{NEXT}?wait=25")
        time.sleep(1.0)
        assert portal.threads() < 40
        rung = portal.do("offer", device_pks=[device.pk for device in devices])
        assert {wire.reply().json()["id"] for wire in wires} == set(rung["ids"])
        assert time.time() - rung["at"] < PATIENCE
    finally:
        for wire in wires:
            wire.close()


def test_a_stopping_portal_sends_waiting_devices_away_and_leaves(own_portal: Portal) -> None:
    device = enrol(own_portal)
    with device.wire() as wire:
        wire.head("GET", f"{NEXT}?wait=25")
        time.sleep(0.3)
        began = time.monotonic()
        own_portal._process.terminate()
        reply = wire.reply()
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "unavailable", "1")
        assert own_portal.wait_for_death() == 0
        assert time.monotonic() - began < PATIENCE
