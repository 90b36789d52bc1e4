"""What a codec left out: kept on the device, counted once, and never twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fedportal_sdk import FedportalError
from fedportal_sdk._encoding import KEPT_RUNS, Encoder, fitted
from fedwire import codecs
from fedwire.codecs import Bytes, Sketch, TopK
from fedwire.messages import Answer
from fedwire.tensors import Float32, Manifest, TensorSpec
from tests.wire.encoded import generator, normal

MANIFEST = Manifest.of([TensorSpec("w", "F32", (50,))])
TOPK = {"name": "topk", "kept": 5, "feedback": True}
SAID: Answer = {"samples": 7, "sha256": "0" * 64}


def task(number: int, plan: dict[str, Any] | None = TOPK, name: str = "", run: str = "run_1") -> Any:
    training = {"seed": 3, **({"codec": plan} if plan else {})}
    return {"id": name or f"tsk_{number}", "run": run, "round": number, "attempt": 1, "training": training}


def delta(number: int) -> Float32:
    return normal(50, number)


class Device:
    """A device's encoder; every `start` is a new process. `counted`: the answers that the portal has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counted: list[str] = []
        self.asked: list[tuple[str, Answer]] = []
        self.start()

    def start(self) -> None:
        self.encoder = Encoder(self.folder, self._acknowledged)

    def send(self, asked: Any, values: Float32, upto: str = "commit") -> bytes:
        """Do a task, and be killed after `upto`: encode, hold, answer or commit."""
        content = self.encoder.encode(asked, MANIFEST, values)
        assert content is not None
        if upto != "encode":
            self.encoder.hold(asked, SAID)
        if upto in ("answer", "commit"):
            self.counted.append(asked["id"])
        if upto == "commit":
            self.encoder.commit(asked)
        else:
            self.start()
        return content.tobytes()

    def _acknowledged(self, name: str, answer: Answer) -> bool:
        self.asked.append((name, answer))
        return name in self.counted


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "residuals")


def decoded(content: bytes | Bytes) -> Float32:
    return TopK(50, 5).decode(np.frombuffer(content, np.uint8))


def expected(*values: Float32) -> list[Float32]:
    """What is sent for these updates one after the other."""
    residual, sent = np.zeros(50, np.float32), []
    for update in values:
        wanted = update + residual
        sent.append(decoded(TopK(50, 5).encode(wanted, generator())))
        residual = wanted - sent[-1]
    return sent


def test_without_a_codec_nothing_is_encoded_and_nothing_is_kept(device: Device) -> None:
    assert device.encoder.encode(task(1, None), MANIFEST, delta(1)) is None
    device.encoder.hold(task(1, None), SAID)
    device.encoder.commit(task(1, None))
    assert not device.folder.exists()


def test_without_feedback_nothing_is_kept(device: Device) -> None:
    content = device.send(task(1, {**TOPK, "feedback": False}), delta(1))
    assert decoded(content).tolist() == expected(delta(1))[0].tolist()
    assert not device.folder.exists()


def test_what_was_left_out_travels_with_the_next_update_also_after_a_restart(device: Device) -> None:
    sent = []
    for number in (1, 2, 3):
        sent.append(decoded(device.send(task(number), delta(number))))
        device.start()
    assert [values.tolist() for values in sent] == [
        values.tolist() for values in expected(delta(1), delta(2), delta(3))
    ]


def test_what_was_sent_and_what_is_kept_add_up_to_all_updates(device: Device) -> None:
    total = sum(decoded(device.send(task(number), delta(number))).astype(np.float64) for number in range(1, 30))
    kept = np.fromfile(device.folder / "run_1" / "after-29.f32", "<f4")
    assert total + kept == pytest.approx(sum(delta(number).astype(np.float64) for number in range(1, 30)), abs=1e-4)


@pytest.mark.parametrize("upto", ["encode", "hold", "commit"])
def test_another_attempt_at_a_round_sends_the_same_bytes(device: Device, upto: str) -> None:
    device.send(task(1), delta(1))
    first = device.send(task(2), delta(2), upto)
    assert device.send(task(2), delta(2)) == first
    assert device.send(task(2, name="tsk_attempt_2"), delta(2)) == first
    third = device.send(task(3), delta(3))
    assert decoded(third).tolist() == expected(delta(1), delta(2), delta(3))[2].tolist()


