"""What may go wrong around a run: people who interfere at a bad moment, keys that end, clocks that jump."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from federations.models import Device, DeviceKey, Person
from federations.services import devices as device_services
from federations.services import federations as federation_services
from federations.services import organizations
from fedportal.celery import app
from fedportal.common import clock, faults
from fedwire.errors import FedportalError
from registry.models import ModelVersion
from tests.training.conftest import Stage, current, rewind
from training.lifecycle import Lost
from training.models import Assignment, Round, Run, Update
from training.services import healing, opening, outcomes, pulse, rounds, runs

Hush = Callable[[], None]


def staff() -> Person:
    """The portal's operator."""
    return Person.objects.create_user("operator@portal.example", "a long pass phrase", is_staff=True)


def states(found: Round) -> dict[str, str]:
    """Device → how its part stands."""
    return dict(found.assignments.values_list("device__identifier", "state"))


def at_point(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], object]) -> None:
    """Let `act` happen the first time that the marked point is passed."""
    waiting = [act]

    def pass_by(point: str) -> None:
        if point == name and waiting:
            waiting.pop()()

    monkeypatch.setattr(faults, "point", pass_by)


# --- people ----------------------------------------------------------------------------------------------------------


def test_run_that_is_stopped_at_its_very_end_publishes_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    site = stage.site(stage.cast.metro, "metro-1")
    run = stage.start(rounds=1, config={"evaluate": False})
    at_point(monkeypatch, "before_version", lambda: runs.stop(stage.olga, Run.objects.get(pk=run.pk)))
    site.answer()
    run.refresh_from_db()
    assert (run.state, run.result_version) == ("stopped", None)
    assert not ModelVersion.objects.filter(model=stage.model, origin="trained").exists()


