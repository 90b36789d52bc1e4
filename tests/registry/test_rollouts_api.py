"""Rollouts over HTTP: percentages come in and go out, devices report, a label that is gone gives nothing more."""

from __future__ import annotations

from typing import Any

import pytest

from federations.fleet import find_label
from federations.services import device_groups
from registry.models import Rollout
from registry.services import health
from tests.registry.conftest import House
from tests.registry.test_rollouts import Fleet


@pytest.fixture
def fleet(house: House) -> Fleet:
    return Fleet(house)


def send(fleet: Fleet, who: str, path: str, **body: Any) -> tuple[int, Any]:
    """Status and JSON of a POST by somebody with a key."""
    response = fleet.house.cast.client(who).post(f"/api/v1{path}", body, content_type="application/json")
    return response.status_code, response.json()


def test_a_rollout_in_percent(fleet: Fleet) -> None:
    schedule = [{"percentage": 12.5, "wait_seconds": 60}, {"percentage": 100}]
    status, made = send(fleet, "mia", "/models/radiology-v1/rollouts", schedule=schedule, error_rate=0.1)
    assert (status, made["version"], made["rollout_percentage"]) == (201, "2.0.0", 12.5)
    assert (made["status"], made["error_rate"], made["devices"]) == ("active", 0.1, {"pending": 2})
    assert made["schedule"][1] == {"percentage": 100.0, "wait_seconds": 0}
    address = f"/rollouts/{made['id']}"
    assert send(fleet, "mia", f"{address}/advance")[1]["rollout_percentage"] == 100.0
    status, refused = send(fleet, "mia", f"{address}/set", rollout_percentage=50)
    assert (status, refused["error"], "only grows" in refused["message"]) == (400, "field_invalid", True)
    assert send(fleet, "mia", f"{address}/set", rollout_percentage=0.001)[0] == 400
    active = fleet.house.cast.client("mia").get("/api/v1/models/radiology-v1/rollouts/active").json()
    assert [one["id"] for one in active] == [made["id"]]
    status, back = send(fleet, "mia", "/models/radiology-v1/rollback", reason="it is slow")
    assert (status, back["id"], back["status"], back["reason"]) == (201, made["id"], "rolled_back", "it is slow")


def test_a_device_reports_health_and_nobody_else_for_it(fleet: Fleet) -> None:
    send(fleet, "mia", "/models/radiology-v1/rollouts", version="2.0.0")
    fleet.obey()
    device = fleet.house.cast.device
    report = {"batch": "1", "model": fleet.model.public_id, "version": "2.0.0", "count": 60, "errors": 1}
    late = {**report, "batch": "2", "latencies": [0] * 14 + [60]}
    path = f"/devices/{device.public_id}/health"
    assert send(fleet, "device", path, reports=[report, late]) == (200, {"new": 2})
    assert send(fleet, "device", path, reports=[report]) == (200, {"new": 0})
    assert send(fleet, "mia", path, reports=[report])[0] == 401
    shown = fleet.house.cast.client("mia").get("/api/v1/models/radiology-v1/rollouts").json()["rollouts"][0]
    assert (shown["health"]["predictions"], shown["health"]["latency_ms"]) == (120, None)


def test_a_rollout_to_a_label_goes_to_nobody_else_when_the_label_is_gone(fleet: Fleet) -> None:
    metro = fleet.house.metro
    device_groups.assign(fleet.mia, metro, fleet.devices[:4], add="production")
    status, made = send(fleet, "mia", "/models/radiology-v1/rollouts", group="production", rollout_percentage=50)
    assert (status, made["group"], made["devices"]) == (201, "production", {"pending": 2})
    assert send(fleet, "mia", "/models/radiology-v1/rollouts", group="nobody")[0] == 404
    device_groups.remove(fleet.mia, find_label(metro, "production"))
    assert send(fleet, "mia", f"/rollouts/{made['id']}/set", rollout_percentage=100)[1]["devices"] == {"pending": 2}
    health.sweep()
    assert Rollout.objects.get().installations.count() == 2
