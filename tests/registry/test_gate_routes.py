"""Every way that a version could take to a device, tried with one that did not pass its gate."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from federations.models import AuditEntry, Device, DeviceTask
from federations.services import device_tasks
from fedportal.common import clock
from fedportal.common.transactions import unit
from registry import door, tasks
from registry.models import Installation, Rollout
from registry.services import experiments, gates, health, installations, rollouts
from tests.registry.conftest import House, refusal, request
from tests.registry.test_rollouts import Fleet, more_devices, version


@pytest.fixture
def fleet(house: House) -> Fleet:
    return Fleet(house)


def close(fleet: Fleet) -> None:
    """Ask for something that no version keeps to, and have both judged."""
    gates.set_policy(fleet.house.olga, fleet.model, size=5)
    for one in (fleet.old, fleet.new):
        tasks.check_gate(fleet.house.olga, one)


def post(fleet: Fleet, who: str, path: str, **body: Any) -> tuple[int, Any]:
    response = fleet.house.cast.client(who).post(f"/api/v1{path}", body, content_type="application/json")
    return response.status_code, response.json()


def holding_new(fleet: Fleet) -> int:
    return Installation.objects.filter(installed=fleet.new).count()


def test_nothing_begins_widens_goes_on_or_is_resumed(fleet: Fleet) -> None:
    waiting = rollouts.deploy(fleet.mia, fleet.new, share=1_000, start=False)
    close(fleet)
    for call in (rollouts.start, rollouts.advance):
        assert refusal(call, fleet.mia, waiting).code == "gate_failed"
    rollouts.roll_back(fleet.mia, waiting)
    for start in (True, False):
        error = refusal(rollouts.deploy, fleet.mia, fleet.new, start=start)
        assert (error.code, error.context["reason"]) == ("gate_failed", "bytes of the file: beyond the limit")
    assert fleet.tasks() == []
    assert DeviceTask.objects.filter(kind="install").count() == 0


def test_what_is_on_its_way_when_the_gate_closes_is_called_back_and_goes_no_further(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=3_000)
    taken = fleet.tasks()[0]
    device_tasks.note_taken([taken.pk])
    device_tasks.answer(fleet.tasks()[1].device_id, fleet.tasks()[1].public_id, b'{"samples": 0}')
    gates.set_policy(fleet.house.olga, fleet.model, size=5)
    assert fleet.tasks() == []  # not even the one that a device is at
    assert refusal(device_tasks.answer, taken.device_id, taken.public_id, b'{"samples": 0}').code == "task_closed"
    assert refusal(rollouts.set_share, fleet.mia, rollout, 10_000).code == "gate_unjudged"
    tasks.check_gate(fleet.house.olga, fleet.new)
    for call in (rollouts.advance, lambda who, row: rollouts.set_share(who, row, 5_000)):
        assert refusal(call, fleet.mia, rollout).code == "gate_failed"
    rollouts.pause(fleet.mia, rollout)
    assert refusal(rollouts.resume, fleet.mia, rollout).code == "gate_failed"
    # Who has it keeps it, and a rollback takes it away.
    assert holding_new(fleet) == 1
    rollouts.roll_back(fleet.mia, rollout)
    assert fleet.obey() == 3
    assert fleet.holding() == {"": 3}


def test_neither_schedule_nor_newcomers_nor_a_second_try_get_around_it(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, steps=[(2_000, 60), (10_000, 60)], least=1)
    failed = fleet.tasks()[0]
    device_tasks.answer(fleet.tasks()[1].device_id, fleet.tasks()[1].public_id, b'{"samples": 0}')
    device_tasks.decline(failed.device_id, failed.public_id, b'{"reason": "the disk is full"}')
    fleet.report(fleet.new, count=10)
    close(fleet)
    more_devices(fleet.house.metro, 10)
    Rollout.objects.update(stepped_at=clock.now() - timedelta(hours=2))
    Installation.objects.filter(state="failed").update(changed_at=clock.now() - timedelta(hours=2))
    for _ in range(2):
        health.sweep()
    rollout.refresh_from_db()
    assert (rollout.share, rollout.state, fleet.tasks()) == (2_000, "active", [])
    # With leave, all of it goes on where it stood.
    gates.override(fleet.house.olga, fleet.new, "the ward cannot wait")
    health.sweep()
    rollout.refresh_from_db()
    assert rollout.share == 10_000
    assert fleet.obey() == 19
    health.sweep()
    assert holding_new(fleet) == 20


def test_a_rollback_to_a_version_is_for_devices_that_had_it(fleet: Fleet) -> None:
    first = rollouts.deploy(fleet.mia, fleet.old, share=3_000)
    fleet.obey()
    rollouts.complete(fleet.mia, first)
    rollouts.deploy(fleet.mia, fleet.new)
    fleet.obey()
    close(fleet)
    third = version(fleet.model, 3)
    tasks.check_gate(fleet.house.olga, third)
    assert refusal(rollouts.roll_back_to, fleet.mia, third).code == "gate_failed"
    rollouts.roll_back_to(fleet.mia, fleet.old)
    assert fleet.obey() == 10
    assert fleet.holding() == {"1.0.0": 3, "": 7}
    health.sweep()
    assert fleet.tasks() == []


def test_a_device_goes_back_to_what_it_had_though_that_would_not_pass_now(fleet: Fleet) -> None:
    first = rollouts.deploy(fleet.mia, fleet.old)
    fleet.obey()
    rollouts.complete(fleet.mia, first)
    second = rollouts.deploy(fleet.mia, fleet.new)
    fleet.obey()
    close(fleet)
    rollouts.roll_back(fleet.mia, second)
    assert fleet.obey() == 10
    assert fleet.holding() == {"1.0.0": 10}
    second.refresh_from_db()
    assert second.restored_at is not None


def test_no_task_is_made_whoever_asks_for_one(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=1_000, start=False)
    close(fleet)
    with unit():
        assert installations.join(rollout, fleet.new, fleet.devices) == 0
        assert refusal(installations._offer, rollout, fleet.new, fleet.devices[:1], clock.now()).code == "gate_failed"
    assert DeviceTask.objects.filter(kind="install").count() == 0


def test_an_experiment_neither_begins_nor_takes_in_newcomers(fleet: Fleet) -> None:
    draft = experiments.create(fleet.mia, fleet.new, control=fleet.old)
    close(fleet)
    assert refusal(experiments.start, fleet.mia, draft).code == "gate_failed"
    gates.override(fleet.house.olga, fleet.old, "what everybody has")
    assert refusal(experiments.start, fleet.mia, draft).code == "gate_failed"
    gates.override(fleet.house.olga, fleet.new, "to learn whether it is better")
    experiments.start(fleet.mia, draft)
    assert fleet.obey() == 10
    gates.withdraw(fleet.house.olga, fleet.new)
    more_devices(fleet.house.metro, 10)
    experiments.sweep()
    assert fleet.tasks() == []
    assert refusal(experiments.promote, fleet.mia, draft, "treatment").code == "gate_failed"
    experiments.stop(fleet.mia, draft)
    assert fleet.obey() == 10
    assert fleet.holding() == {"": 10}


def test_the_addresses_refuse_with_the_reason_and_the_next_step(fleet: Fleet) -> None:
    started = post(fleet, "mia", "/models/radiology-v1/rollouts", version="2.0.0", rollout_percentage=10)[1]["id"]
    gates.set_policy(fleet.house.olga, fleet.model, size=5)
    status, refused = post(fleet, "mia", f"/rollouts/{started}/advance")
    assert (status, refused["error"], "gate check" in refused["next_step"]) == (409, "gate_unjudged", True)
    tasks.check_gate(fleet.house.olga, fleet.new)
    tries = [
        ("/models/radiology-v1/rollouts", {"version": "2.0.0", "rollout_percentage": 50}),
        (f"/rollouts/{started}/advance", {}),
        (f"/rollouts/{started}/set", {"rollout_percentage": 50}),
    ]
    for path, body in tries:
        status, refused = post(fleet, "mia", path, **body)
        assert (status, refused["error"]) == (409, "gate_failed"), path
        assert "/versions/2.0.0/gate" in refused["next_step"]
    shown = fleet.house.cast.client("mia").get(f"/api/v1/rollouts/{started}").json()
    assert (shown["gate"], shown["rollout_percentage"]) == ("gate_failed", 10.0)
    assert post(fleet, "mia", f"/rollouts/{started}/rollback")[0] == 200
    status, refused = post(fleet, "mia", "/models/radiology-v1/rollback", version="2.0.0")
    assert (status, refused["error"]) == (409, "gate_failed")


def test_a_device_fetches_no_version_by_its_own_key(fleet: Fleet) -> None:
    cast = fleet.house.cast
    close(fleet)
    asked = request("GET", cast.device_key, model=fleet.model.public_id, version="2.0.0")
    assert refusal(door.download, asked).code == "forbidden"
    for address in ("versions/2.0.0", "versions/2.0.0/download-url", "versions/2.0.0/formats", "rollouts"):
        assert cast.client("device").get(f"/api/v1/models/radiology-v1/{address}").status_code in (401, 403)


def test_the_admin_site_sends_nothing(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=1_000, start=False)
    close(fleet)
    staff = type(fleet.house.cast.olga).objects.create_superuser("staff@portal.example")
    browser = Client()
    browser.force_login(staff, backend="django.contrib.auth.backends.ModelBackend")
    for table in ("rollout", "installation", "gatepolicy", "gatereport", "gateoverride"):
        assert browser.get(f"/admin/registry/{table}/").status_code == 200
        assert browser.post(f"/admin/registry/{table}/add/", {}).status_code == 403
    assert browser.post(f"/admin/registry/rollout/{rollout.pk}/change/", {"state": "active"}).status_code == 403
    pk = Device.objects.filter(organization=fleet.house.metro)[0].pk
    action = {"action": "delete_selected", "_selected_action": pk}
    browser.post("/admin/registry/rollout/", action)
    assert fleet.tasks() == []


def test_the_override_lets_exactly_that_version_through_and_is_in_the_audit(fleet: Fleet) -> None:
    close(fleet)
    status, shown = post(
        fleet, "olga", "/models/radiology-v1/versions/2.0.0/gate/override", reason="the ward cannot wait"
    )
    assert (status, shown["open"], shown["state"]) == (200, True, "failed")
    assert shown["overrides"][0]["by"] == {"id": fleet.house.cast.olga.public_id, "name": "Olga"}
    assert refusal(rollouts.deploy, fleet.mia, fleet.old).code == "gate_failed"
    rollouts.deploy(fleet.mia, fleet.new, share=5_000)
    device_tasks.answer(fleet.tasks()[0].device_id, fleet.tasks()[0].public_id, b'{"samples": 0}')
    entry = AuditEntry.objects.get(action="gate.overridden")
    assert (entry.organization, entry.details["version"]) == (fleet.house.acme, "2.0.0")
    assert entry.details["reason"] == "the ward cannot wait"
    # Withdrawn, the version stays where it is and goes nowhere else.
    status, shown = post(fleet, "olga", "/models/radiology-v1/versions/2.0.0/gate/override/withdraw")
    assert (status, shown["open"], fleet.tasks()) == (200, False, [])
    assert holding_new(fleet) == 1
    assert AuditEntry.objects.filter(action="gate.override_withdrawn").count() == 1


def test_without_limits_there_is_no_gate(fleet: Fleet) -> None:
    shown = fleet.house.cast.client("mia").get("/api/v1/models/radiology-v1/versions/2.0.0/gate").json()
    assert (shown["open"], shown["state"], shown["checks"]) == (True, "none", [])
    rollouts.deploy(fleet.mia, fleet.new)
    assert fleet.obey() == 10


def test_limits_come_and_go_over_http(fleet: Fleet) -> None:
    olga = fleet.house.cast.client("olga")
    path = "/api/v1/models/radiology-v1/gate"
    assert olga.get(path).json()["revision"] == 0
    body = {"metric": "loss", "quality": 0.5, "size": 100}
    made = olga.put(path, body, content_type="application/json").json()
    assert (made["revision"], made["metric"], made["quality"], made["gap"]) == (1, "loss", 0.5, None)
    assert fleet.house.cast.client("mia").get(path).json() == made
    refused = olga.put(path, {"quality": 7}, content_type="application/json")
    assert (refused.status_code, refused.json()["error"]) == (400, "field_invalid")
    judged = post(fleet, "olga", "/models/radiology-v1/versions/2.0.0/gate")[1]
    outcomes = {check["name"]: (check["bound"], check["outcome"]) for check in judged["checks"]}
    assert outcomes == {"quality": ("at most", "unknown"), "size": ("at most", "passed")}
    assert (judged["state"], judged["open"]) == ("unknown", False)
