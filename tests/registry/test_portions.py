"""A large fleet is asked a portion at a time: whoever is killed between two, each device is asked exactly once."""

from __future__ import annotations

from collections import Counter

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from federations.models import AuditEntry, DeviceTask
from federations.services import device_tasks
from fedwire.states import RolloutState
from registry.models import Installation
from registry.services import experiments, gates, health, portions, rollouts
from tests.registry.conftest import House
from tests.registry.test_experiments import running
from tests.registry.test_rollouts import Fleet

PORTION = 3


@pytest.fixture
def fleet(house: House) -> Fleet:
    return Fleet(house)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten devices are many."""
    monkeypatch.setattr(portions, "PORTION", PORTION)


def asked() -> Counter[int]:
    """Device → how often it was asked to install or remove something."""
    return Counter(DeviceTask.objects.filter(kind="install").values_list("device_id", flat=True))


def offered(fleet: Fleet) -> Counter[str]:
    """Version → how many devices are asked now to hold it; "" to hold nothing."""
    return Counter(task.content["install"]["version"] for task in fleet.tasks())


def test_a_share_joins_portion_after_portion_and_nobody_is_asked_twice(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=7_000)
    assert (Installation.objects.count(), portions.missing(rollout)) == (PORTION, 4)
    portions.go_on(rollout.pk)
    # The worker is gone; the sweeper takes up what it left, and finds nothing more to do the next time.
    for _ in range(3):
        health.sweep()
    assert (Installation.objects.count(), portions.missing(rollout)) == (7, 0)
    assert set(asked().values()) == {1}
    expected = portions.placement.joining(rollout.public_id, [d.public_id for d in fleet.devices], 7_000, ())
    assert set(Installation.objects.values_list("device__public_id", flat=True)) == set(expected)
    started = AuditEntry.objects.get(subject=rollout.public_id)
    assert started.action == "rollout.started"


def test_what_widens_says_how_many_join_in_all(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new, share=1_000)
    rollouts.set_share(fleet.mia, rollout, 9_000)
    assert AuditEntry.objects.get(action="rollout.widened").details["devices"] == 8


def test_a_rollback_reaches_every_device_portion_after_portion_and_is_over_only_then(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    for _ in range(3):
        portions.go_on(rollout.pk)
    fleet.obey()
    assert fleet.holding() == {"2.0.0": 10}
    rollouts.roll_back(fleet.mia, rollout)
    rollouts.roll_back(fleet.mia, rollout)
    assert fleet.obey() == PORTION
    rollout.refresh_from_db()
    assert (rollout.state, rollout.restored_at) == (RolloutState.ROLLED_BACK, None)
    for _ in range(5):
        health.sweep()
    assert fleet.obey() == 10 - PORTION
    assert fleet.holding() == {"": 10}
    rollout.refresh_from_db()
    assert rollout.restored_at is not None
    assert set(asked().values()) == {2}


def test_a_rollback_offers_the_version_to_nobody_any_more(fleet: Fleet) -> None:
    """Also not to those whose turn to go back has not come, and whose tasks a pause had withheld."""
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    for _ in range(3):
        portions.go_on(rollout.pk)
    rollouts.pause(fleet.mia, rollout)
    rollouts.roll_back(fleet.mia, rollout)
    assert offered(fleet) == {"": PORTION}
    for _ in range(4):
        health.sweep()
    assert offered(fleet) == {"": 10}
    fleet.obey()
    rollout.refresh_from_db()
    assert (fleet.holding(), rollout.restored_at is not None) == ({"": 10}, True)


def test_a_way_back_to_a_version_offers_none_that_was_taken_back(fleet: Fleet) -> None:
    first = rollouts.deploy(fleet.mia, fleet.new)
    for _ in range(3):
        portions.go_on(first.pk)
    rollouts.roll_back_to(fleet.mia, fleet.old)
    portions.go_on(first.pk)
    assert offered(fleet) == {"1.0.0": PORTION}
    for _ in range(4):
        health.sweep()
    assert offered(fleet) == {"1.0.0": 10}


def test_a_stopped_experiment_offers_no_arm_any_more(fleet: Fleet) -> None:
    experiment = experiments.create(fleet.mia, fleet.new, control=fleet.old, start_now=True)
    experiments.sweep()
    assert len(fleet.tasks()) == 10
    device_tasks.cancel([task.pk for task in fleet.tasks()])  # they were away too long
    experiments.stop(fleet.mia, experiment)
    experiments.sweep()
    assert (offered(fleet), set(asked().values())) == ({"": 10}, {2})


def test_a_rollback_writes_its_entry_after_the_tasks(fleet: Fleet) -> None:
    """Tasks lock the model's gate, and the audit log comes after that everywhere: so nobody waits for each other."""
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    with CaptureQueriesContext(connection) as seen:
        rollouts.roll_back(fleet.mia, rollout)
    inserts = [query["sql"].split()[2].strip('"') for query in seen if query["sql"].startswith("INSERT")]
    assert inserts.index(AuditEntry._meta.db_table) > inserts.index(DeviceTask._meta.db_table)


