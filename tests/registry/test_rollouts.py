"""Rollouts: who joins, what a pause, a rollback and a second of each do, and when a version goes back by itself."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from federations.models import AuditEntry, Delivery, Device, DeviceTask, Letter, News, Organization, Role
from federations.permissions import Actor
from federations.services import device_tasks, policies, spreading, webhooks
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.states import DeviceState, RolloutState, TaskState
from registry.models import HealthReport, Installation, Model, ModelVersion, Rollout
from registry.services import health, models, rollouts
from tests.registry.conftest import House, refusal

FAILING = {"count": 100, "errors": 40}


class Fleet:
    """metro's ten devices and a model of acme's that is shared with it, in two versions."""

    def __init__(self, house: House) -> None:
        self.house, self.mia = house, house.mia
        self.model = models.create(house.olga, name="radiology-v1")
        models.share(house.olga, self.model, house.federation)
        self.old, self.new = version(self.model, 1), version(self.model, 2)
        self.devices = list(Device.objects.filter(organization=house.metro)) + more_devices(house.metro, 9)

    def tasks(self) -> list[DeviceTask]:
        """What devices are asked to do now."""
        return list(DeviceTask.objects.filter(kind="install", state__in=("open", "taken")).select_related("device"))

    def obey(self) -> int:
        """Every device does what it is asked to; how many were asked."""
        found = self.tasks()
        device_tasks.note_taken([task.pk for task in found])
        for task in found:
            device_tasks.answer(task.device_id, task.public_id, b'{"samples": 0}')
        return len(found)

    def holding(self) -> dict[str, int]:
        """Version → how many devices hold it; "" for those that hold nothing any more."""
        found: dict[str, int] = {}
        for row in Installation.objects.select_related("installed"):
            name = row.installed.version if row.installed else ""
            found[name] = found.get(name, 0) + 1
        return found

    def report(self, version: ModelVersion, name: str = "b1", **counts: Any) -> int:
        """Every device that holds it reports the same of it."""
        said = {"batch": name, "model": self.model.public_id, "version": version.version, **counts}
        return sum(health.take(device, [said]) for device in self.devices)


def version(model: Model, major: int) -> ModelVersion:
    digest = f"{major:064x}"
    return ModelVersion.objects.create(
        organization=model.organization,
        model=model,
        version=f"{major}.0.0",
        major=major,
        minor=0,
        patch=0,
        origin="pushed",
        blob=digest,
        size=10,
        digest=digest,
        manifest=[],
    )


def more_devices(organization: Organization, count: int) -> list[Device]:
    start = Device.objects.count()
    rows = [Device(organization=organization, identifier=f"ward-{start + n:05d}") for n in range(count)]
    return Device.objects.bulk_create(rows)


@pytest.fixture
def fleet(house: House) -> Fleet:
    return Fleet(house)


def test_devices_join_as_the_share_grows_and_none_leaves(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=1_000)
    first = set(Installation.objects.values_list("device_id", flat=True))
    assert len(first) == 1
    assert fleet.obey() == 1
    assert rollouts.deploy(fleet.mia, fleet.new, share=2_500).pk == rollout.pk
    second = set(Installation.objects.values_list("device_id", flat=True))
    assert first < second
    assert len(second) == 3
    assert fleet.obey() == 2
    rollouts.set_share(fleet.mia, rollout, 10_000)
    assert fleet.obey() == 7
    assert fleet.holding() == {"2.0.0": 10}
    assert refusal(rollouts.set_share, fleet.mia, rollout, 5_000).context["field"] == "share"
    actions = AuditEntry.objects.filter(subject=rollout.public_id).order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["rollout.started", "rollout.widened", "rollout.widened"]


def test_new_devices_fall_in_when_the_sweeper_looks_and_group_decides(fleet: Fleet) -> None:
    rollouts.deploy(fleet.mia, fleet.new, share=5_000)
    assert fleet.obey() == 5
    more_devices(fleet.house.metro, 10)
    health.sweep()
    health.sweep()
    assert fleet.obey() == 5
    assert Installation.objects.exclude(device__organization=fleet.house.metro).count() == 0


def test_another_version_waits_until_the_first_is_decided(fleet: Fleet) -> None:
    first = rollouts.deploy(fleet.mia, fleet.old, share=1_000)
    error = refusal(rollouts.deploy, fleet.mia, fleet.new, share=1_000)
    assert (error.code, f"rollout complete {first.public_id}" in error.next_step) == ("wrong_state", True)
    rollouts.complete(fleet.mia, first)
    assert rollouts.deploy(fleet.mia, fleet.new, share=1_000).previous_version == fleet.old


def test_a_paused_rollout_gives_nothing_new(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=5_000)
    rollouts.pause(fleet.mia, rollout)
    assert fleet.tasks() == []
    more_devices(fleet.house.metro, 10)
    health.sweep()
    assert fleet.tasks() == []
    assert refusal(rollouts.advance, fleet.mia, rollout).code == "wrong_state"
    rollouts.resume(fleet.mia, rollout)
    assert fleet.obey() == 10


def test_a_rollback_gives_every_device_what_it_had_or_nothing(fleet: Fleet) -> None:
    first = rollouts.deploy(fleet.mia, fleet.old, share=3_000)
    fleet.obey()
    rollouts.complete(fleet.mia, first)
    second = rollouts.deploy(fleet.mia, fleet.new)
    fleet.obey()
    assert fleet.holding() == {"2.0.0": 10}
    back = rollouts.roll_back(fleet.mia, second)
    assert (back.state, back.restored_at) == (RolloutState.ROLLED_BACK, None)
    wishes = {json.dumps(task.content["install"]["version"]) for task in fleet.tasks()}
    assert wishes == {'""', '"1.0.0"'}
    assert fleet.obey() == 10
    assert fleet.holding() == {"1.0.0": 3, "": 7}
    back.refresh_from_db()
    assert back.restored_at is not None
    assert back.reason == "by hand"


def test_a_rollback_reaches_devices_that_were_at_it(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    task = fleet.tasks()[0]
    device_tasks.note_taken([task.pk])
    rollouts.roll_back(fleet.mia, rollout)
    error = refusal(device_tasks.answer, task.device_id, task.public_id, b'{"samples": 0}')
    assert error.code == "task_closed"
    assert fleet.obey() == 10
    assert fleet.holding() == {"": 10}


def test_failing_predictions_roll_back_once_and_the_time_is_recorded(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=2_000)
    fleet.obey()
    assert fleet.report(fleet.new, **FAILING) == 2
    health.sweep()
    health.sweep()
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.ROLLED_BACK
    assert rollout.reason == "80 of 200 predictions failed"
    assert rollout.crossed_at is not None
    assert rollout.rolled_back_at is not None
    assert rollout.crossed_at <= rollout.rolled_back_at
    assert AuditEntry.objects.filter(action="rollout.rolled_back").count() == 1
    assert not rollouts.go_back("portal", rollout, "again")
    assert fleet.obey() == 2
    rollout.refresh_from_db()
    assert rollout.restored_at is not None


def test_reports_count_once_and_only_of_what_a_device_holds(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=1_000)
    assert fleet.report(fleet.new, **FAILING) == 0
    fleet.obey()
    assert fleet.report(fleet.new, count=10) == 1
    assert fleet.report(fleet.new, count=10) == 0
    assert fleet.report(fleet.old, "b2", count=10) == 0
    assert health.verdict(rollout).count == 10
    HealthReport.objects.update(at=clock.now() - timedelta(days=8))
    health.sweep()
    assert not HealthReport.objects.exists()


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"count": -1}, "count"),
        ({"count": 1, "errors": 2}, "errors"),
        ({"count": True}, "count"),
        ({"latencies": [1] * 99}, "latencies"),
        ({"batch": ""}, "batch"),
    ],
)
def test_reports_are_bounded(fleet: Fleet, said: dict[str, Any], field: str) -> None:
    report = {"batch": "b", "model": fleet.model.public_id, "version": "2.0.0", **said}
    assert refusal(health.take, fleet.devices[0], [report]).context["field"] == field
    assert refusal(health.take, fleet.devices[0], [report] * 101).context["field"] == "reports"


def test_the_policy_of_the_organization_decides_where_nothing_is_said(fleet: Fleet) -> None:
    policies.change(fleet.mia, fleet.house.metro, auto_rollback=False, rollback_error_rate=0.2)
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    assert (rollout.auto_rollback, rollout.error_rate) == (False, 0.2)
    fleet.obey()
    fleet.report(fleet.new, **FAILING)
    health.sweep()
    first = News.objects.get(kind="rollout.unwell")
    health.sweep()
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.ACTIVE
    assert rollout.crossed_at is not None
    assert News.objects.get(kind="rollout.unwell") == first
    assert "400 of 1000 predictions failed. It does not go back by itself" in first.sentence
    assert AuditEntry.objects.filter(action="rollout.unwell", subject=rollout.public_id).count() == 1
    found_at = rollout.crossed_at
    rollouts.roll_back(fleet.mia, rollout)
    assert rollout.crossed_at == found_at
    assert not News.objects.filter(kind="rollout.rolled_back").exists()  # who did it by hand knows


def test_people_and_programs_hear_when_a_version_went_back_by_itself(fleet: Fleet) -> None:
    webhooks.add(fleet.mia, fleet.house.metro, "https://hooks.example/fedportal", ["rollout.rolled_back"])
    viewer = fleet.house.cast.colleague(fleet.house.metro, Role.VIEWER)
    first = rollouts.deploy(fleet.mia, fleet.old)
    fleet.obey()
    rollouts.complete(fleet.mia, first)
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=2_000)
    fleet.obey()
    fleet.report(fleet.new, **FAILING)
    health.sweep()
    health.sweep()
    spreading.spread_due()
    letter = Letter.objects.get(topic__startswith="rollout.rolled_back")
    said = "radiology-v1 2.0.0 was rolled back by itself: 80 of 200 predictions failed."
    assert (letter.to, said in letter.text) == ("mia@metro.example", True)
    assert f"/rollouts/{rollout.public_id}" in letter.text
    assert "Your devices return to 1.0.0, where they had it." in letter.text
    assert not Letter.objects.filter(to=viewer.email, topic__startswith="rollout").exists()
    told = Delivery.objects.get(kind="rollout.rolled_back").payload
    rollout.refresh_from_db()
    assert rollout.crossed_at is not None
    assert told["data"] == {
        "rollout": rollout.public_id,
        "model": fleet.model.public_id,
        "version": "2.0.0",
        "previous_version": "1.0.0",
        "reason": "80 of 200 predictions failed",
        "crossed_at": rollout.crossed_at.isoformat(),
        "rolled_back_at": rollout.rolled_back_at.isoformat() if rollout.rolled_back_at else "",
    }


def test_a_schedule_goes_on_only_while_enough_is_seen_and_well(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, steps=[(1_000, 60), (10_000, 60)], least=20)
    fleet.obey()
    Rollout.objects.update(stepped_at=clock.now() - timedelta(seconds=61))
    health.sweep()
    rollout.refresh_from_db()
    assert rollout.share == 1_000
    fleet.report(fleet.new, count=30)
    health.sweep()
    rollout.refresh_from_db()
    assert rollout.share == 10_000
    fleet.obey()
    Rollout.objects.update(stepped_at=clock.now() - timedelta(seconds=61))
    health.sweep()
    rollout.refresh_from_db()
    assert rollout.state == RolloutState.COMPLETED


def test_what_a_device_could_not_install_is_asked_for_again(fleet: Fleet) -> None:
    rollouts.deploy(fleet.mia, fleet.new, share=1_000)
    task = fleet.tasks()[0]
    device_tasks.decline(task.device_id, task.public_id, b'{"reason": "the disk is full"}')
    row = Installation.objects.get()
    assert (row.state, row.error) == ("failed", "the disk is full")
    health.sweep()
    assert fleet.tasks() == []
    Installation.objects.update(changed_at=clock.now() - timedelta(hours=2))
    health.sweep()
    assert fleet.obey() == 1
    # A task that nobody fetched in time is offered anew as well.
    rollouts.advance(fleet.mia, Rollout.objects.get())
    DeviceTask.objects.filter(state=TaskState.OPEN).update(deadline=clock.now() - timedelta(seconds=1))
    health.sweep()
    assert Installation.objects.filter(state="pending", task__deadline__gt=clock.now()).count() == 1


def test_back_to_a_version_by_hand_is_a_rollout_to_all(fleet: Fleet) -> None:
    running = rollouts.deploy(fleet.mia, fleet.new, share=3_000)
    fleet.obey()
    back = rollouts.roll_back_to(fleet.mia, fleet.old)
    running.refresh_from_db()
    assert (running.state, back.is_rollback, back.share) == (RolloutState.ROLLED_BACK, True, 10_000)
    assert fleet.obey() == 10
    assert fleet.holding() == {"1.0.0": 10}
    health.sweep()
    running.refresh_from_db()
    assert running.restored_at is not None


def test_who_may_send_models_to_devices(fleet: Fleet) -> None:
    metro = fleet.house.metro
    for role, may in ((Role.ADMIN, True), (Role.DEVICE_OPERATOR, True), (Role.DATA_SCIENTIST, False)):
        actor = Actor(fleet.house.cast.colleague(metro, role), metro)
        if may:
            assert rollouts.deploy(actor, fleet.new, share=1_000).organization == metro
        else:
            assert refusal(rollouts.deploy, actor, fleet.new, share=1_000).code == "forbidden"
    assert refusal(rollouts.deploy, fleet.house.rex, fleet.new).code == "not_found"
    # acme's rollout of the same model is another one: it goes to acme's devices.
    assert rollouts.deploy(fleet.house.olga, fleet.old).organization == fleet.house.acme


def test_devices_that_are_revoked_are_not_waited_for(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    fleet.obey()
    rollouts.roll_back(fleet.mia, rollout)
    gone = fleet.tasks()[0].device
    Device.objects.filter(pk=gone.pk).update(state=DeviceState.REVOKED)
    for task in fleet.tasks():
        if task.device_id != gone.pk:
            device_tasks.answer(task.device_id, task.public_id, b'{"samples": 0}')
    with unit():
        rollout.refresh_from_db()
    assert rollout.restored_at is not None
