"""What a killed process or a lost bell left undone is done by the sweeper; nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from fedportal.celery import app
from fedportal.common import blobs, clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from registry.models import ModelVersion
from registry.services import versions
from tests.protocol.wire import eventually
from tests.training.conftest import Stage, current
from training import lifecycle
from training.lifecycle import Lost
from training.models import Pulse, Round, Run, Update
from training.services import cohorts, finishing, healing, opening, outcomes, pulse, rounds
from training.services.lease import Lease

Hush = Callable[[], None]


def answered(stage: Stage, hush: Hush, **options: Any) -> tuple[Run, Round]:
    """A run whose first round is complete, but nobody heard the bell."""
    sites = stage.three()
    run = stage.start(**options)
    hush()
    for site in sites:
        site.answer()
    return run, current(run)


def aggregating(found: Round, lease: float) -> None:
    """A worker claimed the round and was killed; its claim holds for `lease` more seconds."""
    until = clock.now() + timedelta(seconds=lease)
    Round.objects.filter(pk=found.pk).update(state="aggregating", fence=1, lease_until=until)


def test_lost_bell_is_rung_again(stage: Stage, silent: Hush, bells: None) -> None:
    run, first = answered(stage, silent)
    assert first.state == "open"
    assert list(healing.due()) == [first.pk]
    rounds.settle(first.pk)
    assert current(run).number == 2


def test_sweep_rings_for_what_is_due(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start()
    app.conf.task_always_eager = False
    for site in sites:
        site.answer()
    assert current(run).number == 1
    app.conf.task_always_eager = True
    healing.sweep()
    assert current(run).number == 2


def test_overdue_round_is_due(stage: Stage) -> None:
    stage.three()
    run = stage.start(min_participants=3)
    assert list(healing.due()) == []
    with clock.shifted(timedelta(seconds=601)):
        assert list(healing.due()) == [current(run).pk]


def test_claim_of_a_killed_worker_is_taken_over_when_it_ran_out(stage: Stage, silent: Hush) -> None:
    run, first = answered(stage, silent)
    aggregating(first, lease=30)
    rounds.settle(first.pk)
    assert current(run) == first
    assert list(healing.due()) == []
    with clock.shifted(timedelta(seconds=31)):
        assert list(healing.due()) == [first.pk]
        rounds.settle(first.pk)
    first.refresh_from_db()
    assert (first.state, first.fence) == ("done", 2)
    assert current(run).number == 2


def test_claims_from_before_the_start_of_the_only_process_are_void(stage: Stage, silent: Hush) -> None:
    run, first = answered(stage, silent)
    aggregating(first, lease=30)
    healing.void_claims()
    rounds.settle(first.pk)
    assert current(run).number == 2


def test_worker_that_lost_its_claim_cannot_close_the_round(stage: Stage, silent: Hush) -> None:
    run, first = answered(stage, silent)
    slow = rounds._claim(first.pk)
    assert isinstance(slow, Round)
    outcome = outcomes.of(slow, lambda: None)
    with clock.shifted(timedelta(seconds=31)):
        rounds.settle(first.pk)
    before = list(run.rounds.values()), run.events.count()
    with pytest.raises(Lost):
        rounds._close(slow, outcome)
    assert (list(run.rounds.values()), run.events.count()) == before


def lost(lease: Lease) -> bool:
    """Whether somebody else has the claim now."""
    try:
        lease.check()
    except Lost:
        return True
    return False


def test_claim_is_renewed_while_the_work_goes_on(stage: Stage, silent: Hush, settings: Any) -> None:
    settings.FEDPORTAL_LEASE_SECONDS = 0.2
    _, first = answered(stage, silent)
    claimed = rounds._claim(first.pk)
    assert isinstance(claimed, Round)
    lease = Lease(claimed.pk, claimed.fence)
    before = Round.objects.get(pk=first.pk).lease_until
    with lease.held():
        eventually(lambda: Round.objects.get(pk=first.pk).lease_until > before)
        lease.check()
        Round.objects.filter(pk=first.pk).update(fence=9)
        eventually(lambda: lost(lease))


def test_run_whose_next_round_was_not_opened_goes_on(stage: Stage, silent: Hush, monkeypatch: Any) -> None:
    run, first = answered(stage, silent)
    claimed = rounds._claim(first.pk)
    assert isinstance(claimed, Round)
    rounds._close(claimed, outcomes.of(claimed, lambda: None))  # and here the process dies
    assert current(run) == first
    assert healing.without_a_round() == [run.pk]
    opening.advance(run.pk)
    assert current(run).number == 2
    assert healing.without_a_round() == []


def test_run_whose_version_was_not_published_is_completed_once(stage: Stage, silent: Hush) -> None:
    run, first = answered(stage, silent, rounds=1, config={"evaluate": False})
    claimed = rounds._claim(first.pk)
    assert isinstance(claimed, Round)
    rounds._close(claimed, outcomes.of(claimed, lambda: None))
    assert healing.without_a_round() == [run.pk]
    for _ in range(3):
        opening.advance(run.pk)
        finishing.complete(run.pk)
    run.refresh_from_db()
    assert run.state == "completed"
    assert ModelVersion.objects.filter(model=stage.model, origin="trained").count() == 1
    assert run.events.filter(kind="run.completed").count() == 1


def test_version_that_was_published_before_the_crash_is_found_again(stage: Stage, silent: Hush) -> None:
    run, first = answered(stage, silent, rounds=1, config={"evaluate": False})
    claimed = rounds._claim(first.pk)
    assert isinstance(claimed, Round)
    rounds._close(claimed, outcomes.of(claimed, lambda: None))
    first.refresh_from_db()
    version = versions.publish(
        stage.model, blob=first.result_blob, parent=run.base_version, source=f"{run.public_id}/last"
    )
    opening.advance(run.pk)
    run.refresh_from_db()
    assert run.result_version == version


def test_round_that_outlived_its_run_is_called_off(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start()
    Run.objects.filter(pk=run.pk).update(state="stopped")
    healing.sweep()
    assert (current(run).state, current(run).reason) == ("cancelled", "the run is over")
    assert not any(site.tasks() for site in sites)
    assert set(current(run).assignments.values_list("state", flat=True)) == {"expired"}


def test_downtime_is_given_back_to_rounds_and_tasks(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(min_participants=3)
    pulse.beat(after_start=False)
    deadline, task = current(run).deadline, sites[0].task
    with clock.shifted(timedelta(hours=2)):
        down = pulse.beat(after_start=True)
        assert timedelta(hours=2) <= down < timedelta(hours=2, seconds=5)
        assert list(healing.due()) == []
    task.refresh_from_db()
    assert current(run).deadline == deadline + down
    assert task.deadline == deadline + down


def test_usual_beats_extend_nothing(stage: Stage) -> None:
    stage.three()
    run = stage.start()
    pulse.beat(after_start=False)
    deadline = current(run).deadline
    with clock.shifted(timedelta(seconds=20)):
        assert pulse.beat(after_start=False) == timedelta()
    assert current(run).deadline == deadline
    assert Pulse.objects.count() == 1


def test_machine_that_slept_extends_deadlines_too(stage: Stage) -> None:
    run = stage.start()
    pulse.beat(after_start=False)
    deadline = current(run).deadline
    with clock.shifted(timedelta(hours=8)):
        pulse.beat(after_start=False)
    assert current(run).deadline > deadline + timedelta(hours=7)


def test_same_downtime_is_given_back_once(stage: Stage) -> None:
    run = stage.start()
    pulse.beat(after_start=False)
    with clock.shifted(timedelta(hours=1)):
        pulse.beat(after_start=True)
        deadline = current(run).deadline
        assert pulse.beat(after_start=True) < timedelta(seconds=5)
    assert current(run).deadline - deadline < timedelta(seconds=5)


def test_devices_that_were_there_before_the_downtime_are_asked_right_after_it(stage: Stage, silent: Hush) -> None:
    """Otherwise a restart would shrink the cohort to whoever came back first."""
    run, first = answered(stage, silent)
    pulse.beat(after_start=False)
    with clock.shifted(timedelta(hours=1)):
        pulse.beat(after_start=True)
        rounds.settle(first.pk)
        assert current(run).assignments.count() == 3
    with clock.shifted(timedelta(hours=1, minutes=5)):
        assert cohorts.available(run) == []


def test_damaged_file_fails_the_attempt_after_some_claims(stage: Stage, silent: Hush) -> None:
    _, first = answered(stage, silent)
    blobs.path(Update.objects.filter(round=first)[0].blob).unlink()
    for claim in range(rounds.MOST_CLAIMS - 1):
        with clock.shifted(timedelta(minutes=claim)), pytest.raises(FileNotFoundError):
            rounds.settle(first.pk)
    with clock.shifted(timedelta(hours=1)):
        rounds.settle(first.pk)
    first.refresh_from_db()
    assert first.state == "failed"
    assert first.reason == "the file of the update of acme-1 of acme was lost or damaged on the portal"


def test_full_disk_leaves_the_round_for_later(stage: Stage, silent: Hush, monkeypatch: Any) -> None:
    run, first = answered(stage, silent)
    monkeypatch.setattr(blobs, "RESERVE_SHARE", 1)
    monkeypatch.setattr(blobs, "RESERVE_BYTES", 1 << 60)
    with pytest.raises(FedportalError, match="disk"):
        rounds.settle(first.pk)
    monkeypatch.undo()
    first.refresh_from_db()
    assert first.state == "aggregating"
    with clock.shifted(timedelta(seconds=31)):
        rounds.settle(first.pk)
    assert current(run).number == 2


def test_many_racers_close_a_round_once(stage: Stage, silent: Hush) -> None:
    run, first = answered(stage, silent)
    for _ in range(20):
        rounds.settle(first.pk)
    first.refresh_from_db()
    assert (first.state, first.fence) == ("done", 1)
    assert run.events.filter(kind="round.done").count() == 1


def test_only_moves_of_the_table_are_made(stage: Stage) -> None:
    run = stage.start()
    Run.objects.filter(pk=run.pk).update(state="completed")
    with unit():
        assert lifecycle.move(Run.objects.filter(pk=run.pk), "running") == 0
        with pytest.raises(Lost):
            lifecycle.move_one(Run.objects.filter(pk=run.pk), "failed")


def test_states_do_not_move_outside_a_unit(stage: Stage) -> None:
    with pytest.raises(RuntimeError):
        lifecycle.move(Run.objects.all(), "stopped")
