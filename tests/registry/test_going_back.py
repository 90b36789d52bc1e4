"""What goes back, and to what: never what others have followed, and never to a version that was taken back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fedportal.common import clock
from fedwire.states import RolloutState
from registry.models import Installation, Rollout
from registry.services import experiments, health, portions, rollouts
from tests.registry.conftest import House, refusal
from tests.registry.test_experiments import running
from tests.registry.test_rollouts import FAILING, Fleet, version


@pytest.fixture
def fleet(house: House) -> Fleet:
    return Fleet(house)


def completed(fleet: Fleet) -> Rollout:
    """A rollout of 1.0.0 that is done, and of which bad reports have come since."""
    rollout = rollouts.deploy(fleet.mia, fleet.old, error_rate=0.1)
    fleet.obey()
    rollout = rollouts.complete(fleet.mia, rollout)
    fleet.report(fleet.old, **FAILING)
    return rollout


def stays(rollout: Rollout) -> bool:
    """Whether a worker that was rung for judges it and leaves it as it is."""
    went = health.look_at(rollout.pk)
    rollout.refresh_from_db()
    return not went and rollout.state == RolloutState.COMPLETED


def test_a_bad_report_takes_back_what_was_completed_lately(fleet: Fleet) -> None:
    assert not stays(completed(fleet))


@pytest.mark.parametrize("follower", ["rollout", "experiment"])
def test_a_bad_report_does_not_take_back_what_was_followed(fleet: Fleet, follower: str) -> None:
    before = completed(fleet)
    if follower == "rollout":
        rollouts.deploy(fleet.mia, fleet.new, share=1_000)
    else:
        experiments.create(fleet.mia, fleet.new, control=fleet.old, start_now=True)
    assert stays(before)
    # Nor does who looked just before the other began.
    assert not rollouts.go_back("portal", before, "80 of 200 predictions failed")
    assert refusal(rollouts.roll_back, fleet.mia, before).code == "wrong_state"


def test_a_bad_report_does_not_take_back_what_is_watched_no_longer(fleet: Fleet) -> None:
    before = completed(fleet)
    Rollout.objects.update(completed_at=clock.now() - health.WATCHED_FOR - timedelta(hours=1))
    assert stays(before)


def goes_back_to(fleet: Fleet) -> set[str]:
    """To which versions the devices would return; "" for none."""
    found = Installation.objects.select_related("previous")
    return {row.previous.version if row.previous else "" for row in found}


def test_what_follows_a_rollback_does_not_return_to_the_version_that_was_taken_back(fleet: Fleet) -> None:
    """Also on devices that were away all the time between."""
    rollouts.complete(fleet.mia, rollouts.deploy(fleet.mia, fleet.old))
    fleet.obey()
    bad = rollouts.deploy(fleet.mia, fleet.new)
    fleet.obey()
    rollouts.roll_back(fleet.mia, bad)
    third = rollouts.deploy(fleet.mia, version(fleet.model, 3))
    assert goes_back_to(fleet) == {"1.0.0"}
    fleet.obey()
    rollouts.roll_back(fleet.mia, third)
    fleet.obey()
    assert fleet.holding() == {"1.0.0": 10}


def test_an_experiment_after_a_stopped_one_returns_to_what_was_before_both(fleet: Fleet) -> None:
    experiments.stop(fleet.mia, running(fleet))
    third = version(fleet.model, 3)
    again = experiments.create(fleet.mia, third, control=fleet.old, start_now=True)
    assert (again.participants.count(), goes_back_to(fleet)) == (10, {""})
    experiments.stop(fleet.mia, again)
    rollouts.deploy(fleet.mia, third)
    assert goes_back_to(fleet) == {""}


def test_a_rollout_after_a_stopped_experiment_returns_to_what_was_before_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on devices whose turn to give an arm's version back had not come."""
    monkeypatch.setattr(portions, "PORTION", 3)
    experiment = experiments.create(fleet.mia, fleet.new, control=fleet.old, start_now=True)
    experiments.sweep()
    fleet.obey()
    experiments.stop(fleet.mia, experiment)
    rollout = rollouts.deploy(fleet.mia, version(fleet.model, 3))
    portions.finish(rollout)
    assert goes_back_to(fleet) == {""}
