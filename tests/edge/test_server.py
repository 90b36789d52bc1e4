"""The doors of an edge by hand: the portal's device protocol, and what a hostile sender gets out of it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import FederatedClient, FedportalError
from fedportal_sdk.edge import Edge, uploads
from fedportal_sdk.edge import connection as limits
from fedwire import routes
from fedwire.tensors import Manifest, TensorSpec, encode_model
from tests.edge.test_edge import task
from tests.edge.test_enrolment import signed
from tests.protocol.wire import Reply, Wire, update

SHAPE = Manifest.of([TensorSpec("layer.bias", "F32", (1,)), TensorSpec("layer.weight", "F32", (49_999,))])
MODEL = encode_model(SHAPE, {spec.name: np.ones(spec.shape, "<f4") for spec in SHAPE.tensors})
DIGEST = hashlib.sha256(MODEL).hexdigest()
UPDATE = update(SHAPE)
SHA = hashlib.sha256(UPDATE).hexdigest()


class Doors:
    """A running edge with an open round and one device; a `port` is all that a Wire needs."""

    def __init__(self, folder: Path, edge: Edge, url: str) -> None:
        self.edge = edge
        self.port = int(url.rpartition(":")[2])
        enrolling = edge.enrolment.make_key()
        with Wire(self, enrolling) as wire:  # type: ignore[arg-type]
            given = wire.post(routes.DEVICE_REGISTER, signed(folder / "device", enrolling))
        assert given.status == 201
        self.device = given.json()["id"]
        self.key = given.json()["device_key"]
        answer = {"update_bytes": 0, "max_samples": 1000, "metrics": False}
        self.edge.rounds.open(
            task(base_digest=DIGEST, manifest=SHAPE.to_json(), answer=answer, architecture=None),  # type: ignore[arg-type]
            MODEL,
            time.time() + 60,
        )
        self.task = self.get(f"{routes.TASK_NEXT}?wait=0").json()["id"]

    def wire(self) -> Wire:
        return Wire(self, self.key)  # type: ignore[arg-type]

    def get(self, path: str, headers: dict[str, Any] | None = None, method: str = "GET") -> Reply:
        with self.wire() as wire:
            return wire.request(method, path, headers)

    def post(self, path: str, value: Any) -> Reply:
        with self.wire() as wire:
            return wire.post(path, value)

    def put(self, body: bytes, offset: int = 0, digest: str = "", **headers: str) -> Reply:
        said = {"Upload-Offset": offset, **({"Upload-Digest": digest} if digest else {}), **headers}
        with self.wire() as wire:
            return wire.request("PUT", self.path("update"), said, body)

    def path(self, word: str) -> str:
        return f"{routes.TASK.format(task=self.task)}/{word}"


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    client = FederatedClient(None, "edge-metro", "http://127.0.0.1:9", tmp_path / "edge", patience=0.0)
    edge = Edge(client, port=0)
    with edge.serving() as url:
        yield Doors(tmp_path, edge, url)
    edge.close()


def test_a_whole_round_by_hand(doors: Doors) -> None:
    got = doors.get(doors.path("model"))
    assert (got.status, got.body, got.headers["etag"]) == (200, MODEL, f'"{DIGEST}"')
    sent = doors.put(UPDATE, digest=SHA)
    assert sent.json() == {"stored": len(UPDATE), "complete": True}
    answered = doors.post(doors.path("answer"), {"sha256": SHA, "samples": 10})
    assert (answered.status, answered.json()["state"]) == (201, "answered")
    again = doors.post(doors.path("answer"), {"samples": 10, "sha256": SHA})
    assert (again.status, again.json()) == (200, answered.json())
    assert doors.get(f"{routes.TASK_NEXT}?wait=0").status == 204


def test_a_model_is_continued_at_a_byte(doors: Doors) -> None:
    got = doors.get(doors.path("model"), {"Range": "bytes=1000-"})
    assert (got.status, got.body) == (206, MODEL[1000:])
    assert got.headers["content-range"] == f"bytes 1000-{len(MODEL) - 1}/{len(MODEL)}"
    assert doors.get(doors.path("model"), {"Range": f"bytes={len(MODEL)}-"}).status == 416
    assert doors.get(doors.path("model"), {"Range": "lines=1-"}).body == MODEL
    head = doors.get(doors.path("model"), method="HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(len(MODEL)), b"")


def test_an_upload_that_is_cut_continues_where_it_broke(doors: Doors) -> None:
    wire = doors.wire()
    wire.head("PUT", doors.path("update"), {"Content-Length": len(UPDATE), "Upload-Digest": SHA})
    wire.send(UPDATE[:100_000])
    time.sleep(0.2)
    wire.close()
    stored = int(doors.get(doors.path("update"), method="HEAD").headers["upload-offset"])
    assert 0 < stored <= 100_000
    assert doors.put(UPDATE[stored + 1 :], stored + 1).code == "offset_mismatch"
    assert doors.put(UPDATE[stored:], stored, SHA).json()["complete"] is True


def test_an_upload_in_pieces_and_a_lost_confirmation(doors: Doors) -> None:
    half = len(UPDATE) // 2
    first = doors.put(UPDATE[:half], digest=SHA, **{"Upload-Complete": "?0"})
    assert first.json() == {"stored": half, "complete": False}
    assert doors.put(UPDATE[half:], half, SHA).json()["complete"] is True
    assert doors.get(doors.path("update"), method="HEAD").headers["upload-offset"] == str(len(UPDATE))
    assert doors.put(b"", len(UPDATE), SHA).json()["complete"] is True
    assert doors.put(UPDATE, 0, SHA).json()["complete"] is True


def test_a_newer_connection_takes_over_from_one_that_may_be_dead(doors: Doors) -> None:
    old = doors.wire()
    old.head("PUT", doors.path("update"), {"Content-Length": len(UPDATE), "Upload-Digest": SHA})
    old.send(UPDATE[:70_000])
    time.sleep(0.2)
    assert doors.put(UPDATE, 0, SHA).json()["complete"] is True
    old.close()


def test_while_a_connection_cannot_let_go_of_an_upload_nobody_else_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "BUSY_SECONDS", 0.01)
    desk, path = uploads.Desk(), tmp_path / "part"
    with desk.writing(path, lambda: None):  # cut, and still at its last write
        for _ in range(2):
            with pytest.raises(FedportalError) as refused, desk.writing(path, lambda: None):
                pass
            assert refused.value.code == "unavailable"
    with desk.writing(path, lambda: None):
        pass


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\x80\x04\x95" + b"a" * (len(UPDATE) - 3), "not_safetensors"),
        (b"a,b,diagnosis\n" + b"1" * (len(UPDATE) - 14), "not_safetensors"),
        (UPDATE[:-4] + np.float32(np.nan).tobytes(), "not_finite"),
        (UPDATE[:-4] + np.float32(np.inf).tobytes(), "not_finite"),
        (UPDATE.replace(b'"layer.bias"', b'"layer.bIas"'), "tensor_names"),
        (UPDATE + b"x", "length_wrong"),
        (UPDATE[:-4], "length_wrong"),
        (UPDATE[:-4] + bytes(4), "digest_mismatch"),
    ],
    ids=["pickle", "csv", "nan", "infinity", "names", "long", "short", "other"],
)
def test_what_is_no_update_is_refused_and_not_kept(doors: Doors, body: bytes, code: str) -> None:
    refused = doors.put(body, digest=SHA)
    assert (refused.status, refused.code) == (400, code)
    assert doors.get(doors.path("update"), method="HEAD").headers["upload-offset"] == "0"
    assert doors.put(UPDATE, digest=SHA).status == 200


def test_whoever_is_not_enrolled_gets_nothing(doors: Doors) -> None:
    doors.key = ""
    paths = (doors.path("model"), f"{routes.TASK_NEXT}?wait=0", routes.DEVICE_RUN.format(run="run_1"))
    assert [doors.get(path).code for path in paths] == ["not_authenticated"] * 3
    doors.key = "edg_aaaaaaaa_" + "b" * 43 + "_cccccc"
    assert doors.post(doors.path("answer"), {"samples": 1}).code == "key_invalid"
    assert doors.put(UPDATE).code == "key_invalid"
    assert doors.post(routes.DEVICE_REGISTER, {}).code == "key_invalid"


def test_a_revoked_device_is_sent_away_while_it_waits(doors: Doors) -> None:
    doors.post(doors.path("decline"), {"reason": "no rows"})
    replies: list[Reply] = []
    waiting = threading.Thread(target=lambda: replies.append(doors.get(f"{routes.TASK_NEXT}?wait=25")))
    waiting.start()
    time.sleep(0.2)
    doors.edge.enrolment.revoke("hospital-001")
    waiting.join(20)
    assert [reply.code for reply in replies] == ["device_inactive"]


def test_a_device_that_went_away_is_not_there_any_more(doors: Doors) -> None:
    doors.post(doors.path("decline"), {})
    wire = doors.wire()
    wire.head("GET", f"{routes.TASK_NEXT}?wait=25")
    time.sleep(0.2)
    assert doors.edge.rounds._waiting
    wire.close()
    give_up = time.monotonic() + 10
    while doors.edge.rounds._waiting:
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_heartbeat_rotation_and_a_run_that_the_portal_cannot_tell_of(doors: Doors) -> None:
    beat = doors.post(routes.DEVICE_HEARTBEAT.format(device=doors.device), {"sdk_version": "9.9"})
    assert (beat.status, beat.json()["id"]) == (200, doors.device)
    assert doors.edge.enrolment.listed()[0]["sdk_version"] == "9.9"
    assert doors.post(routes.DEVICE_HEARTBEAT.format(device="dev_other"), {}).code == "not_found"
    assert doors.get(routes.DEVICE_RUN.format(run="run_2")).code == "not_found"
    assert doors.get(routes.DEVICE_RUN.format(run="run_1")).code == "unavailable"
    doors.key = doors.post(routes.DEVICE_ROTATE, {}).json()["device_key"]
    assert doors.get(doors.path("model")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", "not_found"),
        ("GET", "/api/v1/federations", "not_found"),
        ("GET", "http://[", "not_found"),
        ("GET", f"{routes.TASKS}/../../etc/passwd/model", "not_found"),
        ("GET", f"{routes.TASK_NEXT}?wait=soon", "field_invalid"),
        ("POST", routes.TASK_NEXT, "method_not_allowed"),
        ("PUT", routes.DEVICE_REGISTER, "method_not_allowed"),
        ("GET", routes.TASK_MODEL.format(task="tsk_other"), "not_found"),
    ],
)
def test_other_addresses_answer_with_an_error_of_the_catalogue(doors: Doors, method: str, path: str, code: str) -> None:
    with doors.wire() as wire:
        assert wire.request(method, path, body=b"{}" if method != "GET" else None).code == code


def test_a_body_that_nobody_reads_is_not_the_next_request(doors: Doors) -> None:
    """Behind a proxy devices share connections: the answer to what one hides in a body would be another's."""
    with doors.wire() as wire:
        reply = wire.request("GET", f"{routes.TASK_NEXT}?wait=0", body=b"GET / HTTP/1.1\r\n\r\n")
        assert (reply.status, reply.headers.get("connection")) == (200, "close")
    with doors.wire() as wire:
        wire.head("POST", doors.path("answer"), {"Content-Length": 2, "content-length": 3})
        assert wire.reply().code == "field_invalid"


