"""A check that nobody answered is no check passed: the device is asked again once it is heard of, or is left out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from federations.models import DeviceTask
from fedportal.common import clock
from fedwire.errors import FedportalError
from tests.training.conftest import Site, Stage, current, rewind
from tests.training.test_checks import began, begin, check, report, shown
from tests.training.test_faulty_rounds import Seen, finish
from training.models import Assignment, Run
from training.services import healing, rounds, runs

UNANSWERED = "it did not answer: no answer until its deadline"


def ran_out(site: Site) -> DeviceTask:
    """The device took its check, and the time for it passed; the check."""
    task = site.take()
    DeviceTask.objects.filter(pk=task.pk).update(deadline=clock.now() - timedelta(seconds=1))
    healing.sweep()
    assert site.tasks() == []
    return task


def next_round(run: Run, sites: list[Site]) -> None:
    """These answer, and the run is in its next round."""
    number = current(run).number
    for site in sites:
        site.answer()
    assert (current(run).number, current(run).state) == (number + 1, "open")


@pytest.mark.parametrize("mode", ["leave_out", "stop"])
def test_who_came_later_and_let_its_check_pass_is_not_admitted_but_asked_again(stage: Stage, mode: str) -> None:
    sites, run, late = began(stage, mode)
    ran_out(late)
    seen = Seen(stage, run)
    assert f"failed metro-9 of metro, which came later: {UNANSWERED}. It is asked again when" in seen.page
    next_round(run, sites)
    assert late.tasks() == []  # nobody has heard of it since
    late.arrive()
    again = late.task
    assert (again.kind, again.content["round"]) == ("check", -1)
    late.arrive()
    assert late.tasks() == [again]  # once
    seen = Seen(stage, run)
    seen.says("metro-9 of metro did not answer its check and is asked again.")
    assert "waiting metro-9 of metro, which came later" in seen.page
    check(late)
    assert shown(stage, run)["metro-9"]["verdict"] == "passed"
    assert finish(run, [*sites, late]).state == "completed"
    assert Assignment.objects.filter(round__run=run, round__kind="check", device=late.device).count() == 1


def test_a_device_that_never_answers_its_check_never_trains(stage: Stage) -> None:
    sites, run, late = began(stage)
    for _ in range(3):
        ran_out(late)
        late.arrive()
        assert late.task.kind == "check"
    assert finish(run, sites).state == "completed"
    assert not Assignment.objects.filter(round__run=run, round__kind="train", device=late.device).exists()
    assert shown(stage, run)["metro-9"]["findings"][0]["sentence"] == "it did not answer: the run is over"


def test_an_answer_to_the_check_that_ran_out_is_late_and_changes_nothing(stage: Stage) -> None:
    _, run, late = began(stage)
    old = ran_out(late)
    for _ in range(2):  # before it is asked again, and after
        with pytest.raises(FedportalError) as refused:
            late.say(old, {"samples": 0, "check": report()})
        assert refused.value.code == "task_closed"
        assert shown(stage, run)["metro-9"]["verdict"] in ("failed", "waiting")
        late.arrive()
    assert late.task.kind == "check"
    check(late, "data_shape")
    assert [found["code"] for found in shown(stage, run)["metro-9"]["findings"]] == ["data_shape"]


def test_where_the_run_just_reports_it_takes_part_with_the_reason_shown(stage: Stage) -> None:
    sites, run, late = began(stage, "report")
    ran_out(late)
    next_round(run, sites)
    assert late.task.kind == "train"
    row = shown(stage, run)["metro-9"]
    assert (row["verdict"], [found["sentence"] for found in row["findings"]]) == ("failed", [UNANSWERED])


def test_who_does_not_answer_the_check_before_round_1_is_asked_again_too(stage: Stage) -> None:
    sites, run = begin(stage)
    check(sites[0])
    for silent in sites[1:]:
        silent.take()
    rewind(run)
    rounds.settle(current(run).pk)
    assert (current(run).number, [site.tasks() for site in sites[1:]]) == (1, [[], []])
    sites[1].arrive()
    assert (sites[1].task.kind, sites[2].tasks()) == ("check", [])
    check(sites[1])
    assert finish(run, sites[:2]).state == "completed"


def test_a_round_that_is_short_says_that_a_check_was_not_answered(stage: Stage) -> None:
    sites, run = begin(stage, min_participants=2)
    check(sites[0])
    check(sites[1], "data_shape")
    sites[2].take()
    rewind(run)
    rounds.settle(current(run).pk)
    assert (current(run).kind, current(run).number) == ("train", 1)
    waiting: dict[str, Any] = stage.snapshot(run)["round"]["waiting"]
    assert "a device of metro did not answer its check" in waiting["sentence"]


def test_a_check_that_ended_with_the_device_s_absence_is_asked_for_when_it_is_back(stage: Stage) -> None:
    sites, run, late = began(stage)
    late.vanish()
    Assignment.objects.filter(task=late.task).update(offered_at=clock.now() - timedelta(days=1))
    healing.sweep()
    assert late.tasks() == []
    runs.pause(stage.olga, run)
    late.arrive()
    assert late.tasks() == []  # a paused run asks nobody
    runs.resume(stage.olga, run)
    late.arrive()
    assert late.task.kind == "check"
    check(late)
    assert finish(run, [*sites, late]).state == "completed"
