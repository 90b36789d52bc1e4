"""Encoded updates over the wire: taken in, continued, measured, and refused when they are forged."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from fedwire import codecs
from fedwire.codecs import Codec
from fedwire.tensors import Manifest, TensorSpec
from tests.protocol.test_uploads import refused
from tests.protocol.wire import Device
from tests.running import Portal
from tests.wire.encoded import Forged, forged, generator, normal

NUMBERS = 300_000
SHAPE = Manifest.of([TensorSpec("w", "F32", (NUMBERS,))])
PLANS: dict[str, dict[str, Any]] = {
    "float16": {"name": "float16"},
    "int8": {"name": "int8"},
    "topk": {"name": "topk", "kept": 3000},
    "sketch": {"name": "sketch", "rows": 3, "columns": 30_000, "kept": 100, "seed": 7},
    "a small sketch": {"name": "sketch", "rows": 3, "columns": 1000, "kept": 100, "seed": 7},
}


def encoded(name: str) -> tuple[Codec, bytes]:
    codec = codecs.of(PLANS[name], SHAPE)
    return codec, codec.encode(normal(NUMBERS), generator(1)).tobytes()


@pytest.mark.parametrize("name", PLANS)
def test_an_encoded_upload_is_stored_as_it_came_and_measured_as_it_decodes(
    portal: Portal, device: Device, name: str
) -> None:
    codec, body = encoded(name)
    task, digest = device.offered(SHAPE, codec=PLANS[name]), hashlib.sha256(body).hexdigest()
    for _ in range(2):
        assert device.put(task, body, Upload_Digest=digest).json() == {"stored": len(body), "complete": True}
    row = portal.do("task", task_id=task)
    decoded = codec.decode(np.frombuffer(body, np.uint8)).astype(np.float64)
    assert row["upload_sha256"] == digest
    assert row["upload_norm"] == pytest.approx(float(np.linalg.norm(decoded)), rel=1e-6)


@pytest.mark.parametrize("name", ["int8", "topk", "sketch"])
def test_an_encoded_upload_that_was_cut_continues(portal: Portal, device: Device, name: str) -> None:
    codec, body = encoded(name)
    task, middle = device.offered(SHAPE, codec=PLANS[name]), len(body) // 2 + 1
    assert not device.put(task, body[:middle], Upload_Complete="?0").json()["complete"]
    assert device.stored(task) == middle
    assert device.put(task, body[middle:], Upload_Offset=middle).json()["complete"]
    decoded = codec.decode(np.frombuffer(body, np.uint8)).astype(np.float64)
    norm = portal.do("task", task_id=task)["upload_norm"]
    assert norm == pytest.approx(float(np.linalg.norm(decoded)), rel=1e-6)


@pytest.mark.parametrize("wrong", [row for row in forged() if row.content], ids=lambda wrong: wrong.name)
def test_a_forged_upload_is_refused_and_nothing_of_it_stays(portal: Portal, device: Device, wrong: Forged) -> None:
    shape = Manifest.of([TensorSpec("w", "F32", (wrong.codec.numbers,))])
    names = ("kept", "rows", "columns", "seed")
    plan = {"name": wrong.codec.name, **{n: getattr(wrong.codec, n) for n in names if hasattr(wrong.codec, n)}}
    task = device.offered(shape, codec=plan)
    code = wrong.code if len(wrong.content) == wrong.codec.nbytes else "length_wrong"
    refused(portal, device, task, device.put(task, wrong.content), 400, code)


def test_a_plain_update_for_an_encoded_task_is_refused_for_its_length(portal: Portal, device: Device) -> None:
    task = device.offered(SHAPE, codec=PLANS["int8"])
    reply = device.put(task, codecs.of(None, SHAPE).encode(normal(NUMBERS), generator(1)).tobytes())
    refused(portal, device, task, reply, 400, "length_wrong")
