"""Downloads over the wire: whole, in parts, and by whom."""

from __future__ import annotations

import random
import time

import pytest

from fedwire import routes
from tests.protocol.wire import Device, exchange
from tests.running import Portal

SIZES = [1, 1000, 300_000, 3_000_001]


def model_of(task: str) -> str:
    return routes.TASK_MODEL.format(task=task)


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def offered(portal: Portal, device: Device, size: int) -> tuple[str, str]:
    """A task whose model has this many bytes, and the model's digest."""
    sha = portal.do("put_blob", size=size)
    return device.offered(base=sha), sha


@pytest.mark.parametrize("size", SIZES)
def test_a_model_arrives_whole_under_its_digest(portal: Portal, device: Device, size: int) -> None:
    task, sha = offered(portal, device, size)
    assert device.next().json()["base_digest"] == sha
    reply = device.request("GET", model_of(task))
    assert reply.status == 200
    assert reply.body == content(size)
    assert reply.headers["etag"] == f'"{sha}"'
    assert reply.headers["content-length"] == str(size)
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["x-content-type-options"] == "nosniff"
    head = device.request("HEAD", model_of(task))
    assert (head.status, head.headers["content-length"], head.body) == (200, str(size), b"")


def test_the_vector_beside_a_model_arrives_under_its_digest(portal: Portal, device: Device) -> None:
    sha = portal.do("put_blob", size=1000)
    task = device.offered(base=portal.do("put_blob", size=5), content={"state_digest": sha})
    assert device.next().json()["state_digest"] == sha
    assert device.request("GET", routes.TASK_STATE.format(task=task)).body == content(1000)


def test_a_task_without_such_a_vector_has_none(portal: Portal, device: Device) -> None:
    task, _ = offered(portal, device, 5)
    assert device.request("GET", routes.TASK_STATE.format(task=task)).status == 404


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize(
    ("wanted", "start", "stop"), [("0-", 0, None), ("17-", 17, None), ("5-9", 5, 10), ("-10", -10, None), ("7-7", 7, 8)]
)
def test_a_part_arrives_from_any_byte(
    portal: Portal, device: Device, size: int, wanted: str, start: int, stop: int | None
) -> None:
    task, sha = offered(portal, device, size)
    reply = device.request("GET", model_of(task), headers={"Range": f"bytes={wanted}", "If-Range": f'"{sha}"'})
    expected = content(size)[start:stop]
    assert reply.body == expected
    if wanted == "0-":
        assert reply.status == 200
    else:
        first = start if start >= 0 else size + start
        assert reply.status == 206
        assert reply.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{size}"


@pytest.mark.parametrize("wanted", ["bytes=5-2", "bytes=1000-", "bytes=99999999-", "bytes=-0"])
def test_a_part_beyond_the_end_is_refused(portal: Portal, device: Device, wanted: str) -> None:
    task, _ = offered(portal, device, 1000)
    reply = device.request("GET", model_of(task), headers={"Range": wanted})
    assert (reply.status, reply.headers["content-range"]) == (416, "bytes */1000")


@pytest.mark.parametrize("wanted", ["bytes=-", "bytes=a-b", "lines=1-2", "bytes=1-2,4-5", "bytes=" + "9" * 40 + "-"])
def test_a_range_that_is_not_understood_means_everything(portal: Portal, device: Device, wanted: str) -> None:
    task, _ = offered(portal, device, 1000)
    reply = device.request("GET", model_of(task), headers={"Range": wanted})
    assert (reply.status, reply.body) == (200, content(1000))


def test_a_part_of_another_content_is_not_mixed_in(portal: Portal, device: Device) -> None:
    task, _ = offered(portal, device, 1000)
    headers = {"Range": "bytes=500-", "If-Range": '"of an older model"'}
    reply = device.request("GET", model_of(task), headers=headers)
    assert (reply.status, len(reply.body)) == (200, 1000)


def test_who_has_it_already_gets_nothing(portal: Portal, device: Device) -> None:
    task, sha = offered(portal, device, 1000)
    reply = device.request("GET", model_of(task), headers={"If-None-Match": f'"{sha}"'})
    assert (reply.status, reply.body) == (304, b"")


def test_a_foreign_and_a_missing_task_look_the_same(portal: Portal, device: Device, other_device: Device) -> None:
    task, _ = offered(portal, device, 1000)
    replies = [other_device.request("GET", model_of(name)) for name in (task, "tsk_missing")]
    assert [(reply.status, reply.code) for reply in replies] == [(404, "not_found")] * 2
    assert replies[0].body == replies[1].body


def test_a_closed_task_gives_no_model(portal: Portal, device: Device) -> None:
    task, _ = offered(portal, device, 1000)
    portal.do("close", task_ids=[task])
    assert device.request("GET", model_of(task)).code == "task_closed"


def test_a_task_without_a_model_gives_none(device: Device) -> None:
    assert device.request("GET", model_of(device.offered())).code == "not_found"


def test_without_a_key_nothing_is_given(portal: Portal, device: Device) -> None:
    task, _ = offered(portal, device, 1000)
    assert exchange(portal, "", "GET", model_of(task)).status == 401


def test_a_reader_that_goes_away_does_not_keep_the_portal_busy(portal: Portal, device: Device) -> None:
    task, _ = offered(portal, device, 64 << 20)
    with device.wire() as wire:
        wire.head("GET", model_of(task))
        wire.socket.recv(1000)
    time.sleep(0.5)
    assert device.request("GET", model_of(offered(portal, device, 1000)[0])).status == 200


def test_a_slow_reader_is_served_to_the_end(portal: Portal, device: Device) -> None:
    task, _ = offered(portal, device, 3_000_001)
    with device.wire() as wire:
        wire.head("GET", model_of(task))
        time.sleep(0.5)
        assert wire.reply().body == content(3_000_001)