def test_an_answer_whose_receipt_was_lost_counts_when_the_portal_has_it(device: Device) -> None:
    device.send(task(1), delta(1), "answer")
    second = decoded(device.send(task(2), delta(2)))
    assert device.asked == [("tsk_1", SAID)]
    assert second.tolist() == expected(delta(1), delta(2))[1].tolist()


def test_an_answer_that_the_portal_never_had_leaves_no_trace(device: Device) -> None:
    device.send(task(1), delta(1), "hold")
    second = decoded(device.send(task(2), delta(2)))
    assert device.asked == [("tsk_1", SAID)]
    assert second.tolist() == expected(delta(2))[0].tolist()


def test_an_answer_that_was_refused_is_not_committed_by_the_next(device: Device) -> None:
    """The same process goes on with a task of another kind, whose answer is acknowledged."""
    device.encoder.encode(task(1), MANIFEST, delta(1))
    device.encoder.hold(task(1), SAID)
    device.encoder.commit(task(1, name="tsk_evaluate"))
    second = decoded(device.send(task(2), delta(2)))
    assert second.tolist() == expected(delta(2))[0].tolist()


def test_runs_do_not_share_what_was_left_out(device: Device) -> None:
    device.send(task(1), delta(1))
    other = device.send(task(2, run="run_2"), delta(2))
    assert decoded(other).tolist() == expected(delta(2))[0].tolist()


@pytest.mark.parametrize("damage", [b"", b"\0" * 12, np.full(50, np.nan, "<f4").tobytes()])
def test_a_damaged_memory_is_forgotten(device: Device, damage: bytes) -> None:
    device.send(task(1), delta(1))
    (device.folder / "run_1" / "after-1.f32").write_bytes(damage)
    assert decoded(device.send(task(2), delta(2))).tolist() == expected(delta(2))[0].tolist()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"task": 1}'])
def test_a_damaged_note_is_forgotten(device: Device, damage: bytes) -> None:
    device.send(task(1), delta(1), "answer")
    (device.folder / "run_1" / "waiting.json").write_bytes(damage)
    assert decoded(device.send(task(2), delta(2))).tolist() == expected(delta(2))[0].tolist()


def test_only_the_last_rounds_and_runs_are_kept_and_only_the_owner_may_read(device: Device) -> None:
    for run in range(KEPT_RUNS + 2):
        for number in (1, 2, 3, 4):
            device.send(task(number, run=f"run_{run}"), delta(number))
    folders = sorted(path.name for path in device.folder.iterdir())
    assert len(folders) == KEPT_RUNS
    newest = device.folder / f"run_{KEPT_RUNS + 1}"
    assert sorted(path.name for path in newest.iterdir()) == ["after-3.f32", "after-4.f32"]
    assert {path.stat().st_mode & 0o777 for path in newest.iterdir()} == {0o600}
    assert newest.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("run", ["", "..", "../../etc", "a/b", "x" * 65])
def test_a_run_that_is_no_name_is_refused_before_a_file_is_touched(device: Device, run: str) -> None:
    with pytest.raises(FedportalError) as refused:
        device.encoder.encode(task(1, run=run), MANIFEST, delta(1))
    assert refused.value.code == "bad_request"
    assert not device.folder.exists()


def test_draws_depend_on_the_seed_and_the_round_only(device: Device) -> None:
    plan = {"name": "int8"}
    one, again, other = (device.send(task(number, plan), delta(1)) for number in (1, 1, 2))
    assert one == again
    assert one != other
    assert codecs.draws(3, 1).random() != np.random.Generator(np.random.PCG64([3, 1, 0])).random()


@settings(max_examples=40, deadline=None)
@given(some.integers(0, 10_000), some.integers(1, 40), some.integers(1, 50))
def test_a_sketch_never_leaves_more_than_it_was_given(seed: int, columns: int, kept: int) -> None:
    wanted = normal(200, seed)
    _, sent = fitted(Sketch(200, 3, columns, kept, 1), wanted, generator())
    assert np.linalg.norm(wanted - sent) <= np.linalg.norm(wanted) * (1 + 1e-5)
