"""Uploads over the wire: proper ones, resumed ones, and every kind that must be refused."""

from __future__ import annotations

import json
import pickle
import threading
import time

import numpy as np
import pytest

from fedwire import routes
from fedwire.tensors import Manifest, TensorSpec
from tests.protocol.wire import Device, Wire, at_rest, eventually, exchange, manifest, sha256, update
from tests.running import Portal

SMALL = manifest()
LARGE = manifest(1_000_000)  # 4 MB: read from the socket in several pieces
IN_FLIGHT = 400_000  # what the sockets and the web server may hold when a connection breaks


def upload_of(task: str) -> str:
    return routes.TASK_UPDATE.format(task=task)


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
def test_a_whole_upload_is_stored_under_its_digest(portal: Portal, device: Device, shape: Manifest) -> None:
    task, body = device.offered(shape), update(shape)
    reply = device.put(task, body, Upload_Digest=sha256(body))
    assert (reply.status, reply.json()) == (200, {"stored": len(body), "complete": True})
    assert reply.headers["upload-offset"] == str(len(body))
    row = portal.do("task", task_id=task)
    assert row["upload_sha256"] == sha256(body)
    vector = np.frombuffer(body, "<f4", offset=len(shape.update_header())).astype(np.float64)
    assert row["upload_norm"] == pytest.approx(np.linalg.norm(vector), rel=1e-6)
    files = portal.do("files")
    assert sha256(body) in files["blobs"]
    assert task not in files["uploads"]


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
def test_the_same_upload_again_is_complete_already(portal: Portal, device: Device, shape: Manifest) -> None:
    task, body = device.offered(shape), update(shape)
    for _ in range(2):
        assert device.put(task, body, Upload_Digest=sha256(body)).json()["complete"]
    assert device.put(task, b"", Upload_Offset=len(body)).json() == {"stored": len(body), "complete": True}
    assert device.stored(task) == len(body)


def test_an_upload_may_be_replaced_until_it_is_answered(portal: Portal, device: Device) -> None:
    task, first, second = device.offered(SMALL), update(SMALL, 1), update(SMALL, 2)
    device.put(task, first)
    assert device.put(task, second).json()["complete"]
    assert portal.do("task", task_id=task)["upload_sha256"] == sha256(second)


def on_disk(portal: Portal, task: str) -> int:
    """How many bytes of an update have arrived, without asking: who asks by another connection interrupts the first."""
    part = portal.data_dir / "var" / "uploads" / task
    return part.stat().st_size if part.exists() else 0


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5001, 0.999])
def test_a_cut_upload_continues_where_it_was_cut(portal: Portal, device: Device, share: float) -> None:
    task, body = device.offered(LARGE), update(LARGE)
    cut = int(len(body) * share)
    with device.wire() as wire:
        wire.head("PUT", upload_of(task), {"Content-Length": len(body)})
        wire.send(body[:cut])
        at_rest(lambda: on_disk(portal, task))
    stored = at_rest(lambda: device.stored(task))
    assert cut - IN_FLIGHT < stored <= cut
    assert stored > 0
    reply = device.put(task, body[stored:], Upload_Offset=stored, Upload_Digest=sha256(body))
    assert reply.json() == {"stored": len(body), "complete": True}
    assert portal.do("task", task_id=task)["upload_sha256"] == sha256(body)


