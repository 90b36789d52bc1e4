"""Answers over the wire: recorded once, repeated harmlessly, read strictly."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fedwire import routes
from tests.protocol.wire import Device, exchange, manifest, sha256, update
from tests.running import Portal

SHAPE = manifest()


def uploaded(device: Device, seed: int = 0) -> tuple[str, str]:
    """A task whose upload is complete, and the upload's digest."""
    task, body = device.offered(SHAPE), update(SHAPE, seed)
    assert device.put(task, body, Upload_Digest=sha256(body)).json()["complete"]
    return task, sha256(body)


def told(portal: Portal, task: str) -> list[list[Any]]:
    return [said for said in portal.do("heard") if said[1] == task]


def test_an_answer_gets_a_receipt_and_reaches_the_floor_above(portal: Portal, device: Device) -> None:
    task, sha = uploaded(device)
    reply = device.answer(task, {"sha256": sha, "samples": 12, "seconds": 1.5, "unknown": [1]})
    assert reply.status == 201
    receipt = reply.json()
    assert (receipt["task"], receipt["state"], receipt["sha256"], receipt["samples"]) == (task, "answered", sha, 12)
    assert receipt["received_at"]
    norm = portal.do("task", task_id=task)["upload_norm"]
    assert told(portal, task) == [["answer", task, {"sha256": sha, "samples": 12, "seconds": 1.5}, sha, norm]]


def test_the_same_answer_again_gets_the_first_receipt(portal: Portal, device: Device) -> None:
    task, sha = uploaded(device)
    first = device.answer(task, {"sha256": sha, "samples": 12})
    again = device.answer(task, {"samples": 12, "sha256": sha})
    assert (first.status, again.status) == (201, 200)
    assert again.json() == first.json()
    assert len(told(portal, task)) == 1


def test_another_answer_to_an_answered_task_is_refused(portal: Portal, device: Device) -> None:
    task, sha = uploaded(device)
    device.answer(task, {"sha256": sha, "samples": 12})
    reply = device.answer(task, {"sha256": sha, "samples": 13})
    assert (reply.status, reply.code) == (409, "answer_differs")
    assert portal.do("task", task_id=task)["receipt"]["samples"] == 12


def test_an_upload_after_the_answer_is_refused(portal: Portal, device: Device) -> None:
    task, sha = uploaded(device)
    device.answer(task, {"sha256": sha, "samples": 12})
    assert device.put(task, update(SHAPE, 5)).code == "task_closed"
    assert portal.do("task", task_id=task)["upload_sha256"] == sha


def test_an_answer_before_its_upload_is_refused_and_may_come_again(device: Device) -> None:
    task, body = device.offered(SHAPE), update(SHAPE)
    device.put(task, body[:100], Upload_Complete="?0")
    reply = device.answer(task, {"sha256": sha256(body), "samples": 1})
    assert (reply.status, reply.code) == (409, "upload_incomplete")
    assert reply.json()["context"] == {"stored": 100, "expected": len(body)}
    device.put(task, body[100:], Upload_Offset=100)
    assert device.answer(task, {"sha256": sha256(body), "samples": 1}).status == 201


@pytest.mark.parametrize("wrong", [{}, {"sha256": "0" * 64}])
def test_an_answer_that_speaks_of_another_upload_is_refused(device: Device, wrong: dict[str, str]) -> None:
    task, sha = uploaded(device)
    assert device.answer(task, {"samples": 1, **wrong}).code == "digest_mismatch"
    assert device.answer(task, {"samples": 1, "sha256": sha}).status == 201


@pytest.mark.parametrize(("how", "state"), [("cancel", "cancelled"), ("expire", "expired")])
def test_a_late_answer_is_refused_with_its_own_code_and_noted(
    portal: Portal, device: Device, how: str, state: str
) -> None:
    task, sha = uploaded(device)
    portal.do("close", task_ids=[task], how=how)
    reply = device.answer(task, {"sha256": sha, "samples": 1})
    assert (reply.status, reply.code, reply.json()["context"]["state"]) == (409, "task_closed", state)
    assert told(portal, task) == [["late", task]]


