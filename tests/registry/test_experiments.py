"""Experiments: who is in which arm, what reports show, and what starting, stopping and promoting do, once and twice."""

from __future__ import annotations

from collections import Counter

import pytest

from federations.models import AuditEntry, Device, News
from federations.services import device_groups, device_tasks
from fedwire.states import DeviceState, ExperimentState, RolloutState
from registry.delivery import placement
from registry.models import Experiment, HealthReport, Installation, Participant, Rollout
from registry.services import arms, experiments, health, portions, rollouts
from tests.registry.conftest import House, refusal
from tests.registry.test_rollouts import Fleet, more_devices, version


@pytest.fixture
def fleet(house: House) -> Fleet:
    return Fleet(house)


def running(fleet: Fleet, **more: object) -> Experiment:
    """An experiment whose devices have all done what they were asked to."""
    made = experiments.create(fleet.mia, fleet.new, control=fleet.old, **more)  # type: ignore[arg-type]
    experiments.start(fleet.mia, made)
    fleet.obey()
    made.refresh_from_db()
    return made


def arm_of(experiment: Experiment) -> dict[str, str]:
    return dict(experiment.participants.values_list("device__identifier", "arm"))


def names(fleet: Fleet) -> list[str]:
    return [device.public_id for device in fleet.devices]


def actions(subject: str) -> list[str]:
    found = AuditEntry.objects.filter(subject=subject).order_by("pk")
    return list(found.values_list("action", flat=True))


def test_every_device_is_in_one_arm_and_holds_its_version(fleet: Fleet) -> None:
    experiment = running(fleet)
    placed = arm_of(experiment)
    assert Counter(placed.values()) == {"control": 5, "treatment": 5}
    held = dict(Installation.objects.values_list("device__identifier", "installed__version"))
    assert held == {name: "2.0.0" if arm == "treatment" else "1.0.0" for name, arm in placed.items()}
    assert actions(experiment.public_id) == ["experiment.created", "experiment.started"]


def test_who_has_an_arm_keeps_it_and_who_comes_later_gets_one(fleet: Fleet) -> None:
    experiment = running(fleet, share=3_000)
    before = arm_of(experiment)
    more_devices(fleet.house.metro, 10)
    experiments.sweep()
    experiments.sweep()
    assert fleet.obey() == 10
    after = arm_of(experiment)
    assert before.items() < after.items()
    assert len(after) == Participant.objects.count() == 20
    assert Counter(after.values())["treatment"] in (6, 7)
    assert not Participant.objects.exclude(device__organization=fleet.house.metro).exists()


def test_an_experiment_of_a_group_leaves_the_others_alone(fleet: Fleet) -> None:
    device_groups.assign(fleet.mia, fleet.house.metro, fleet.devices[:4], add="production")
    group = fleet.devices[0].groups.get()
    experiment = running(fleet, group=group)
    assert sum(Counter(arm_of(experiment).values()).values()) == Installation.objects.count() == 4
    experiments.promote(fleet.mia, experiment, "treatment")
    fleet.obey()
    assert fleet.holding() == {"2.0.0": 4}


def test_what_devices_report_is_summed_once_in_their_arm(fleet: Fleet) -> None:
    experiment = running(fleet)
    assert fleet.report(fleet.new, count=10, errors=1, judged=8, right=6) == 5
    assert fleet.report(fleet.new, count=10, errors=1, judged=8, right=6) == 0
    HealthReport.objects.all().delete()  # as after a week
    found = arms.conclusion(experiment)
    assert (found.treatment.count, found.treatment.estimate, found.control.count) == (40, 0.75, 0)
    assert arms.conclusion(experiment, "error_rate").treatment.count == 50


def test_equal_arms_give_no_difference_yet(fleet: Fleet) -> None:
    experiment = running(fleet)
    for number in range(5):
        for held in (fleet.old, fleet.new):
            fleet.report(held, f"{held.version}-{number}", count=100, judged=100, right=80)
        experiments.sweep()
    experiment.refresh_from_db()
    assert (experiment.state, experiment.winner) == (ExperimentState.RUNNING, "")
    assert refusal(experiments.promote, fleet.mia, experiment).code == "no_winner"
    assert Rollout.objects.count() == 0


def test_a_planted_difference_is_found_once_and_stays_found(fleet: Fleet) -> None:
    experiment = running(fleet)
    fleet.report(fleet.old, "old", count=100, judged=100, right=70)
    fleet.report(fleet.new, "new", count=100, judged=100, right=90)
    experiments.sweep()
    experiments.sweep()
    experiment.refresh_from_db()
    assert experiment.winner == "treatment"
    assert experiment.found_at is not None
    assert actions(experiment.public_id).count("experiment.decided") == 1
    assert "found version 2.0.0 to be better" in News.objects.get(kind="experiment.decided").sentence
    fleet.report(fleet.old, "later", count=900, judged=900, right=850)
    experiments.sweep()
    experiment.refresh_from_db()
    assert (experiment.winner, arms.conclusion(experiment).better) == ("treatment", "")


