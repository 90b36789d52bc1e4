"""A device and a plan of inference: it counts its own rows, keeps to its own policy, and draws noise once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk._door import DeviceDoor
from fedportal_sdk._http import Http
from fedportal_sdk._inferring import Inferrer
from fedportal_sdk._policy import DevicePolicy, read
from fedportal_sdk._retry import Patience, Stop, Stopped
from fedportal_sdk.data import load
from fedportal_sdk.local import TableWork, Work
from fedwire.architectures import Architecture
from fedwire.inference import Asked
from fedwire.tensors import encode_model
from tests.sdk.server import Reply, Seen, found, serving

LOGISTIC = {"kind": "logistic", "inputs": 3, "classes": 2}
ROWS = 60


ARCHITECTURE = Architecture.parse(LOGISTIC)
# σ(x₀): rows whose first column is above 0 are of class 1.
WEIGHTS = {"layers.0.weight": np.array([[1, 0, 0]], np.float32), "layers.0.bias": np.zeros(1, np.float32)}
MODEL = encode_model(ARCHITECTURE.manifest(), WEIGHTS)


def rows() -> Any:
    table = np.random.default_rng(3).normal(size=(ROWS, 3))
    return table, (np.arange(ROWS) % 2).astype(int)


def task(task_id: str = "tsk_1", **asked: Any) -> Any:
    plan = {"plan": "inf_1", "federation": "fed_1", "asked": Asked(**{"summary": "counts", **asked}).as_json()}
    named = {"run": "", "round": 0, "attempt": 0, "model": "mdl_1", "model_name": "radiology-v1", "training": {}}
    return {
        **named,
        "id": task_id,
        "kind": "infer",
        "base_digest": hashlib.sha256(MODEL).hexdigest(),
        "manifest": ARCHITECTURE.manifest().to_json(),
        "architecture": LOGISTIC,
        "answer": {"least_records": 0},
        "inference": {**plan, "least_devices": 3, "least_organizations": 3},
    }


class Device:
    """A device in `folder` whose portal takes every answer."""

    def __init__(self, folder: Path, policy: DevicePolicy | None = None, work: Work | None = None) -> None:
        self.folder, self.policy = folder, policy or DevicePolicy()
        self.work = work or TableWork(load(rows(), "target"))
        self.told: list[str] = []

    def take(self, asked: Any, *, model: str | None = None, least_records: int = 0) -> tuple[str, Any]:
        """Where the device answered, and what."""

        def portal(number: int, seen: Seen) -> Reply:
            return Reply(200, MODEL) if seen.method == "GET" else found({"state": "answered"}, 201)

        with serving(portal) as server:
            door = DeviceDoor(Http(server.url, "edg_key", timeout=5), Patience(Stop()), self.folder / "models", "tag")
            inferrer = Inferrer(
                door,
                self.work,
                self.folder,
                policy=lambda: self.policy,
                model=model,
                least_records=least_records,
                stop=Stop(),
                tell=lambda event, **values: self.told.append(event),
            )
            inferrer.take(asked, lambda call: call())
        last = server.seen[-1]
        return last.path.rpartition("/")[2], json.loads(last.body)

    def refused(self, asked: Any, **more: Any) -> str:
        where, said = self.take(asked, **more)
        assert where == "decline"
        return str(said["reason"])


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def test_only_the_cells_leave(device: Device) -> None:
    table, _ = rows()
    above = int((table[:, 0].astype(np.float32) > 0).sum())
    where, said = device.take(task())
    assert (where, said) == ("answer", {"samples": 0, "inference": [ROWS - above, above]})
    assert device.told[-1] == "inferred"


@pytest.mark.parametrize(
    ("asked", "cells", "total"),
    [
        ({"summary": "histogram", "bins": 10}, 10, ROWS),
        ({"summary": "confusion"}, 4, ROWS),
        ({"summary": "mean"}, 2, None),
    ],
)
def test_every_summary_counts_every_row(
    device: Device, asked: Mapping[str, Any], cells: int, total: int | None
) -> None:
    _, said = device.take(task(**asked))
    found = said["inference"]
    assert len(found) == cells
    if total is not None:
        assert sum(found) == total
    else:
        table, _ = rows()
        scores = 1 / (1 + np.exp(-table[:, 0]))
        assert found[0] == 1024 * ROWS
        assert found[1] / found[0] == pytest.approx(scores.mean(), abs=1e-3)


def test_held_out_rows_are_those_that_are_not_trained_on(device: Device) -> None:
    _, said = device.take(task(rows="held_out"))
    assert isinstance(device.work, TableWork)
    assert sum(said["inference"]) == ROWS - device.work.records


def test_noise_is_added_here_and_drawn_once(device: Device) -> None:
    """A second draw for the same task would average the noise away."""
    _, first = device.take(task(noise=50.0))
    again = Device(device.folder)  # as after a restart
    assert again.take(task(noise=50.0))[1] == first
    assert first["inference"] != device.take(task("tsk_2"))[1]["inference"]
    assert device.take(task("tsk_3", noise=50.0))[1] != first


def test_a_device_with_few_rows_declines_and_does_not_say_how_few(device: Device) -> None:
    for asked, more in ((task(least_count=61), {}), (task("tsk_2"), {"least_records": 61})):
        reason = device.refused(asked, **more)
        assert "fewer rows" in reason
        assert str(ROWS) not in reason


@pytest.mark.parametrize(
    ("line", "asked", "reason"),
    [
        ("inference = false", {}, "allows no inference"),
        ("only_masked = true", {}, "not masked"),
        ('federations = ["fed_2"]', {}, "this federation"),
        ("least_inference_count = 20", {"least_count": 19}, "more rows"),
        ("least_own_noise = 2.0", {"noise": 1.5}, "more noise"),
        ("inferences_a_day = 0", {}, "no further plan"),
    ],
)
def test_the_devices_own_policy_refuses_whatever_was_consented(
    tmp_path: Path, line: str, asked: dict[str, Any], reason: str
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(line)
    assert reason in Device(tmp_path, read(file)).refused(task(**asked))


@pytest.mark.parametrize(
    ("policy", "least_records", "reason"),
    [
        (DevicePolicy(inference=False), 0, "allows no inference"),
        (DevicePolicy(least_own_noise=2.0), 0, "more noise"),
        (DevicePolicy(inferences_a_day=0), 0, "no further plan"),
        (DevicePolicy(), ROWS + 1, "fewer rows"),
    ],
)
def test_an_answer_that_was_kept_is_sent_within_the_policy_of_today_only(
    device: Device, policy: DevicePolicy, least_records: int, reason: str
) -> None:
    assert device.take(task())[0] == "answer"
    assert reason in Device(device.folder, policy).refused(task(), least_records=least_records)


def test_an_answer_that_was_kept_is_no_answer_to_something_else(device: Device) -> None:
    """Else cells without noise would go out under a task that now says that they have it."""
    assert device.take(task())[0] == "answer"
    strict = Device(device.folder, DevicePolicy(least_own_noise=2.0))
    assert "something else" in strict.refused(task(noise=2.0))


def test_a_plan_that_fails_unexpectedly_is_declined_and_the_next_one_answered(device: Device) -> None:
    """Of what went wrong only its kind leaves: its sentence may quote the data."""
    broken = task()
    broken["inference"]["asked"] = None
    assert device.refused(broken) == "the inference failed (TypeError)"
    assert device.take(task("tsk_2"))[0] == "answer"


def test_stopping_while_a_model_comes_declines_nothing(device: Device) -> None:
    class Stopping(TableWork):
        def prepared(self, *_: Any) -> Any:
            raise Stopped

    device.work = Stopping(load(rows(), "target"))
    with pytest.raises(Stopped):
        device.take(task())
    assert "declined" not in device.told


def test_the_policy_counts_plans_of_a_day(tmp_path: Path) -> None:
    device = Device(tmp_path, DevicePolicy(inferences_a_day=2))
    assert [device.take(task(f"tsk_{number}"))[0] for number in (1, 2, 1, 3)] == ["answer"] * 3 + ["decline"]


def test_what_does_not_fit_this_device_is_declined(device: Device) -> None:
    assert "another model" in device.refused(task(), model="cardiology")
    assert device.refused({**task("tsk_2"), "architecture": {**LOGISTIC, "inputs": 4}}) == "data_shape"
    assert "classes" in device.refused(task("tsk_3", classes=3))
    unknown = task("tsk_4")
    unknown["inference"]["asked"]["rows"] = "every single one"
    assert device.refused(unknown) == "field_invalid"
    assert "function of its own" in Device(device.folder, work=object()).refused(task("tsk_5"))  # type: ignore[arg-type]