def test_a_foreign_and_a_missing_task_look_the_same(device: Device, other_device: Device) -> None:
    task, sha = uploaded(device)
    replies = [other_device.answer(name, {"sha256": sha, "samples": 1}) for name in (task, "tsk_missing")]
    assert [(reply.status, reply.code) for reply in replies] == [(404, "not_found")] * 2
    assert replies[0].body == replies[1].body
    assert device.answer(task, {"sha256": sha, "samples": 1}).status == 201


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'{"samples": NaN}',
        b'{"samples": Infinity}',
        b'{"samples": 1, "samples": 2}',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"samples": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_json_object_is_refused(device: Device, body: bytes) -> None:
    task = device.offered()
    reply = device.request("POST", routes.TASK_ANSWER.format(task=task), body=body)
    assert (reply.status, reply.code) == (400, "bad_request")


@pytest.mark.parametrize("samples", [None, -1, 1.5, "3", True, 10_000_001, 2**64, [1], {}])
def test_a_sample_count_that_is_none_is_refused(device: Device, samples: object) -> None:
    task = device.offered()
    reply = device.answer(task, {"samples": samples})
    assert (reply.status, reply.code) == (400, "samples_invalid")
    assert device.answer(task, {"samples": 1}).status == 201


def test_a_large_body_is_refused(device: Device) -> None:
    path = routes.TASK_ANSWER.format(task=device.offered())
    reply = device.request("POST", path, body=b" " * (256 * 1024 + 1))
    assert (reply.status, reply.code) == (413, "body_too_large")


def test_a_chunked_answer_is_refused(device: Device) -> None:
    with device.wire() as wire:
        wire.head("POST", routes.TASK_ANSWER.format(task=device.offered()), {"Transfer-Encoding": "chunked"})
        wire.send(b"2\r\n{}\r\n0\r\n\r\n")
        assert wire.reply().code == "length_missing"


def test_answers_of_one_task_at_once_are_recorded_once(portal: Portal, device: Device) -> None:
    task, sha = uploaded(device)
    replies = []
    threads = [
        threading.Thread(target=lambda n=n: replies.append(device.answer(task, {"sha256": sha, "samples": n})))
        for n in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reply.status for reply in replies) == [201] + [409] * 7
    assert {reply.code for reply in replies if reply.status == 409} == {"answer_differs"}
    assert len(told(portal, task)) == 1


def test_declining_is_noted_with_its_reason_once(portal: Portal, device: Device) -> None:
    task = device.offered()
    path = routes.TASK_DECLINE.format(task=task)
    with device.wire() as wire:
        for _ in range(2):
            assert wire.post(path, {"reason": "too\nlittle memory"}).json() == {"task": task, "state": "declined"}
    assert told(portal, task) == [["decline", task, "too little memory"]]
    assert device.answer(task, {"samples": 1}).code == "task_closed"
    assert device.next().status == 204


def test_declining_needs_no_reason_but_an_open_task(device: Device) -> None:
    open_task, answered = device.offered(), device.offered()
    device.answer(answered, {"samples": 1})
    assert device.request("POST", routes.TASK_DECLINE.format(task=open_task), body=b"").status == 200
    assert device.request("POST", routes.TASK_DECLINE.format(task=answered), body=b"").code == "task_closed"
    with device.wire() as wire:
        assert wire.post(routes.TASK_DECLINE.format(task=device.offered()), {"reason": 3}).code == "field_invalid"


def test_a_fresh_key_ends_the_old_one_with_its_first_use(portal: Portal, device: Device) -> None:
    reply = device.request("POST", routes.DEVICE_ROTATE, body=b"")
    fresh = reply.json()["device_key"]
    assert reply.json()["id"] == device.id
    assert device.next().status == 204, "the old key works until the fresh one is used"
    assert exchange(portal, fresh, "GET", f"{routes.TASK_NEXT}?wait=0").status == 204
    with device.wire() as wire:
        wire.head("GET", f"{routes.TASK_NEXT}?wait=5")
        assert wire.reply().code == "key_revoked"


def test_without_a_key_nothing_is_recorded(portal: Portal, device: Device) -> None:
    task = device.offered()
    for path in (routes.TASK_ANSWER, routes.TASK_DECLINE):
        assert exchange(portal, "", "POST", path.format(task=task), body=b"{}").status == 401
    assert portal.do("task", task_id=task)["state"] == "open"
