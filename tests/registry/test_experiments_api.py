"""Experiments over HTTP: planned, started, looked at, stopped, promoted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.registry.conftest import House
from tests.registry.test_rollouts import Fleet
from tests.registry.test_rollouts_api import send


@pytest.fixture
def fleet(house: House) -> Fleet:
    return Fleet(house)


def get(fleet: Fleet, path: str) -> Any:
    return fleet.house.cast.client("mia").get(f"/api/v1{path}").json()


PLAN = {"model_id": "radiology-v1", "control_version": "1.0.0", "treatment_version": "2.0.0"}


def test_an_experiment_from_its_plan_to_its_rollout(fleet: Fleet) -> None:
    status, made = send(fleet, "mia", "/experiments", **PLAN, treatment_percentage=40, planned=500, error_rate=0.5)
    assert (status, made["status"], made["words"]) == (201, "draft", "not started")
    assert (made["name"], made["metric"], made["planned"]) == ("2.0.0 against 1.0.0", "accuracy", 500)
    assert (made["treatment_percentage"], made["error_rate"], made["auto_stop"]) == (40.0, 0.5, True)
    path = f"/experiments/{made['id']}"
    assert get(fleet, f"{path}/results")["sentence"] == "It has not started: no device is in an arm."
    status, started = send(fleet, "mia", f"{path}/start")
    assert (status, started["status"]) == (200, "running")
    assert sum(started["devices"].values()) == 10
    assert get(fleet, f"{path}/results")["installations"]["treatment"] == {"pending": started["devices"]["treatment"]}
    fleet.obey()
    fleet.report(fleet.old, "old", count=100, judged=100, right=70)
    fleet.report(fleet.new, "new", count=100, judged=100, right=95)
    found = get(fleet, f"{path}/results")
    assert found["sentence"].startswith("2.0.0 is better: its accuracy is 25.0 points higher than that of 1.0.0")
    told = found["conclusion"]
    assert (told["better"], told["difference"]["estimate"], told["control"]["estimate"]) == ("treatment", 0.25, 0.7)
    assert [(one["metric"], one["better"]) for one in found["others"]] == [("error_rate", "")]
    status, rollout = send(fleet, "mia", f"{path}/promote", rollout_percentage=100)
    assert (status, rollout["version"], rollout["error_rate"]) == (201, "2.0.0", 0.5)
    assert send(fleet, "mia", f"{path}/promote")[1]["id"] == rollout["id"]
    shown = get(fleet, path)
    assert (shown["status"], shown["rollout_id"]) == ("promoted", rollout["id"])


def test_a_list_of_experiments_and_a_stop(fleet: Fleet) -> None:
    _, made = send(fleet, "mia", "/experiments", **PLAN, name="first", start_immediately=True)
    assert made["status"] == "running"
    assert send(fleet, "mia", "/experiments", **PLAN, start_immediately=True)[0] == 409
    listed = get(fleet, "/experiments?model=radiology-v1&limit=1")
    assert ([one["id"] for one in listed["experiments"]], listed["total"]) == ([made["id"]], 1)
    assert fleet.house.cast.client("olga").get("/api/v1/experiments").json()["total"] == 0
    status, stopped = send(fleet, "mia", f"/experiments/{made['id']}/stop", reason="too early")
    assert (status, stopped["status"], stopped["reason"]) == (200, "stopped", "too early")


@pytest.mark.parametrize(
    ("said", "status", "word"),
    [
        ({"treatment_percentage": 100}, 400, "treatment_percentage"),
        ({"treatment_version": "9.0.0"}, 404, "version"),
        ({"metric": "beauty"}, 400, "metric"),
        ({"group": "nobody"}, 404, "group"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(fleet: Fleet, said: dict[str, Any], status: int, word: str) -> None:
    found, refused = send(fleet, "mia", "/experiments", **{**PLAN, **said})
    assert (found, word in refused["message"]) == (status, True)
