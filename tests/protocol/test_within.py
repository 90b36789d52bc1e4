"""Short files travel within the JSON beside them: the model in its task, the update in its answer."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from fedwire import routes
from fedwire.messages import INLINE_BYTES
from tests.protocol.wire import Device, manifest, sha256, update
from tests.running import Portal

SHAPE = manifest()
LONG = manifest(INLINE_BYTES // 4)


def within(body: bytes, **more: Any) -> dict[str, Any]:
    """An answer that brings its update."""
    return {"sha256": sha256(body), "samples": 12, "content": base64.b64encode(body).decode(), **more}


def test_a_short_model_comes_with_its_task_and_can_be_downloaded_all_the_same(portal: Portal, device: Device) -> None:
    digest = portal.do("put_blob", text="a short model")
    task = device.offered(SHAPE, base=digest)
    said = device.next().json()
    assert said["base_digest"] == digest
    assert base64.b64decode(said["base_content"]) == b"a short model"
    assert device.request("GET", routes.TASK_MODEL.format(task=task)).body == b"a short model"


@pytest.mark.parametrize("size", [INLINE_BYTES + 1, 0], ids=["long", "none"])
def test_a_long_model_or_none_does_not(portal: Portal, device: Device, size: int) -> None:
    device.offered(SHAPE, base=portal.do("put_blob", size=size) if size else "")
    assert "base_content" not in device.next().json()


def test_a_file_that_is_not_there_does_not_keep_its_task_back(device: Device) -> None:
    task = device.offered(SHAPE, base="0" * 64)
    assert device.next().json()["id"] == task


def test_only_short_updates_may_come_within(device: Device) -> None:
    device.offered(LONG)
    assert "inline_bytes" not in device.next().json()["answer"]


def test_an_update_within_its_answer_is_stored_and_noted_like_an_upload(portal: Portal, device: Device) -> None:
    task, body = device.offered(SHAPE), update(SHAPE)
    assert device.next().json()["answer"]["inline_bytes"] == INLINE_BYTES
    reply = device.answer(task, within(body))
    assert (reply.status, reply.json()["sha256"]) == (201, sha256(body))
    row = portal.do("task", task_id=task)
    numbers = np.frombuffer(body[len(SHAPE.update_header()) :], "<f4")
    assert (row["state"], row["upload_sha256"]) == ("answered", sha256(body))
    assert row["upload_norm"] == pytest.approx(float(np.linalg.norm(numbers)), rel=1e-6)
    assert sha256(body) in portal.do("files")["blobs"]
    heard = [said for said in portal.do("heard") if said[1] == task]
    assert heard == [["answer", task, {"sha256": sha256(body), "samples": 12}, sha256(body), row["upload_norm"]]]


def test_the_same_answer_again_gets_the_first_receipt_with_the_update_or_without(device: Device) -> None:
    task, body = device.offered(SHAPE), update(SHAPE)
    said = within(body)
    first = device.answer(task, said)
    bare = {name: value for name, value in said.items() if name != "content"}
    for again in (said, bare):
        reply = device.answer(task, again)
        assert (reply.status, reply.json()) == (200, first.json())
    assert device.answer(task, within(update(SHAPE, 1))).code == "answer_differs"


def test_an_upload_that_is_there_is_replaced_by_what_comes_with_the_answer(portal: Portal, device: Device) -> None:
    task, body = device.offered(SHAPE), update(SHAPE, 1)
    device.put(task, update(SHAPE, 2))
    assert device.answer(task, within(body)).status == 201
    assert portal.do("task", task_id=task)["upload_sha256"] == sha256(body)


NOT_FINITE = update(SHAPE)[:-4] + np.float32(np.nan).tobytes()


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (within(update(SHAPE), content="not base64!"), "field_invalid"),
        (within(update(SHAPE), content=7), "field_invalid"),
        (within(b"\0" * (INLINE_BYTES + 1)), "field_invalid"),
        (within(update(SHAPE)[:-4]), "length_wrong"),
        (within(b"\0" * SHAPE.update_bytes), "not_safetensors"),
        (within(NOT_FINITE), "not_finite"),
        (within(update(SHAPE), sha256="0" * 64), "digest_mismatch"),
    ],
    ids=["text", "number", "long", "short", "foreign", "not-finite", "digest"],
)
def test_what_is_wrong_is_refused_and_leaves_nothing(
    portal: Portal, device: Device, said: dict[str, Any], code: str
) -> None:
    task, before = device.offered(SHAPE), portal.do("files")
    assert device.answer(task, said).code == code
    assert portal.do("files") == before
    assert portal.do("task", task_id=task)["state"] in ("open", "taken")
    assert device.answer(task, within(update(SHAPE))).status == 201


def test_an_answer_that_is_refused_may_come_again_without_its_update(portal: Portal, device: Device) -> None:
    task, body = device.offered(SHAPE), update(SHAPE)
    assert device.answer(task, within(body, samples=-1)).code == "samples_invalid"
    assert device.answer(task, {"sha256": sha256(body), "samples": 3}).status == 201


def test_a_closed_and_a_foreign_task_take_nothing(portal: Portal, device: Device, other_device: Device) -> None:
    task, before = device.offered(SHAPE), portal.do("files")
    assert other_device.answer(task, within(update(SHAPE))).code == "not_found"
    portal.do("close", task_ids=[task], how="cancel")
    assert device.answer(task, within(update(SHAPE))).code == "task_closed"
    assert portal.do("files") == before


def test_a_task_without_an_upload_takes_none(device: Device) -> None:
    task = device.offered()
    assert device.answer(task, within(update(SHAPE))).code == "not_found"
