"""Before round 1 the devices look at themselves: what is asked, what is shown, and what follows for the run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from federations.models import Device, DeviceTask
from federations.services import policies
from fedportal.common import clock
from fedwire import routes
from fedwire.errors import FedportalError
from tests.training.conftest import STANDARDISED, Site, Stage, current, rewind
from tests.training.test_faulty_rounds import Seen, finish
from training import checks
from training.models import Assignment, Run, Update
from training.services import healing, opening, rounds

CODES_WITH_VALUES = "data_shape"
DAY = timedelta(days=1)


def begin(stage: Stage, mode: str = "leave_out", **more: Any) -> tuple[list[Site], Run]:
    """Three devices and a run that checks them first."""
    sites = stage.three()
    config = {"preflight": mode, "evaluate": False, **more.pop("config", {})}
    return sites, stage.start(rounds=1, config=config, **more)


def report(*failed: str, warned: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"failed": list(failed), "warned": list(warned), "sdk_version": "0.1.0", "clock_seconds": 1, "memory_mb": 99}


def check(site: Site, *failed: str, warned: tuple[str, ...] = ()) -> None:
    """The device answers its check."""
    site.say(site.task, {"samples": 0, "check": report(*failed, warned=warned)})


def shown(stage: Stage, run: Run) -> dict[str, dict[str, Any]]:
    return {row["device"]["identifier"]: row for row in stage.snapshot(run)["preflight"]}


def test_without_being_asked_for_nobody_is_checked(stage: Stage) -> None:
    stage.three()
    run = stage.start()
    assert (current(run).kind, current(run).number) == ("train", 1)
    assert stage.snapshot(run)["preflight"] == []
    assert run.config["preflight"] == "off"


def test_devices_are_asked_for_a_check_with_the_model_and_the_floor_and_for_no_rows(stage: Stage) -> None:
    policies.change(stage.cast.actor("mia"), stage.cast.metro, least_records=25)
    (first, _, third), run = begin(stage)
    assert (current(run).kind, current(run).number) == ("check", -1)
    task = third.task
    assert (task.kind, task.base_blob, task.update_bytes) == ("check", run.base_version.blob, 0)
    assert task.content["check"]["least_records"] == 25
    assert first.task.content["check"]["least_records"] == 0
    assert "least_records" not in task.content["answer"]
    assert current(run).deadline - current(run).opened_at <= timedelta(seconds=120)


def test_when_all_pass_the_run_begins_and_the_page_says_who_passed(stage: Stage) -> None:
    sites, run = begin(stage)
    assert {row["verdict"] for row in shown(stage, run).values()} == {"waiting"}
    for site in sites:
        check(site, warned=("clock_off",) if site is sites[2] else ())
    assert (current(run).kind, current(run).number) == ("train", 1)
    seen = Seen(stage, run)
    assert "passed metro-1 of metro: its clock is more than 60 seconds off the portal's." in seen.page
    assert "Let it set its clock by NTP." in seen.page
    assert "passed acme-1 of acme" in seen.page
    assert any(line.startswith("Checking the devices began with 3 devices") for line in seen.events)
    row = shown(stage, run)["metro-1"]
    assert (row["memory_mb"], row["clock_seconds"], row["sdk_version"]) == (99, 1.0, "0.1.0")
    assert finish(run, sites).state == "completed"
    assert run.current_round == 1
    given = {row["organization"]["name"]: row["expected"] for row in stage.snapshot(run)["contributions"]}
    assert given == {"acme": 2, "metro": 1}  # a check is no contribution


def test_who_fails_is_left_out_of_all_rounds_with_the_sentence_and_the_next_step(stage: Stage) -> None:
    sites, run = begin(stage)
    check(sites[0])
    check(sites[1])
    check(sites[2], "data_columns", "memory_short")
    assert current(run).number == 1
    assert not sites[2].tasks()
    sites[2].arrive()
    assert not sites[2].tasks()
    seen = Seen(stage, run)
    assert "failed metro-1 of metro: its data lack columns that the model takes by name." in seen.page
    assert "rename yours; the model's page lists all that it takes." in seen.page
    assert "it has too little free memory for this model and its rows." in seen.page
    seen.says("metro-1 of metro: sent: its data lack columns that the model takes by name.")
    assert finish(run, sites).state == "completed"
    assert not Update.objects.filter(round__run=run, round__kind="train", device=sites[2].device).exists()
    assert shown(stage, run)["metro-1"]["verdict"] == "failed"  # the page says so to the end


def test_who_is_left_out_is_said_where_the_run_waits_for_devices(stage: Stage) -> None:
    sites, run = begin(stage, min_participants=3)
    for site in sites:
        check(site, *(("data_shape",) if site is sites[2] else ()))
    waiting = stage.snapshot(run)["round"]["waiting"]
    assert (waiting["have"], waiting["need"]) == (2, 3)
    assert "devices of metro failed the preflight" in waiting["sentence"]


def test_a_run_that_is_only_to_report_goes_on_with_all(stage: Stage) -> None:
    sites, run = begin(stage, "report")
    for site in sites:
        check(site, *(("torch_missing",) if site is sites[2] else ()))
    assert sites[2].task.kind == "train"
    assert "failed metro-1 of metro: it lacks torch, which this model needs." in Seen(stage, run).page


def test_a_run_that_is_to_stop_fails_with_who_and_why(stage: Stage) -> None:
    sites, run = begin(stage, "stop")
    check(sites[0])
    check(sites[1], "records_too_few", "data_labels")
    check(sites[2])
    run.refresh_from_db()
    reason = (
        "The preflight failed on 1 device: acme-2 of acme (it has fewer rows than its organization's policy, or its own"
        " floor, asks for; its data hold a class that the model does not know)."
    )
    assert (run.state, run.reason) == ("failed", reason)
    seen = Seen(stage, run)
    assert (seen.session["reason"], seen.session["current_round"]) == (reason, 0)
    assert reason in seen.page
    assert "Failed before round 1 of 1" in seen.page
    assert not any(site.tasks() for site in sites)


def test_a_run_that_is_to_stop_begins_when_all_pass(stage: Stage) -> None:
    sites, run = begin(stage, "stop")
    for site in sites:
        check(site)
    assert current(run).number == 1


def test_an_sdk_that_does_not_know_the_check_declines_and_takes_part(stage: Stage) -> None:
    sites, run = begin(stage, "stop")
    check(sites[0])
    check(sites[1])
    sites[2].decline("this device's SDK does not know tasks of kind check")
    assert current(run).number == 1
    sites[2].arrive()
    row = shown(stage, run)["metro-1"]
    assert row["verdict"] == "not checked"
    assert row["findings"][0]["sentence"] == "this device's SDK does not know tasks of kind check"
    assert "not checked metro-1 of metro" in Seen(stage, run).page


def test_a_device_that_does_not_answer_fails_the_check_and_takes_part_where_the_run_just_reports(stage: Stage) -> None:
    sites, run = begin(stage, "report")
    check(sites[0])
    sites[1].take()
    sites[2].take()
    rewind(run)
    rounds.settle(current(run).pk)
    assert (current(run).number, current(run).state) == (1, "open")
    assert shown(stage, run)["acme-2"]["verdict"] == "failed"
    assert "it did not answer: no answer until the deadline." in Seen(stage, run).page
    assert sites[1].tasks()  # it is there, and nothing is known against it


def test_with_too_few_devices_the_check_waits_and_lets_them_in(stage: Stage) -> None:
    first = stage.site(stage.cast.acme, "acme-1")
    run = stage.start(min_participants=2, rounds=1, config={"preflight": "leave_out", "evaluate": False})
    assert stage.snapshot(run)["round"]["waiting"]["need"] == 2
    late = stage.site(stage.cast.metro, "metro-1")
    late.arrive()
    assert late.task.kind == "check"
    check(first)
    check(late)
    assert finish(run, [first, late]).state == "completed"


def test_who_comes_during_the_check_is_checked_too(stage: Stage) -> None:
    sites, run = begin(stage, min_participants=2)
    check(sites[0])
    check(sites[1])
    late = stage.site(stage.cast.metro, "metro-2")
    late.arrive()
    assert late.task.kind == "check"
    check(late, "data_shape")
    check(sites[2])
    assert (current(run).number, late.tasks()) == (1, [])


def test_a_sample_is_drawn_only_of_those_that_passed_and_all_are_checked(stage: Stage) -> None:
    sites, _ = begin(stage, min_participants=1, plan={"sample": 1, "stragglers": "cut"})
    assert all(site.tasks() for site in sites)
    for site in sites:
        check(site, *(("data_shape",) if site is not sites[1] else ()))
    assert [site.device.identifier for site in sites if site.tasks()] == ["acme-2"]


def test_statistics_follow_the_check(stage: Stage) -> None:
    model = stage.shared("tabular", STANDARDISED)
    sites, run = begin(stage, model=model)
    for site in sites:
        check(site)
    assert (current(run).kind, current(run).number) == ("statistics", 0)
    assert finish(run, sites).state == "completed"
    assert list(run.rounds.values_list("number", "kind")) == [(-1, "check"), (0, "statistics"), (1, "train")]


def test_a_device_that_failed_is_no_starter_whose_absence_ends_the_run(stage: Stage) -> None:
    sites, run = begin(stage, min_participants=2)
    check(sites[0])
    check(sites[1], "data_shape")
    check(sites[2], "data_shape")
    for _ in range(4):
        sites[0].seen()
        sites[0].answer()
        rewind(run)
        rounds.settle(current(run).pk)
        run.refresh_from_db()
    assert (run.state, current(run).number) == ("running", 1)


def test_what_is_no_report_is_refused_and_the_device_may_answer_again(stage: Stage) -> None:
    (first, *_), run = begin(stage)
    for wrong in (None, {"failed": ["Column 'age' holds text"], "sdk_version": "1"}):
        with pytest.raises(FedportalError) as refused:
            first.say(first.task, {"samples": 0, "check": wrong})
        assert refused.value.context["field"] == "check"
    check(first)
    assert shown(stage, run)["acme-1"]["verdict"] == "passed"


def test_a_code_that_this_portal_does_not_know_is_shown_as_it_is(stage: Stage) -> None:
    (first, *_), run = begin(stage)
    check(first, "gpu_on_fire")
    assert shown(stage, run)["acme-1"]["findings"] == [
        {"level": "failed", "code": "gpu_on_fire", "sentence": "gpu_on_fire", "next_step": ""}
    ]
    assert checks.next_step(CODES_WITH_VALUES).startswith("Give the model's columns")


def test_a_mode_that_is_none_is_refused_and_hyphens_are_liked(stage: Stage) -> None:
    for wrong in ("maybe", ["report"], {"mode": "report"}, True, 1):
        with pytest.raises(FedportalError) as refused:
            stage.start(config={"preflight": wrong})
        assert refused.value.context["field"] == "config.preflight"
    assert stage.start(config={"preflight": "leave-out"}).config["preflight"] == "leave_out"


def test_a_check_that_nobody_rang_for_is_swept(stage: Stage, silent: Any, bells: None) -> None:
    sites, run = begin(stage)
    silent()
    for site in sites:
        check(site)
    assert list(healing.due()) == [current(run).pk]
    rounds._settle_one(current(run).pk)
    assert healing.without_a_round() == [run.pk]
    opening.advance(run.pk)
    assert current(run).number == 1


def test_the_form_offers_the_check_and_runs_it_again(stage: Stage) -> None:
    stage.three()
    browser = stage.cast.browser("olga")
    said = {
        "model": stage.model.public_id,
        "federation": stage.cast.federation.public_id,
        "rounds": "1",
        "min_participants": "1",
        "round_seconds": "600",
        "strategy": "fedavg",
        "preflight": "leave_out",
    }
    answer = browser.post("/runs/new", said)
    assert answer.status_code == 302, answer.content.decode()
    run = Run.objects.get()
    assert run.config["preflight"] == "leave_out"
    page = browser.get(answer["Location"]).content.decode()
    assert "leave out the devices that fail" in page
    assert "preflight=leave_out" in page
    with clock.shifted(timedelta(seconds=1)):
        api = stage.cast.client("olga").get(routes.SESSION.format(run=run.public_id)).json()
    assert api["config"]["preflight"] == "leave_out"


def began(stage: Stage, mode: str = "leave_out", **more: Any) -> tuple[list[Site], Run, Site]:
    """Two devices were checked and train in round 1; then one more comes to wait."""
    sites = stage.three()[:2]
    Device.objects.exclude(pk__in=[site.device.pk for site in sites]).update(last_seen_at=clock.now() - DAY)
    run = stage.start(rounds=2, config={"preflight": mode, "evaluate": False}, **more)
    for site in sites:
        check(site)
    assert (current(run).kind, current(run).number) == ("train", 1)
    late = stage.site(stage.cast.metro, "metro-9")
    late.arrive()
    return sites, run, late


@pytest.mark.parametrize("mode", ["report", "leave_out", "stop"])
def test_who_comes_after_the_check_looks_at_itself_first(stage: Stage, mode: str) -> None:
    sites, run, late = began(stage, mode)
    task = late.task
    assert (task.kind, task.content["round"], task.base_blob) == ("check", -1, run.base_version.blob)
    assert clock.now() < task.deadline <= clock.now() + timedelta(seconds=120)
    late.arrive()
    assert late.tasks() == [task]  # once
    seen = Seen(stage, run)
    seen.says("metro-9 of metro came later and checks itself first.")
    assert "waiting metro-9 of metro, which came later" in seen.page
    for site in sites:
        site.answer()
    assert (current(run).number, late.tasks()) == (2, [task])  # nobody waits for it
    check(late, warned=("clock_off",))
    row = shown(stage, run)["metro-9"]
    assert (row["verdict"], row["late"], [one["code"] for one in row["findings"]]) == ("passed", True, ["clock_off"])
    assert [row["late"] for row in shown(stage, run).values()].count(True) == 1
    assert finish(run, [*sites, late]).state == "completed"


@pytest.mark.parametrize(("mode", "takes_part"), [("report", True), ("leave_out", False), ("stop", False)])
def test_who_comes_later_and_fails_takes_part_only_where_the_run_just_reports(
    stage: Stage, mode: str, takes_part: bool
) -> None:
    sites, run, late = began(stage, mode)
    check(late, "data_columns")
    for site in sites:
        site.answer()
    assert current(run).number == 2
    assert bool(late.tasks()) is takes_part
    run.refresh_from_db()
    assert run.state == "running"  # what has begun is not stopped for one that came later
    assert "failed metro-9 of metro, which came later: its data lack columns" in Seen(stage, run).page


def test_a_round_that_is_short_says_who_checks_itself_and_lets_it_in_afterwards(stage: Stage) -> None:
    first, second = stage.three()[:2]
    Device.objects.exclude(pk__in=[first.device.pk, second.device.pk]).update(last_seen_at=clock.now() - DAY)
    run = stage.start(rounds=1, min_participants=2, config={"preflight": "leave_out", "evaluate": False})
    check(first)
    check(second, "data_shape")
    assert current(run).number == 1
    late = stage.site(stage.cast.metro, "metro-9")
    late.arrive()
    assert "a device of metro checks itself" in stage.snapshot(run)["round"]["waiting"]["sentence"]
    check(late)
    late.arrive()
    assert late.task.kind == "train"
    assert stage.snapshot(run)["round"]["waiting"] is None


def test_who_comes_later_and_does_not_know_the_check_takes_part_unchecked(stage: Stage) -> None:
    sites, run, late = began(stage)
    late.decline("this device's SDK does not know tasks of kind check")
    late.arrive()
    for site in sites:
        site.answer()
    assert late.task.kind == "train"
    assert shown(stage, run)["metro-9"]["verdict"] == "not checked"


def test_the_check_of_who_came_later_ends_with_its_own_time_or_with_the_run(stage: Stage) -> None:
    sites, run, late = began(stage)
    other = stage.site(stage.cast.metro, "metro-8")
    other.arrive()
    DeviceTask.objects.filter(pk=late.take().pk).update(deadline=clock.now() - timedelta(seconds=1))
    healing.sweep()
    assert late.tasks() == []
    assert shown(stage, run)["metro-9"]["verdict"] == "failed"
    other.vanish()
    Assignment.objects.filter(task=other.task).update(offered_at=clock.now() - DAY)
    healing.sweep()
    assert other.tasks() == []
    third = stage.site(stage.cast.metro, "metro-7")
    third.arrive()
    task = third.task
    assert finish(run, sites).state == "completed"
    assert third.tasks() == []
    with pytest.raises(FedportalError) as refused:
        third.say(task, {"samples": 0, "check": report()})
    assert refused.value.code == "task_closed"


def test_who_comes_later_to_a_run_without_a_check_takes_part_at_once(stage: Stage) -> None:
    stage.three()
    run = stage.start(min_participants=9)
    late = stage.site(stage.cast.metro, "metro-9")
    late.arrive()
    assert late.task.kind == "train"
    assert stage.snapshot(run)["preflight"] == []


def test_a_device_that_is_left_out_is_shown_however_often_the_check_is_tried(stage: Stage) -> None:
    (first, second, third), run = begin(stage, min_participants=2)
    check(first, "data_shape")
    rewind(run)
    rounds.settle(current(run).pk)
    assert (current(run).kind, current(run).attempt) == ("check", 2)
    for site in (second, third):
        site.seen()
        site.arrive()
        check(site)
    assert (current(run).kind, first.tasks()) == ("train", [])
    assert {name: row["verdict"] for name, row in shown(stage, run).items()} == {
        "acme-1": "failed",
        "acme-2": "passed",
        "metro-1": "passed",
    }