def test_who_has_not_joined_when_it_goes_back_never_does(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    rollouts.roll_back(fleet.mia, rollout)
    for _ in range(3):
        health.sweep()
    assert Installation.objects.count() == PORTION


def test_who_is_done_with_a_rollout_has_asked_everybody_first(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    rollouts.complete(fleet.mia, rollout)
    assert (Installation.objects.count(), fleet.obey()) == (10, 10)


def test_a_pause_between_two_portions_holds(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    rollouts.pause(fleet.mia, rollout)
    portions.go_on(rollout.pk)
    health.sweep()
    assert (Installation.objects.count(), fleet.tasks()) == (PORTION, [])
    rollouts.resume(fleet.mia, rollout)
    for _ in range(3):
        health.sweep()
    assert fleet.obey() == 10


def test_devices_are_sent_to_an_earlier_version_directly(fleet: Fleet) -> None:
    first = rollouts.deploy(fleet.mia, fleet.new)
    for _ in range(3):
        portions.go_on(first.pk)
    fleet.obey()
    back = rollouts.roll_back_to(fleet.mia, fleet.old)
    for _ in range(4):
        health.sweep()
    fleet.obey()
    assert fleet.holding() == {"1.0.0": 10}
    # Nobody was asked to remove the version in between.
    assert set(asked().values()) == {2}
    health.sweep()
    first.refresh_from_db()
    assert (first.restored_at is not None, back.state) == (True, RolloutState.ACTIVE)


def test_a_way_back_that_is_itself_taken_back_leaves_nobody_with_the_first_version(fleet: Fleet) -> None:
    first = rollouts.deploy(fleet.mia, fleet.new)
    for _ in range(3):
        portions.go_on(first.pk)
    fleet.obey()
    back = rollouts.roll_back_to(fleet.mia, fleet.old)
    rollouts.roll_back(fleet.mia, back)
    for _ in range(5):
        health.sweep()
    fleet.obey()
    # Nor with the second: also those that had begun to go to 1.0.0 return to what was before both.
    assert fleet.holding() == {"": 10}


def test_devices_of_an_experiment_follow_it_a_portion_at_a_time_and_go_back_with_it(fleet: Fleet) -> None:
    experiment = running(fleet)
    experiments.sweep()
    fleet.obey()
    rollout = experiments.promote(fleet.mia, experiment, "treatment", share=1_000)
    assert (rollout.installations.count(), portions.missing(rollout)) == (PORTION, 10 - PORTION)
    portions.go_on(rollout.pk)
    rollouts.roll_back(fleet.mia, rollout)
    for _ in range(5):
        health.sweep()
    fleet.obey()
    assert fleet.holding() == {"": 10}


def test_a_gate_that_closes_between_two_portions_stops_them(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    assert fleet.obey() == PORTION
    gates.set_policy(fleet.house.olga, fleet.model, size=5)
    portions.go_on(rollout.pk)
    assert (portions.missing(rollout), fleet.tasks()) == (0, [])
    rollouts.complete(fleet.mia, rollout)
    assert fleet.holding() == {"2.0.0": PORTION}


def test_devices_that_may_not_have_a_version_do_not_stand_before_those_that_may(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    for _ in range(3):
        portions.go_on(rollout.pk)
    gates.set_policy(fleet.house.olga, fleet.model, size=5)
    Installation.objects.filter(pk=Installation.objects.latest("pk").pk).update(installed=fleet.new)
    assert fleet.tasks() == []
    health.sweep()
    assert [task.device_id for task in fleet.tasks()] == [Installation.objects.latest("pk").device_id]