def test_whoever_asks_for_the_offset_takes_over_from_a_connection_that_hangs(portal: Portal, device: Device) -> None:
    """Otherwise the answer would be wrong as soon as the rest of what the portal has read is written."""
    task, body = device.offered(LARGE), update(LARGE)
    with device.wire() as hanging:
        hanging.head("PUT", upload_of(task), {"Content-Length": len(body)})
        hanging.send(body[: len(body) // 2])
        part = portal.data_dir / "var" / "uploads" / task
        eventually(lambda: part.exists() and part.stat().st_size)
        stored = device.stored(task)
        assert hanging.reply().code == "conflict"
        assert device.stored(task) == stored > 0
        assert device.put(task, body[stored:], Upload_Offset=stored, Upload_Digest=sha256(body)).json()["complete"]
    assert portal.do("task", task_id=task)["upload_sha256"] == sha256(body)


def test_an_upload_may_come_in_pieces_that_say_so(portal: Portal, device: Device) -> None:
    task, body = device.offered(LARGE), update(LARGE)
    for start in range(0, len(body), 1_000_003):
        piece = body[start : start + 1_000_003]
        reply = device.put(task, piece, Upload_Offset=start, Upload_Complete="?0")
        assert reply.json() == {"stored": start + len(piece), "complete": start + len(piece) == len(body)}
    assert portal.do("task", task_id=task)["upload_sha256"] == sha256(body)


def test_an_upload_at_another_offset_learns_where_to_continue(device: Device) -> None:
    task, body = device.offered(LARGE), update(LARGE)
    device.put(task, body[:1000], Upload_Complete="?0")
    reply = device.put(task, body[2000:], Upload_Offset=2000)
    assert (reply.status, reply.code) == (409, "offset_mismatch")
    assert reply.json()["context"]["stored"] == 1000
    assert reply.headers["upload-offset"] == "1000"
    assert device.stored(task) == 1000
    assert device.put(task, body[1000:], Upload_Offset=1000).json()["complete"]


def test_an_upload_at_the_beginning_starts_over(device: Device) -> None:
    task, body = device.offered(LARGE), update(LARGE)
    device.put(task, update(LARGE, 7)[:500_000], Upload_Complete="?0")
    assert device.put(task, body, Upload_Digest=sha256(body)).json()["complete"]


def test_nothing_is_stored_before_the_first_byte(device: Device) -> None:
    assert device.stored(device.offered(SMALL)) == 0


# --- lengths ---------------------------------------------------------------------------------------------------------


def refused(portal: Portal, device: Device, task: str, reply: object, status: int, code: str) -> None:
    assert (reply.status, reply.code) == (status, code), reply  # type: ignore[attr-defined]
    body = reply.json()  # type: ignore[attr-defined]
    assert body["message"]
    assert body["next_step"]
    assert task not in portal.do("files")["uploads"]
    assert portal.do("task", task_id=task)["upload_sha256"] == ""


def test_a_body_without_a_length_is_refused(portal: Portal, device: Device) -> None:
    task = device.offered(SMALL)
    with device.wire() as wire:
        wire.head("PUT", upload_of(task))
        refused(portal, device, task, wire.reply(), 411, "length_missing")


def test_a_chunked_body_is_refused(portal: Portal, device: Device) -> None:
    task = device.offered(SMALL)
    with device.wire() as wire:
        wire.head("PUT", upload_of(task), {"Transfer-Encoding": "chunked"})
        wire.send(b"5\r\nhello\r\n0\r\n\r\n")
        refused(portal, device, task, wire.reply(), 411, "length_missing")


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("change", [-4, -1, 1, 4, 70_000])
def test_a_body_of_another_length_than_the_manifests_is_refused(
    portal: Portal, device: Device, shape: Manifest, change: int
) -> None:
    task, body = device.offered(shape), update(shape) + b"\0" * 70_000
    body = body[: shape.update_bytes + change] if shape.update_bytes + change > 0 else b""
    refused(portal, device, task, device.put(task, body), 400, "length_wrong")


def test_an_absurd_length_is_refused_before_a_byte_is_read(portal: Portal, device: Device) -> None:
    task = device.offered(SMALL)
    with device.wire() as wire:
        wire.head("PUT", upload_of(task), {"Content-Length": 10**14})
        refused(portal, device, task, wire.reply(), 400, "length_wrong")


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "99999999999999999999999", "1, 2"])
def test_a_length_that_is_no_number_never_reaches_a_file(portal: Portal, device: Device, length: str) -> None:
    task = device.offered(SMALL)
    with device.wire() as wire:
        wire.head("PUT", upload_of(task), {"Content-Length": length})
        assert wire.reply().code in ("bad_request", "field_invalid")
    assert task not in portal.do("files")["uploads"]