def test_stopping_gives_every_device_what_it_had(fleet: Fleet) -> None:
    rollouts.complete(fleet.mia, rollouts.deploy(fleet.mia, fleet.old, share=3_000))
    fleet.obey()
    experiment = running(fleet)
    assert fleet.holding() == {"1.0.0": 5, "2.0.0": 5}
    stopped = experiments.stop(fleet.mia, experiment, "enough")
    assert (stopped.state, stopped.reason, stopped.restored_at) == (ExperimentState.STOPPED, "enough", None)
    assert experiments.stop(fleet.mia, experiment).reason == "enough"
    assert fleet.obey() > 0
    assert fleet.holding() == {"1.0.0": 3, "": 7}
    experiment.refresh_from_db()
    assert experiment.restored_at is not None
    assert actions(experiment.public_id).count("experiment.stopped") == 1
    # What devices report now is of no arm.
    fleet.report(fleet.old, count=10, judged=10)
    assert arms.conclusion(experiment).control.count == 0
    assert refusal(experiments.start, fleet.mia, experiment).code == "wrong_state"


def test_stopping_reaches_devices_that_are_at_it_or_away(fleet: Fleet) -> None:
    experiment = experiments.create(fleet.mia, fleet.new, control=fleet.old)
    experiments.start(fleet.mia, experiment)
    task = fleet.tasks()[0]
    device_tasks.note_taken([task.pk])
    experiments.stop(fleet.mia, experiment)
    error = refusal(device_tasks.answer, task.device_id, task.public_id, b'{"samples": 0}')
    assert error.code == "task_closed"
    Device.objects.filter(pk=fleet.devices[0].pk).update(state=DeviceState.REVOKED)
    fleet.obey()
    experiments.sweep()
    experiment.refresh_from_db()
    assert experiment.restored_at is not None
    assert fleet.holding() == {"": 10}


def test_an_arm_that_fails_too_often_stops_the_experiment_once(fleet: Fleet) -> None:
    experiment = running(fleet, error_rate=0.1)
    fleet.report(fleet.new, count=100, errors=40)
    experiments.sweep()
    experiments.sweep()
    experiment.refresh_from_db()
    assert experiment.state == ExperimentState.STOPPED
    assert experiment.reason == "2.0.0 (treatment): 200 of 500 predictions failed"
    assert experiment.crossed_at is not None
    assert "was stopped by itself: 2.0.0 (treatment)" in News.objects.get(kind="experiment.stopped").sentence
    assert actions(experiment.public_id).count("experiment.stopped") == 1
    assert fleet.obey() == 10
    assert fleet.holding() == {"": 10}


def test_an_experiment_that_is_not_to_stop_goes_on(fleet: Fleet) -> None:
    experiment = running(fleet, error_rate=0.1, auto_stop=False)
    fleet.report(fleet.new, count=100, errors=40)
    experiments.sweep()
    experiment.refresh_from_db()
    assert experiment.state == ExperimentState.RUNNING


def test_promoting_makes_one_rollout_of_the_better_version(fleet: Fleet) -> None:
    experiment = running(fleet, metric="error_rate", error_rate=0.9)
    fleet.report(fleet.old, "old", count=100, errors=30)
    fleet.report(fleet.new, "new", count=100, errors=2)
    rollout = experiments.promote(fleet.mia, experiment)
    assert experiments.promote(fleet.mia, experiment).pk == rollout.pk
    assert experiments.promote(fleet.mia, experiment, "treatment").pk == rollout.pk
    assert refusal(experiments.promote, fleet.mia, experiment, "control").code == "wrong_state"
    assert Rollout.objects.count() == 1
    assert (rollout.version, rollout.error_rate, rollout.state) == (fleet.new, 0.9, RolloutState.ACTIVE)
    assert fleet.obey() == 5  # the others hold it
    assert fleet.holding() == {"2.0.0": 10}
    assert refusal(experiments.stop, fleet.mia, experiment).code == "wrong_state"


def test_a_promoted_version_that_is_rolled_back_leaves_what_was_before_the_experiment(fleet: Fleet) -> None:
    rollouts.complete(fleet.mia, rollouts.deploy(fleet.mia, fleet.old))
    fleet.obey()
    rollout = experiments.promote(fleet.mia, running(fleet), "treatment")
    fleet.obey()
    rollouts.roll_back(fleet.mia, rollout)
    fleet.obey()
    assert fleet.holding() == {"1.0.0": 10}


