"""Rounds by a plan: whom they ask, when they close, who is told what, and what they wait for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from federations.models import Member
from federations.services import federations as federation_services
from fedportal.common import clock
from fedwire.errors import FedportalError
from registry.services import versions
from tests.training.conftest import Site, Stage, current, rewind
from training import wording
from training.models import Assignment, Round, Run
from training.services import healing, keeping, opening, rounds, runs, starters

Hush = Callable[[], None]
TRAIN_ONLY = {"evaluate": False}


def many(stage: Stage, acme: int, metro: int) -> list[Site]:
    """So many devices of each."""
    cast = stage.cast
    return [
        *[stage.site(cast.acme, f"acme-{one:02}", 10 + one) for one in range(acme)],
        *[stage.site(cast.metro, f"metro-{one:02}", 10 + one) for one in range(metro)],
    ]


def asked(found: Round) -> Counter[str]:
    """Organization → how many of its devices the round asked."""
    return Counter(found.assignments.values_list("organization__name", flat=True))


def at_work(sites: list[Site]) -> list[Site]:
    """Those that have something to do."""
    return [site for site in sites if site.tasks()]


def cards(stage: Stage, run: Run) -> Counter[str]:
    """Word → how many cards of the page say so."""
    return Counter(card["word"] for card in stage.snapshot(run)["participants"])


def reasons(found: Round) -> set[str]:
    """Why parts of the round came to nothing."""
    return set(found.assignments.exclude(state="submitted").values_list("reason", flat=True))


# --- whom a round asks -----------------------------------------------------------------------------------------------


def test_a_round_asks_so_many_of_those_that_are_there(stage: Stage) -> None:
    many(stage, 6, 6)
    run = stage.start(min_participants=3, plan={"sample": 5})
    assert (current(run).target, current(run).assignments.count()) == (5, 5)
    assert run.events.get(kind="round.opened").data["count"] == 5


def test_a_fraction_is_one_of_those_that_are_there(stage: Stage) -> None:
    many(stage, 6, 6)
    run = stage.start(plan={"sample": 0.25})
    assert current(run).assignments.count() == 3


def test_the_same_seed_draws_the_same_and_each_round_and_attempt_draws_anew(stage: Stage) -> None:
    sites = many(stage, 8, 8)
    runs_ = [stage.start(min_participants=3, plan={"sample": 4}) for _ in range(2)]
    drawn = [set(current(run).assignments.values_list("device", flat=True)) for run in runs_]
    assert drawn[0] == drawn[1]
    assert current(runs_[0]).assignments.count() == 4
    rewind(runs_[0])
    rounds.settle(current(runs_[0]).pk)
    assert current(runs_[0]).attempt == 2
    assert set(current(runs_[0]).assignments.values_list("device", flat=True)) != drawn[0]
    assert len(sites) == 16


def test_quota_and_cap_hold_in_every_round(stage: Stage) -> None:
    sites = many(stage, 8, 2)
    run = stage.start(rounds=4, min_participants=4, config=TRAIN_ONLY, plan={"sample": 5, "quota": 2, "cap": 3})
    while run.state == "running":
        assert asked(current(run)) == {"acme": 3, "metro": 2}
        for site in at_work(sites):
            site.answer()
        run.refresh_from_db()
    assert run.state == "completed"


def test_a_cap_limits_also_a_round_that_asks_everybody(stage: Stage) -> None:
    many(stage, 4, 1)
    run = stage.start(plan={"cap": 2})
    assert asked(current(run)) == {"acme": 2, "metro": 1}
    late = stage.site(stage.cast.acme, "acme-late")
    late.arrive()
    assert late.tasks() == []


# --- quotas ----------------------------------------------------------------------------------------------------------


def test_a_round_waits_for_the_quota_and_says_for_whom(stage: Stage) -> None:
    sites = many(stage, 3, 2)
    sites[4].vanish()
    run = stage.start(min_participants=3, plan={"quota": 2})
    waiting = stage.snapshot(run)["round"]["waiting"]
    assert waiting["sentence"].startswith("Waiting for 1 more device of metro (metro has 1 of 2 there) until ")
    assert waiting["for"] == ["metro"]
    assert stage.snapshot(run)["run"]["word"] == "waiting"
    for site in sites[:4]:
        site.answer()
    assert current(run).state == "open"
    sites[4].arrive()
    assert sites[4].task.content["round"] == 1
    assert stage.snapshot(run)["round"]["waiting"] is None
    sites[4].answer()
    assert current(run).number == 2


def test_only_devices_of_those_that_lack_some_are_let_in(stage: Stage) -> None:
    many(stage, 3, 1)
    run = stage.start(min_participants=3, plan={"quota": 2})
    other, wanted = stage.site(stage.cast.acme, "acme-late"), stage.site(stage.cast.metro, "metro-late")
    other.arrive()
    assert other.tasks() == []
    wanted.arrive()
    assert wanted.task.content["run"] == run.public_id
    assert opening.short_of_devices() == []


def test_a_member_without_any_device_is_not_asked_for(stage: Stage) -> None:
    stage.valley_joins()
    sites = many(stage, 1, 1)
    run = stage.start(min_participants=2, plan={"quota": 1})
    assert stage.snapshot(run)["round"]["waiting"] is None
    for site in sites:
        site.answer()
    assert current(run).number == 2


def test_below_the_quota_at_the_deadline_the_round_is_tried_again(stage: Stage) -> None:
    sites = many(stage, 3, 2)
    run = stage.start(min_participants=2, plan={"quota": 1})
    for site in sites[:3]:
        site.answer()
    rewind(run)
    rounds.settle(current(run).pk)
    first = run.rounds.get(number=1, attempt=1)
    assert (first.state, current(run).attempt) == ("failed", 2)
    assert first.reason == "0 of 1 devices of metro had answered at the deadline"


def test_an_organization_that_vanishes_is_waited_for_and_the_others_go_on_once_it_has_left(stage: Stage) -> None:
    sites = many(stage, 3, 1)
    run = stage.start(min_participants=2, round_seconds=7200, plan={"quota": 1})
    for site in sites[:3]:
        site.answer()
    sites[3].vanish()
    with clock.shifted(timedelta(minutes=20)):
        for site in sites[:3]:
            site.seen()
        healing.sweep()
        assert current(run).number == 1
        waiting = stage.snapshot(run)["round"]["waiting"]
        assert "metro has none available" in waiting["sentence"]
        federation_services.leave(stage.cast.actor("mia"), stage.cast.federation)
        healing.sweep()
    assert current(run).number == 2
    assert asked(current(run)) == {"acme": 3}


# --- when a round closes ---------------------------------------------------------------------------------------------


def test_a_quorum_cuts_off_the_others_and_nobody_is_to_blame(stage: Stage) -> None:
    sites = many(stage, 3, 2)
    run = stage.start(rounds=1, min_participants=4, config=TRAIN_ONLY, plan={"over_selection": 1.25})
    first = current(run)
    assert first.target == 5
    slow = sites[0]
    task = slow.take()
    for site in sites[1:]:
        site.answer()
    run.refresh_from_db()
    first.refresh_from_db()
    assert (run.state, first.state) == ("completed", "done")
    task.refresh_from_db()
    assert task.state == "cancelled"
    part = first.assignments.get(device=slow.device)
    assert (part.state, part.reason) == ("expired", wording.NOT_NEEDED)
    assert cards(stage, run) == {"sent": 4, "not needed": 1}
    with pytest.raises(FedportalError) as refused:
        slow.answer(task)
    assert refused.value.code == "task_closed"
    part.refresh_from_db()
    assert (part.state, part.reason) == ("expired", wording.NOT_NEEDED)  # late for nothing that was wanted
    assert [(row["updates"], row["expected"]) for row in stage.snapshot(run)["contributions"]] == [(2, 2), (2, 2)]


def test_the_same_set_of_answers_gives_the_same_digest(stage: Stage) -> None:
    sites, found, base = many(stage, 3, 2), [], versions.latest(stage.model)
    options = {"rounds": 1, "min_participants": 5, "config": TRAIN_ONLY, "version": base}
    for order in (sites, sites[::-1]):
        run = stage.start(plan={"stragglers": "cut"}, **options)
        for site in order:
            site.answer()
        found.append(run.rounds.get().digest)
    assert found[0] == found[1]


def test_grace_gives_the_others_a_while(stage: Stage) -> None:
    sites = many(stage, 3, 1)
    run = stage.start(rounds=1, min_participants=2, config=TRAIN_ONLY, plan={"grace_seconds": 30})
    sites[0].answer()
    assert current(run).enough_at is None
    sites[1].answer()
    first = current(run)
    assert first.enough_at is not None
    assert timedelta(seconds=25) < first.deadline - clock.now() <= timedelta(seconds=30)
    assert run.events.get(kind="round.enough").data["answers"] == 2
    assert sites[2].task.deadline == first.deadline  # so a device that asks again learns when the grace ends
    sites[2].answer()
    first.refresh_from_db()
    assert first.state == "open"
    with clock.shifted(timedelta(seconds=31)):
        rounds.settle(first.pk)
    run.refresh_from_db()
    assert run.state == "completed"
    assert cards(stage, run) == {"sent": 3, "not needed": 1}
    assert first.updates.count() == 3


def test_grace_ends_early_when_all_have_answered(stage: Stage) -> None:
    sites = many(stage, 2, 1)
    run = stage.start(min_participants=2, plan={"grace_seconds": 30})
    for site in sites:
        site.answer()
    assert current(run).number == 2


def test_grace_never_prolongs_a_round(stage: Stage) -> None:
    sites = many(stage, 2, 1)
    run = stage.start(min_participants=2, round_seconds=20, plan={"grace_seconds": 30})
    deadline = current(run).deadline
    for site in sites[:2]:
        site.answer()
    assert current(run).deadline == deadline


def test_sweeper_begins_and_ends_a_grace_that_no_answer_did(stage: Stage, silent: Hush) -> None:
    """The quota held the round up; its organization left."""
    sites = many(stage, 3, 1)
    run = stage.start(rounds=1, min_participants=2, config=TRAIN_ONLY, plan={"grace_seconds": 20, "quota": 1})
    for site in sites[:2]:
        site.answer()
    assert current(run).enough_at is None
    Member.objects.filter(organization=stage.cast.metro).update(state="left")
    healing.sweep()
    assert current(run).enough_at is not None
    with clock.shifted(timedelta(seconds=21)):
        healing.sweep()
    run.refresh_from_db()
    assert run.state == "completed"


def test_a_cut_that_nobody_rang_for_is_swept(stage: Stage, silent: Hush) -> None:
    sites = many(stage, 3, 1)
    run = stage.start(min_participants=2, plan={"stragglers": "cut"})
    silent()
    for site in sites[:2]:
        site.answer()
    assert list(healing.due()) == [current(run).pk]


def test_the_last_model_is_measured_by_all_that_are_asked(stage: Stage) -> None:
    sites = many(stage, 2, 2)
    run = stage.start(rounds=1, min_participants=1, plan={"stragglers": "cut"})
    sites[0].answer()
    assert current(run).kind == "evaluate"
    for site in sites[:3]:
        site.answer()
    assert current(run).state == "open"
    sites[3].answer()
    run.refresh_from_db()
    assert run.state == "completed"


# --- holes -----------------------------------------------------------------------------------------------------------


def test_a_hole_is_filled_by_the_next_of_the_draw_within_quota_and_cap(stage: Stage) -> None:
    sites = many(stage, 6, 3)
    run = stage.start(min_participants=3, plan={"sample": 4, "quota": 1, "cap": 3})
    first = at_work(sites)
    assert len(first) == 4
    first[0].decline()
    counting = current(run).assignments.exclude(state="declined")
    assert counting.count() == 4
    found = Counter(counting.values_list("organization__name", flat=True))
    assert all(1 <= found[name] <= 3 for name in ("acme", "metro"))


def test_who_drops_is_replaced_at_the_next_sweep(stage: Stage) -> None:
    sites = many(stage, 6, 3)
    run = stage.start(min_participants=3, plan={"sample": 4})
    gone = at_work(sites)[0]
    gone.vanish()
    Assignment.objects.filter(device=gone.device).update(offered_at=clock.now() - timedelta(days=1))
    healing.sweep()
    assert current(run).assignments.filter(state="offered").count() == 4
    assert current(run).assignments.get(device=gone.device).reason == healing.SILENT


def test_a_round_with_its_quorum_takes_nobody_in(stage: Stage) -> None:
    sites = many(stage, 4, 0)
    run = stage.start(min_participants=2, plan={"sample": 3})
    busy = at_work(sites)
    busy[0].answer()
    busy[1].answer()
    busy[2].decline()
    assert current(run).number == 2
    assert run.rounds.get(number=1).assignments.count() == 3


# --- who is gone -----------------------------------------------------------------------------------------------------


def test_who_was_not_drawn_or_not_needed_is_not_gone(stage: Stage) -> None:
    sites = many(stage, 5, 4)
    run = stage.start(rounds=9, min_participants=3, config=TRAIN_ONLY, plan={"over_selection": 1.3})
    for _ in range(5):
        for site in at_work(sites)[:3]:
            site.answer()
    run.refresh_from_db()
    assert (run.state, current(run).number) == ("running", 6)
    assert starters.why_over(run) == ""


@pytest.mark.parametrize("phase", ["before taking", "while training", "mid-upload", "after upload"])
def test_a_device_that_drops_at_any_point_does_not_stop_the_round(stage: Stage, phase: str) -> None:
    sites = many(stage, 3, 1)
    run = stage.start(rounds=1, min_participants=3, config=TRAIN_ONLY)
    lost = sites[0]
    if phase != "before taking":
        task = lost.take()
        if phase == "after upload":
            lost.upload(task)
    lost.vanish()
    for site in sites[1:]:
        site.answer()
    rewind(run)
    healing.sweep()
    run.refresh_from_db()
    assert run.state == "completed"
    part = run.rounds.get().assignments.get(device=lost.device)
    assert (part.state, part.reason) == ("expired", "no answer until the deadline")
    assert run.rounds.get().updates.count() == 3
    assert cards(stage, run) == {"sent": 3, "dropped": 1}


def test_duplicates_count_once_and_late_ones_never(stage: Stage) -> None:
    sites = many(stage, 3, 1)
    run = stage.start(rounds=2, min_participants=3, config=TRAIN_ONLY)
    slow, task = sites[3], sites[3].task
    for site in sites[:3]:
        said = {"samples": site.samples, "sha256": site.upload(site.task)}
        answered = site.task
        assert site.say(answered, said) == site.say(answered, said)
    rewind(run)
    rounds.settle(current(run).pk)
    first = run.rounds.get(number=1)
    with pytest.raises(FedportalError):
        slow.say(task, {"samples": 13, "sha256": "0" * 64})
    assert (first.updates.count(), first.assignments.get(device=slow.device).state) == (3, "late")


def test_thirty_in_a_hundred_fail_and_the_run_ends_as_planned(stage: Stage) -> None:
    """Of ten devices three never answer; with seven asked for four answers every round has its quorum."""
    sites = many(stage, 6, 4)
    failing = {sites[0].device.pk, sites[4].device.pk, sites[8].device.pk}
    run = stage.start(rounds=6, min_participants=4, config=TRAIN_ONLY, plan={"over_selection": 1.75})
    while run.state == "running":
        sound = [site for site in at_work(sites) if site.device.pk not in failing]
        for site in sound:
            if site.tasks():
                site.answer()
        run.refresh_from_db()
    assert (run.state, run.rounds.filter(attempt__gt=1).count()) == ("completed", 0)
    assert all(found.updates.count() == 4 for found in run.rounds.all())


def lose_most(run: Run, sites: list[Site]) -> None:
    """All of them answer the round, then two decline the next one, and its deadline passes."""
    for site in sites:
        site.answer()
    for site in sites[:2]:
        site.decline("no power")
    rewind(run)
    healing.sweep()
    run.refresh_from_db()


def test_a_run_that_lost_more_than_half_fails_and_names_them(stage: Stage) -> None:
    sites = many(stage, 2, 1)
    run = stage.start(rounds=3, min_participants=2, config=TRAIN_ONLY)
    lose_most(run, sites)
    assert run.state == "failed"
    assert run.reason == (
        "2 of the 3 devices that began are gone: acme-00 of acme (declined) and acme-01 of acme (declined)."
    )
    assert stage.snapshot(run)["run"]["reason"] == run.reason


def test_a_plan_is_shown_with_the_run(stage: Stage) -> None:
    many(stage, 2, 1)
    run = stage.start(min_participants=2, plan={"sample": 3, "quota": 1, "stragglers": "cut"})
    shown: dict[str, Any] = stage.snapshot(run)["run"]["plan"]
    assert shown["sentence"] == "Asks 3 devices each round, at least 1 of each organization, closes with 2 answers."
    page = stage.cast.browser("olga").get(f"/runs/{run.public_id}").content.decode()
    assert shown["sentence"] in page


# --- what is left of a run that did not end well ---------------------------------------------------------------------


def test_last_good_model_of_a_failed_run_can_be_kept_once(stage: Stage) -> None:
    sites = many(stage, 2, 1)
    run = stage.start(rounds=3, min_participants=2, config=TRAIN_ONLY)
    with pytest.raises(FedportalError, match="running"):
        keeping.keep(stage.olga, run)
    lose_most(run, sites)
    assert (run.state, run.result_version) == ("failed", None)
    assert stage.snapshot(run)["actions"]["keep"]
    browser = stage.cast.browser("olga")
    assert browser.post(f"/runs/{run.public_id}/keep").status_code == 302
    assert keeping.keep(stage.olga, run) == keeping.keep(stage.olga, run)
    run.refresh_from_db()
    version = run.result_version
    assert version is not None
    assert (version.version, version.blob) == ("2.0.0", run.rounds.get(number=1).result_blob)
    assert version.lineage["rounds"] == 1
    assert run.events.filter(kind="run.kept").count() == 1
    assert not stage.snapshot(run)["actions"]["keep"]
    with pytest.raises(FedportalError) as refused:
        keeping.keep(stage.cast.actor("mia"), run)
    assert refused.value.code == "forbidden"


def test_a_run_that_closed_no_round_has_nothing_to_keep(stage: Stage) -> None:
    run = stage.start()
    runs.stop(stage.olga, run)
    with pytest.raises(FedportalError) as refused:
        keeping.keep(stage.olga, run)
    assert refused.value.code == "wrong_state"