def test_run_that_has_published_cannot_be_stopped_any_more(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []

    def stop() -> None:
        with pytest.raises(FedportalError) as error:
            runs.stop(stage.olga, Run.objects.get(pk=run.pk))
        refused.append(error.value.code)

    site = stage.site(stage.cast.metro, "metro-1")
    run = stage.start(rounds=1, config={"evaluate": False})
    at_point(monkeypatch, "after_end", stop)
    site.answer()
    run.refresh_from_db()
    assert (run.state, refused) == ("completed", ["wrong_state"])
    assert run.result_version is not None


def test_run_that_is_paused_while_a_round_is_computed_goes_on_from_there(stage: Stage, silent: Hush) -> None:
    site = stage.site(stage.cast.metro, "metro-1")
    run = stage.start()
    silent()
    site.answer()
    claimed = rounds._claim(current(run).pk)
    assert isinstance(claimed, Round)
    outcome = outcomes.of(claimed, lambda: None)
    runs.pause(stage.olga, run)
    rounds._close(claimed, outcome)
    assert opening.advance(run.pk) is None
    assert (current(run).number, current(run).state) == (1, "done")
    runs.resume(stage.olga, run)
    assert (current(run).number, current(run).base_blob) == (2, outcome.blob)


def test_run_that_is_stopped_while_a_round_is_computed_stays_stopped(stage: Stage, silent: Hush) -> None:
    site = stage.site(stage.cast.metro, "metro-1")
    run = stage.start()
    silent()
    site.answer()
    first = current(run)
    claimed = rounds._claim(first.pk)
    assert isinstance(claimed, Round)
    runs.stop(stage.olga, run)
    assert rounds._settle_one(first.pk) is None
    with pytest.raises(Lost):
        rounds._close(claimed, outcomes.of(claimed, lambda: None))
    run.refresh_from_db()
    first.refresh_from_db()
    assert (run.state, first.state, first.result_blob) == ("stopped", "cancelled", "")


def test_resumed_run_with_nobody_left_to_measure_its_model_ends_at_once(stage: Stage) -> None:
    site = stage.site(stage.cast.metro, "metro-1")
    run = stage.start(rounds=1)
    runs.pause(stage.olga, run)
    site.answer()
    site.vanish()
    runs.resume(stage.olga, run)
    run.refresh_from_db()
    assert run.state == "completed"


def test_run_whose_federation_is_dissolved_ends(stage: Stage) -> None:
    site = stage.site(stage.cast.acme, "acme-1")
    run = stage.start()
    federation_services.dissolve(stage.olga, stage.cast.federation)
    healing.sweep()
    run.refresh_from_db()
    assert run.state == "failed"
    assert run.reason == "The federation healthcare-consortium was dissolved."
    assert site.tasks() == []


def test_run_whose_starter_left_the_federation_ends_even_if_paused(stage: Stage) -> None:
    mia = stage.cast.actor("mia")
    run = stage.start()
    Run.objects.filter(pk=run.pk).update(organization=stage.cast.metro)
    runs.pause(stage.olga, run)
    federation_services.leave(mia, stage.cast.federation)
    healing.sweep()
    run.refresh_from_db()
    assert (run.state, run.reason) == ("failed", "metro, which started the run, is not in the federation any more.")


def test_run_of_a_suspended_organization_opens_no_round_until_it_is_reinstated(stage: Stage) -> None:
    cast = stage.cast
    first, _, third = stage.three()
    run = stage.start(min_participants=1)
    operator = staff()
    organizations.suspend(operator, cast.acme)
    third.answer()
    healing.sweep()
    assert (current(run).number, current(run).state) == (1, "done")
    assert healing.without_a_round() == []
    assert stage.snapshot(run)["round"]["waiting"]["sentence"] == (
        "acme, which started this run, is suspended. Once it is reinstated, the next round opens."
    )
    organizations.reinstate(operator, cast.acme)
    assert stage.snapshot(run)["round"]["waiting"] is None
    first.seen()
    healing.sweep()
    assert current(run).number == 2
    assert first.task.content["round"] == 2


# --- devices ---------------------------------------------------------------------------------------------------------


def test_suspended_organization_is_waited_for_no_longer(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(min_participants=2)
    third.take()
    first.answer()
    second.answer()
    organizations.suspend(staff(), stage.cast.metro)
    healing.sweep()
    assert current(run).number == 2
    assert third.tasks() == []
    assert states(run.rounds.get(number=1))["metro-1"] == "expired"


def test_device_whose_key_ran_out_in_the_middle_answers_with_its_next_one(stage: Stage) -> None:
    """It registers again by itself, so the round waits for it."""
    first, second, third = stage.three()
    run = stage.start(min_participants=2)
    task = third.take()
    DeviceKey.objects.filter(device=third.device).update(expires_at=clock.now() - timedelta(seconds=1))
    first.answer()
    second.answer()
    healing.sweep()
    assert states(current(run)) == {"acme-1": "submitted", "acme-2": "submitted", "metro-1": "training"}
    device_services.rotate(third.device)
    third.answer(task)
    assert Update.objects.filter(round__number=1).count() == 3
    assert current(run).number == 2


def test_device_that_was_reset_in_the_middle_is_waited_for_no_longer(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(min_participants=2)
    third.take()
    device_services.reset(stage.cast.actor("mia"), third.device)
    first.answer()
    second.answer()
    healing.sweep()
    assert current(run).number == 2
    part = Assignment.objects.get(round__number=1, device=third.device)
    assert (part.state, part.reason) == ("expired", healing.GONE)


def test_round_that_all_have_left_says_so_and_ends_at_its_deadline(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(min_participants=2)
    for site in sites:
        site.take()
        Device.objects.filter(pk=site.device.pk).update(state="quarantined")
    healing.sweep()
    assert set(states(current(run)).values()) == {"expired"}
    waiting = stage.snapshot(run)["round"]["waiting"]
    assert (waiting["have"], waiting["need"], waiting["for"]) == (0, 2, ["acme", "metro"])
    rewind(run)
    healing.sweep()
    run.refresh_from_db()
    assert run.state == "failed"
    assert run.reason.startswith("3 of the 3 devices that began are gone: ")


# --- clocks ----------------------------------------------------------------------------------------------------------


def test_deadline_that_passed_during_a_downtime_counts_only_when_that_was_given_back(stage: Stage) -> None:
    """A worker that starts before the sweeper must not throw out everybody who could not answer meanwhile."""
    stage.three()
    run = stage.start(min_participants=2)
    pulse.beat(after_start=False)
    with clock.shifted(timedelta(hours=2)):
        rounds.settle(current(run).pk)
        assert (current(run).attempt, current(run).state) == (1, "open")
        pulse.beat(after_start=True)
        rounds.settle(current(run).pk)
        assert (current(run).attempt, current(run).state) == (1, "open")
        assert set(states(current(run)).values()) == {"offered"}


def test_deadline_counts_while_the_sweeper_sweeps(stage: Stage) -> None:
    stage.three()
    run = stage.start(min_participants=2)
    with clock.shifted(timedelta(hours=2)):
        pulse.beat(after_start=False)
        rounds.settle(current(run).pk)
        assert current(run).attempt == 2


def test_clock_that_is_put_back_does_not_prolong_rounds_claims_and_presence(stage: Stage, silent: Hush) -> None:
    first, second, _ = stage.three()
    run = stage.start(min_participants=2)
    other = stage.start(min_participants=1)
    silent()
    Round.objects.filter(run=other).update(state="aggregating", fence=1, lease_until=clock.now() + timedelta(seconds=9))
    pulse.beat(after_start=False)
    deadline, task = current(run).deadline, first.tasks()[0]
    with clock.shifted(timedelta(hours=-1)):
        assert timedelta(hours=-1) <= pulse.beat(after_start=False) < timedelta(minutes=-59)
        assert abs(deadline - timedelta(hours=1) - current(run).deadline) < timedelta(seconds=5)
        task.refresh_from_db()
        assert task.deadline == current(run).deadline
        assert Device.objects.get(pk=second.device.pk).last_seen_at <= clock.now()
    with clock.shifted(timedelta(minutes=-59)):
        assert list(healing.due()) == [current(other).pk]


# --- what must not stop the others -----------------------------------------------------------------------------------


def test_run_that_cannot_be_healed_does_not_hold_up_the_others(stage: Stage, silent: Hush, bells: None) -> None:
    broken = stage.start(min_participants=5)
    site = stage.site(stage.cast.metro, "metro-1")
    sound = stage.start(min_participants=1)
    Run.objects.filter(pk=broken.pk).update(config={})
    silent()
    site.answer()
    with pytest.raises(KeyError):
        opening.fill(current(broken).pk)
    assert list(healing.due()) == [current(sound).pk]
    app.conf.task_always_eager = True
    healing.sweep()
    assert current(sound).number == 2


def test_answers_that_cannot_be_computed_fail_the_attempt_after_some_claims(stage: Stage, silent: Hush) -> None:
    sites = stage.three()
    run = stage.start()
    silent()
    for site in sites:
        site.answer()
    first = current(run)
    Update.objects.filter(round=first).update(answer={"evaluation": {"samples": 3}})
    for claim in range(rounds.MOST_CLAIMS - 1):
        with clock.shifted(timedelta(minutes=claim)), pytest.raises(KeyError):
            rounds.settle(first.pk)
    with clock.shifted(timedelta(hours=1)):
        rounds.settle(first.pk)
    first.refresh_from_db()
    assert (first.state, first.reason) == ("failed", "this round cannot be computed (KeyError)")
    assert current(run).attempt == 2