def test_bodies_have_a_length_and_a_limit(doors: Doors) -> None:
    with doors.wire() as wire:
        wire.head("POST", doors.path("answer"))
        assert wire.reply().code == "length_missing"
    with doors.wire() as wire:
        wire.head("PUT", doors.path("update"), {"Transfer-Encoding": "chunked"})
        assert wire.reply().code == "length_missing"
    with doors.wire() as wire:
        wire.head("POST", doors.path("answer"), {"Content-Length": limits.JSON_BYTES + 1})
        assert wire.reply().code == "body_too_large"
    with doors.wire() as wire:
        assert wire.request("POST", doors.path("answer"), body=b"\x80\x04").code == "bad_request"
        assert wire.request("POST", doors.path("answer"), body=b'{"samples": NaN}').code == "bad_request"


def test_slow_senders_are_cut_off(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDLE_SECONDS", 0.2)
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    monkeypatch.setattr(limits, "GRACE_SECONDS", 0.2)
    with doors.wire() as wire:
        wire.socket.sendall(b"GET / HTTP/1.1\r\nHost:")
        assert wire.socket.recv(100) == b""
    with doors.wire() as wire:
        wire.head("POST", doors.path("answer"), {"Content-Length": 10})
        assert wire.reply().code == "body_late"
    with doors.wire() as wire:
        wire.head("PUT", doors.path("update"), {"Content-Length": len(UPDATE)})
        wire.send(UPDATE[:1000])
        assert wire.reply().code == "body_short"


def test_there_are_so_many_connections_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_CONNECTIONS", 2)
    client = FederatedClient(None, "edge-metro", "http://127.0.0.1:9", tmp_path / "edge", patience=0.0)
    edge = Edge(client, port=0)
    with edge.serving() as url:

        class Port:
            port = int(url.rpartition(":")[2])

        first, second, third = (Wire(Port()) for _ in range(3))  # type: ignore[arg-type]
        assert first.request("GET", "/").status == second.request("GET", "/").status == 404
        with pytest.raises(ConnectionError):
            third.request("GET", "/")
        first.close()
        give_up = time.monotonic() + 10
        while True:
            try:
                with Wire(Port()) as fourth:  # type: ignore[arg-type]
                    assert fourth.request("GET", "/").status == 404
                break
            except ConnectionError:
                assert time.monotonic() < give_up
        second.close()
    edge.close()


def test_nobody_listens_where_nobody_can(tmp_path: Path, doors: Doors) -> None:
    client = FederatedClient(None, "edge-other", "http://127.0.0.1:9", tmp_path / "other")
    other = Edge(client, port=doors.port)
    with pytest.raises(FedportalError, match="cannot be listened at"), other.serving():
        pass
    other.close()
    with pytest.raises(FedportalError, match="is not a PEM file"):
        Edge(client, certificate=tmp_path / "none.pem")