def test_two_lengths_or_a_length_and_chunks_are_refused(portal: Portal, device: Device) -> None:
    task, body = device.offered(SMALL), update(SMALL)
    for second in ("Content-Length: 3", "Transfer-Encoding: chunked"):
        with device.wire() as wire:
            wire.send(
                f"PUT {upload_of(task)} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {device.key}\r\n"
                f"Content-Length: {len(body)}\r\n{second}\r\n\r\n".encode()
            )
            assert wire.reply().status in (400, 411)
    assert task not in portal.do("files")["uploads"]


def test_a_body_longer_than_it_said_does_not_change_what_is_stored(portal: Portal, device: Device) -> None:
    task, body = device.offered(SMALL), update(SMALL)
    with device.wire() as wire:
        wire.head("PUT", upload_of(task), {"Content-Length": len(body)})
        wire.send(body + b"and more, which is no request")
        replies = [wire.reply()]
        if replies[0].status == 200:
            replies.append(wire.reply())
    assert replies[-1].code == "bad_request"
    assert portal.do("task", task_id=task)["upload_sha256"] in ("", sha256(body))
    assert device.put(task, body).json()["complete"]


def test_a_body_shorter_than_it_said_counts_as_cut(portal: Portal, device: Device) -> None:
    task, body = device.offered(LARGE), update(LARGE)
    with device.wire() as wire:
        wire.head("PUT", upload_of(task), {"Content-Length": len(body)})
        wire.send(body[:-1])
        wire.socket.shutdown(1)
        at_rest(lambda: on_disk(portal, task))
    stored = at_rest(lambda: device.stored(task))
    assert portal.do("task", task_id=task)["upload_sha256"] == ""
    assert device.put(task, body[stored:], Upload_Offset=stored).json()["complete"]


@pytest.mark.parametrize(
    "headers", [{"Upload_Offset": "-1"}, {"Upload_Offset": "x"}, {"Upload_Digest": "abc"}, {"Upload_Digest": "Z" * 64}]
)
def test_headers_that_cannot_be_meant_are_refused(portal: Portal, device: Device, headers: dict[str, str]) -> None:
    task = device.offered(SMALL)
    refused(portal, device, task, device.put(task, update(SMALL), **headers), 400, "field_invalid")


# --- contents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf], ids=["nan", "inf", "-inf"])
@pytest.mark.parametrize("place", [0, 1, 12_345, 999_999])
def test_a_number_that_is_none_is_refused_wherever_it_hides(
    portal: Portal, device: Device, number: float, place: int
) -> None:
    body = bytearray(update(LARGE))
    start = len(LARGE.update_header()) + 4 * place
    body[start : start + 4] = np.float32(number).tobytes()
    task = device.offered(LARGE)
    refused(portal, device, task, device.put(task, bytes(body)), 400, "not_finite")


def test_a_number_that_is_none_is_refused_in_a_resumed_upload_too(portal: Portal, device: Device) -> None:
    body = bytearray(update(LARGE))
    body[-4:] = np.float32(np.nan).tobytes()
    task = device.offered(LARGE)
    device.put(task, bytes(body[:1_234_567]), Upload_Complete="?0")
    reply = device.put(task, bytes(body[1_234_567:]), Upload_Offset=1_234_567)
    refused(portal, device, task, reply, 400, "not_finite")


def test_large_finite_numbers_are_numbers(portal: Portal, device: Device) -> None:
    header = SMALL.update_header()
    body = header + np.full(31, 3e38, "<f4").tobytes()
    task = device.offered(SMALL)
    assert device.put(task, body).json()["complete"]
    assert portal.do("task", task_id=task)["upload_norm"] == pytest.approx(3e38 * 31**0.5, rel=1e-5)


