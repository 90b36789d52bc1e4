"""What a device keeps between rounds: nothing that happens to an answer, a task or the process corrupts it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fedportal_sdk.local import Refusal
from fedportal_sdk.trainers import Plan
from fedportal_sdk.variates import KEPT_RUNS, Drift, Variates
from fedwire.errors import FedportalError

RUN = "run_1"


def vector(value: float) -> np.ndarray:
    return np.full(3, value, np.float32)


@pytest.fixture
def kept(tmp_path: Path) -> Variates:
    return Variates(tmp_path / "variates")


def test_before_the_first_round_that_counted_it_is_zero(kept: Variates) -> None:
    assert kept.own(RUN, 0, 3).tolist() == [0, 0, 0]
    kept.keep(RUN, 1, 0, vector(1))  # the answer was lost, or came too late
    assert kept.own(RUN, 0, 3).tolist() == [0, 0, 0]


def test_what_counted_is_what_the_portal_says_counted(kept: Variates) -> None:
    kept.keep(RUN, 1, 0, vector(1))
    kept.keep(RUN, 2, 1, vector(2))
    assert kept.own(RUN, 2, 3).tolist() == [2, 2, 2]
    assert kept.own(RUN, 1, 3).tolist() == [1, 1, 1]  # round 2 failed, or went on without this device
    kept.keep(RUN, 2, 1, vector(5))  # its second attempt
    assert kept.own(RUN, 2, 3).tolist() == [5, 5, 5]


def test_it_survives_restarts(kept: Variates, tmp_path: Path) -> None:
    kept.keep(RUN, 1, 0, vector(1))
    assert Variates(tmp_path / "variates").own(RUN, 1, 3).tolist() == [1, 1, 1]


def test_runs_do_not_meet(kept: Variates) -> None:
    kept.keep(RUN, 1, 0, vector(1))
    kept.keep("run_2", 1, 0, vector(2))
    kept.forget("run_2")
    assert kept.own(RUN, 1, 3).tolist() == [1, 1, 1]
    with pytest.raises(Refusal):
        kept.own("run_2", 1, 3)


def test_rounds_that_no_task_can_ask_for_any_more_are_removed(kept: Variates, tmp_path: Path) -> None:
    for number in range(1, 6):
        kept.keep(RUN, number, number - 1, vector(number))
    assert sorted(path.stem for path in tmp_path.rglob("*.safetensors")) == ["4", "5"]


def test_a_device_that_lost_its_vector_declines_rather_than_begin_anew(kept: Variates, tmp_path: Path) -> None:
    kept.keep(RUN, 1, 0, vector(1))
    (path,) = tmp_path.rglob("*.safetensors")
    for content in (path.read_bytes()[:-1], b""):
        path.write_bytes(content)
        with pytest.raises(Refusal, match="round 1"):
            kept.own(RUN, 1, 3)
    path.unlink()
    with pytest.raises(Refusal, match="round 1"):
        kept.own(RUN, 1, 3)


def test_only_its_owner_may_read_it(kept: Variates, tmp_path: Path) -> None:
    kept.keep(RUN, 1, 0, vector(1))
    (path,) = tmp_path.rglob("*.safetensors")
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_run_is_no_path(kept: Variates, tmp_path: Path) -> None:
    kept.keep("../../elsewhere", 1, 0, vector(1))
    (path,) = tmp_path.rglob("*.safetensors")
    assert tmp_path / "variates" in path.parents


def test_runs_whose_end_it_never_heard_of_are_forgotten_in_time(kept: Variates, tmp_path: Path) -> None:
    for number in range(KEPT_RUNS + 5):
        kept.keep(f"run_{number}", 1, 0, vector(1))
        for folder in (tmp_path / "variates").iterdir():
            os.utime(folder, (folder.stat().st_atime, folder.stat().st_mtime - 1))
    assert len(list((tmp_path / "variates").iterdir())) == KEPT_RUNS
    assert kept.own(f"run_{KEPT_RUNS + 4}", 1, 3).tolist() == [1, 1, 1]


def test_a_vector_that_is_not_finite_is_not_kept() -> None:
    drift = Drift("feddyn", vector(1), vector(0), Plan(alpha=1e30))
    with pytest.raises(FedportalError) as caught, np.errstate(over="ignore"):
        drift.after(vector(3e38), 10)
    assert caught.value.code == "not_finite"


def test_corrections_are_those_of_the_papers() -> None:
    plan = Plan(epochs=2, batch_size=5, learning_rate=0.5, alpha=0.25)
    scaffold = Drift("scaffold", vector(1), vector(3), plan)
    assert scaffold.shift.tolist() == [2, 2, 2]
    assert scaffold.after(vector(-4), 10).tolist() == [0, 0, 0]  # 1 - 3 + 4/(4·½)
    feddyn = Drift("feddyn", vector(1), vector(0), plan)
    assert feddyn.shift.tolist() == [-1, -1, -1]
    assert feddyn.after(vector(-4), 10).tolist() == [2, 2, 2]