def test_a_promotion_to_a_share_takes_the_devices_of_the_experiment_first(fleet: Fleet) -> None:
    experiment = running(fleet)
    more_devices(fleet.house.metro, 10)
    rollout = experiments.promote(fleet.mia, experiment, "control", share=6_000)
    fleet.obey()
    assert fleet.holding() == {"1.0.0": 12}
    assert rollout.installations.count() == 12


def test_one_experiment_or_rollout_of_a_model_is_on_its_way(fleet: Fleet) -> None:
    first = rollouts.deploy(fleet.mia, fleet.old)
    fleet.obey()
    second = experiments.create(fleet.mia, fleet.new, control=fleet.old)
    assert refusal(experiments.start, fleet.mia, second).code == "wrong_state"
    rollouts.complete(fleet.mia, first)
    experiments.start(fleet.mia, second)
    third = experiments.create(fleet.mia, version(fleet.model, 3))
    assert third.control == fleet.old  # what the last rollout left
    for act, of in ((experiments.start, third), (rollouts.deploy, fleet.new), (rollouts.roll_back_to, fleet.old)):
        assert "fedportal experiment stop" in refusal(act, fleet.mia, of).next_step
    assert refusal(rollouts.roll_back, fleet.mia, first).code == "wrong_state"
    # acme's own devices are another matter.
    assert rollouts.deploy(fleet.house.olga, fleet.old).organization == fleet.house.acme
    experiments.stop(fleet.mia, second)
    assert experiments.start(fleet.mia, third).state == ExperimentState.RUNNING


def test_a_rollout_after_a_stop_goes_back_to_what_was_before_the_experiment(fleet: Fleet) -> None:
    """Also on devices that were away all the time between."""
    rollouts.complete(fleet.mia, rollouts.deploy(fleet.mia, fleet.old))
    fleet.obey()
    experiments.stop(fleet.mia, running(fleet))
    rollout = rollouts.deploy(fleet.mia, version(fleet.model, 3))
    fleet.obey()
    rollouts.roll_back(fleet.mia, rollout)
    fleet.obey()
    assert fleet.holding() == {"1.0.0": 10}


def test_an_experiment_ends_the_watch_over_the_rollout_before(fleet: Fleet) -> None:
    before = rollouts.deploy(fleet.mia, fleet.old, error_rate=0.1)
    fleet.obey()
    fleet.report(fleet.old, "bad", count=100, errors=40)
    rollouts.complete(fleet.mia, before)
    running(fleet)
    health.sweep()
    before.refresh_from_db()
    assert before.state == RolloutState.COMPLETED


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"share": 0}, "treatment_percentage"),
        ({"share": 10_000}, "treatment_percentage"),
        ({"metric": "beauty"}, "metric"),
        ({"planned": 0}, "planned"),
        ({"name": "x" * 61}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"error_rate": 2.0}, "error_rate"),
    ],
)
def test_a_plan_is_checked(fleet: Fleet, said: dict[str, object], field: str) -> None:
    error = refusal(experiments.create, fleet.mia, fleet.new, control=fleet.old, **said)
    assert error.context["field"] == field


def test_both_arms_need_a_version_of_one_model(fleet: Fleet) -> None:
    assert refusal(experiments.create, fleet.mia, fleet.new).context["field"] == "control"
    assert refusal(experiments.create, fleet.mia, fleet.new, control=fleet.new).context["field"] == "treatment"


def test_who_may_experiment(fleet: Fleet) -> None:
    experiment = running(fleet)
    assert refusal(experiments.create, fleet.house.otto, fleet.new, control=fleet.old).code == "forbidden"
    assert refusal(experiments.create, fleet.house.rex, fleet.new, control=fleet.old).code == "not_found"
    for act in (experiments.start, experiments.stop, experiments.promote):
        assert refusal(act, fleet.house.otto, experiment).code == "forbidden"


def test_thousands_of_devices_are_asked_a_portion_at_a_time(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "PORTION", 3)
    experiment = experiments.create(fleet.mia, fleet.new, control=fleet.old)
    experiments.start(fleet.mia, experiment)
    assert fleet.obey() == 3
    experiments.sweep()
    assert fleet.obey() == 7
    at_once = placement.arms(experiment.public_id, fleet.house.metro.public_id, names(fleet), experiment.share, {})
    placed = dict(experiment.participants.values_list("device__public_id", "arm"))
    assert placed == at_once
    experiments.stop(fleet.mia, experiment)
    assert fleet.obey() == 3
    experiment.refresh_from_db()
    assert experiment.restored_at is None
    experiments.sweep()
    assert fleet.obey() == 7
    experiments.sweep()
    experiment.refresh_from_db()
    assert experiment.restored_at is not None