def with_header(text: bytes, total: int) -> bytes:
    """A file that begins with this header and has this length."""
    head = len(text).to_bytes(8, "little") + text
    return head + b"\0" * (total - len(head))


def rewritten(shape: Manifest, change: object) -> bytes:
    """The shape's update header, JSON changed by `change`, padded to the same length."""
    header = shape.update_header()
    rows = json.loads(header[8:])
    changed = change(rows)  # type: ignore[operator]
    text = json.dumps(changed if changed is not None else rows, separators=(",", ":")).encode()
    return with_header(text + b" " * (len(header) - 8 - len(text)), shape.update_bytes)


PAIR = Manifest.of([TensorSpec("aa", "F32", (4, 4)), TensorSpec("bb", "F32", (4, 4))])


def renamed(rows: dict) -> None:
    rows["cc"] = rows.pop("bb")


def reshaped(rows: dict) -> None:
    rows["aa"]["shape"] = [2, 8]


def retyped(rows: dict) -> None:
    rows["aa"]["dtype"] = "I32"


def swapped(rows: dict) -> None:
    rows["aa"]["data_offsets"], rows["bb"]["data_offsets"] = rows["bb"]["data_offsets"], rows["aa"]["data_offsets"]


def respelled(rows: dict) -> dict:
    return {"__metadata__": {"x": "y"}, **{name: rows[name] for name in ("aa", "bb")}}


def overlapping(rows: dict) -> None:
    rows["bb"]["data_offsets"] = rows["aa"]["data_offsets"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (renamed, "tensor_names"),
        (reshaped, "tensor_shape"),
        (retyped, "tensor_dtype"),
        (swapped, "tensor_order"),
        (respelled, "not_safetensors"),
        (overlapping, "not_safetensors"),
    ],
)
def test_other_tensors_of_the_same_length_are_refused_by_name(
    portal: Portal, device: Device, change: object, code: str
) -> None:
    task = device.offered(PAIR)
    refused(portal, device, task, device.put(task, rewritten(PAIR, change)), 400, code)


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"weights": [1.0] * 100}),
        b"age,sex,diagnosis\n44,1,0\n51,0,1\n" * 20,
        b"PK\x03\x04" + b"\0" * 64,
        b"\xff" * 200,
        b"\0" * 200,
        b"",
        (2**40).to_bytes(8, "little") + b"{}",
        (60).to_bytes(8, "little") + b'{"a":' * 12,
    ],
    ids=["pickle", "csv", "zip", "ones", "zeros", "empty", "huge-header", "deep"],
)
def test_what_is_no_safetensors_file_is_refused(
    portal: Portal, device: Device, shape: Manifest, content: bytes
) -> None:
    task = device.offered(shape)
    body = (content * (shape.update_bytes // max(1, len(content)) + 1))[: shape.update_bytes]
    if not body:
        body = b"\0" * shape.update_bytes
    refused(portal, device, task, device.put(task, body), 400, "not_safetensors")


def test_a_foreign_header_is_refused_before_the_body_is_sent(portal: Portal, device: Device) -> None:
    task = device.offered(LARGE)
    with device.wire() as wire:
        wire.head("PUT", upload_of(task), {"Content-Length": LARGE.update_bytes})
        wire.send(pickle.dumps(list(range(3000)))[:4000])
        began = time.monotonic()
        reply = wire.reply()
        assert time.monotonic() - began < 10  # and not when the patience with a silent sender is over
    refused(portal, device, task, reply, 400, "not_safetensors")


def test_another_content_than_announced_is_refused(portal: Portal, device: Device) -> None:
    for shape in (SMALL, LARGE):
        task = device.offered(shape)
        reply = device.put(task, update(shape, 91), Upload_Digest=sha256(update(shape, 92)))
        refused(portal, device, task, reply, 400, "digest_mismatch")
        assert sha256(update(shape, 91)) not in portal.do("files")["blobs"]


def test_a_continued_upload_of_other_content_is_refused_and_may_start_over(portal: Portal, device: Device) -> None:
    task, body = device.offered(LARGE), update(LARGE, 3)
    device.put(task, update(LARGE, 4)[:2_000_000], Upload_Complete="?0")
    reply = device.put(task, body[2_000_000:], Upload_Offset=2_000_000, Upload_Digest=sha256(body))
    refused(portal, device, task, reply, 400, "digest_mismatch")
    assert device.put(task, body, Upload_Digest=sha256(body)).json()["complete"]


# --- who may, and when -----------------------------------------------------------------------------------------------


def test_a_foreign_and_a_missing_task_look_the_same(portal: Portal, device: Device, other_device: Device) -> None:
    foreign = device.offered(SMALL)
    replies = [other_device.put(task, update(SMALL)) for task in (foreign, "tsk_" + "x" * 20)]
    assert [(reply.status, reply.code) for reply in replies] == [(404, "not_found")] * 2
    assert replies[0].body == replies[1].body
    heads = [other_device.request("HEAD", upload_of(task)).status for task in (foreign, "tsk_" + "x" * 20)]
    assert heads == [404, 404]


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(("how", "state"), [("cancel", "cancelled"), ("expire", "expired")])
def test_a_closed_task_takes_no_upload(portal: Portal, device: Device, shape: Manifest, how: str, state: str) -> None:
    task = device.offered(shape)
    portal.do("close", task_ids=[task], how=how)
    reply = device.put(task, update(shape))
    refused(portal, device, task, reply, 409, "task_closed")
    assert reply.json()["context"]["state"] == state


def test_a_task_that_closes_during_the_upload_records_nothing(portal: Portal, device: Device) -> None:
    task, body = device.offered(LARGE), update(LARGE)
    with device.wire() as wire:
        wire.head("PUT", upload_of(task), {"Content-Length": len(body)})
        wire.send(body[:2_000_000])
        time.sleep(0.1)
        portal.do("close", task_ids=[task])
        wire.send(body[2_000_000:])
        refused(portal, device, task, wire.reply(), 409, "task_closed")


def test_a_task_without_an_upload_takes_none(device: Device) -> None:
    task = device.offered()
    assert device.put(task, b"x" * 100).code == "not_found"


@pytest.mark.parametrize("key", ["", "edg_nonsense"])
def test_without_a_key_nothing_is_taken(portal: Portal, device: Device, key: str) -> None:
    task = device.offered(SMALL)
    for body in (update(SMALL), update(LARGE)):
        assert exchange(portal, key, "PUT", upload_of(task), body=body).status == 401
    assert task not in portal.do("files")["uploads"]


def test_who_waits_for_leave_to_send_gets_it_or_a_refusal(portal: Portal, device: Device) -> None:
    task, body = device.offered(LARGE), update(LARGE)
    with device.wire() as wire:
        wire.head("PUT", upload_of(task), {"Content-Length": len(body), "Expect": "100-continue"})
        assert wire.reply().status == 100
        wire.send(body)
        assert wire.reply().json()["complete"]
    with device.wire() as wire:
        wire.head("PUT", upload_of("tsk_missing"), {"Content-Length": len(body), "Expect": "100-continue"})
        assert wire.reply().status == 404


def test_another_method_is_refused_as_json(device: Device) -> None:
    reply = device.request("POST", upload_of(device.offered(SMALL)), body=b"{}")
    assert (reply.status, reply.code, reply.headers["allow"]) == (405, "method_not_allowed", "PUT, HEAD")


# --- several at once -------------------------------------------------------------------------------------------------


def test_a_newer_connection_takes_over_from_one_that_hangs(portal: Portal, device: Device) -> None:
    task, body = device.offered(LARGE), update(LARGE)
    with device.wire() as hanging:
        hanging.head("PUT", upload_of(task), {"Content-Length": len(body)})
        hanging.send(body[:1_500_000])
        eventually(lambda: on_disk(portal, task))
        assert device.put(task, body, Upload_Digest=sha256(body)).json()["complete"]
        assert hanging.reply().code == "conflict"
    assert portal.do("task", task_id=task)["upload_sha256"] == sha256(body)


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
def test_uploads_of_one_task_at_once_do_not_mix(portal: Portal, device: Device, shape: Manifest) -> None:
    task = device.offered(shape)
    bodies = [update(shape, seed) for seed in range(6)]
    statuses: list[int] = []

    def put(body: bytes) -> None:
        try:
            statuses.append(device.put(task, body, Upload_Digest=sha256(body)).status)
        except ConnectionError:
            statuses.append(0)

    threads = [threading.Thread(target=put, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 200 in statuses
    stored = portal.do("task", task_id=task)["upload_sha256"]
    assert stored in {sha256(body) for body in bodies}
    assert stored in portal.do("files")["blobs"]


def test_many_devices_upload_at_once(portal: Portal) -> None:
    devices = [Device(portal, made) for made in portal.do("enrol", count=12, organization="acme", first=500)]
    tasks = portal.do("offer", device_pks=[device.pk for device in devices], manifest=LARGE.to_json())["ids"]
    bodies = [update(LARGE, seed) for seed in range(12)]
    done: dict[int, bool] = {}

    def put(number: int) -> None:
        reply = devices[number].put(tasks[number], bodies[number], Upload_Digest=sha256(bodies[number]))
        done[number] = reply.json()["complete"]

    threads = [threading.Thread(target=put, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == dict.fromkeys(range(12), True)


def test_a_connection_serves_upload_after_upload(device: Device) -> None:
    with device.wire() as wire:
        for seed in range(3):
            task = device.offered(LARGE)
            reply = wire.request("PUT", upload_of(task), {}, update(LARGE, seed))
            assert reply.json()["complete"]


def test_a_refused_sender_gets_to_read_the_refusal(portal: Portal, device: Device) -> None:
    body = b"\xff" * (48 << 20)
    with Wire(portal, device.key) as wire:
        wire.head("PUT", upload_of("tsk_missing"), {"Content-Length": len(body)})
        wire.send(body)
        assert wire.reply().code == "not_found"


def test_connections_that_take_over_from_one_another_all_get_an_answer(portal: Portal, device: Device) -> None:
    task, body = device.offered(LARGE), update(LARGE)
    statuses: list[int] = []

    def put() -> None:
        for _ in range(6):
            with device.wire(timeout=10) as wire:
                wire.head("PUT", upload_of(task), {"Content-Length": len(body)})
                wire.send(body)
                statuses.append(wire.reply().status)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(statuses) == 48
    assert set(statuses) <= {200, 409, 503}
    assert portal.do("task", task_id=task)["upload_sha256"] == sha256(body)


@pytest.mark.parametrize("shape", [SMALL, LARGE], ids=["small", "large"])
def test_refused_content_is_told_to_the_floor_above_once_and_a_slow_line_is_not(
    portal: Portal, device: Device, shape: Manifest
) -> None:
    task, body = device.offered(shape), update(shape)
    poisoned = body[:-4] + np.array([np.nan], "<f4").tobytes()
    for _ in range(3):
        assert device.put(task, poisoned).code == "not_finite"
    assert device.put(task, body, Upload_Digest="0" * 64).code == "digest_mismatch"
    assert device.put(task, body).json()["complete"]
    eventually(lambda: ["refused", task, "not_finite"] in portal.do("heard"))
    assert [row for row in portal.do("heard") if row[:2] == ["refused", task]] == [["refused", task, "not_finite"]]


def test_an_upload_for_a_task_whose_time_is_over_is_late(portal: Portal, device: Device) -> None:
    task, body = device.offered(SMALL), update(SMALL)
    portal.do("close", task_ids=[task], how="expire")
    assert device.put(task, body).code == "task_closed"
    assert ["late", task] in portal.do("heard")
