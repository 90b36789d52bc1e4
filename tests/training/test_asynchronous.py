"""Rounds that do not wait: answers count in whichever round is open, each once, whatever dies, and the switch."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from federations.models import AuditEntry, DeviceTask
from federations.services import device_tasks, policies
from fedportal.common import blobs, clock
from fedwire.errors import FedportalError
from tests.training.conftest import Site, Stage, current, rewind, weights_of
from training.models import Assignment, Round, Run, Update
from training.services import giving, healing, opening, previews, quorum, rounds, runs, schedules

SETTINGS: dict[str, Any] = {"strategy": "fedbuff", "config": {"evaluate": False}}


def start(stage: Stage, **options: Any) -> Run:
    """A FedBuff run that makes a model of every two answers."""
    plan = {"schedule": "asynchronous", "buffer": 2, **options.pop("plan", {})}
    return stage.start(**{**SETTINGS, "plan": plan, "rounds": 5, **options})


def number(site: Site) -> int:
    """Of the round whose task the device has."""
    return int(site.task.content["round"])


def counted(run: Run) -> list[tuple[int, list[tuple[str, int]]]]:
    """Round → the devices whose answers counted in it, with their staleness."""
    rows = Update.objects.filter(round__run=run, counted_in__isnull=False).order_by("counted_in__number", "pk")
    found: dict[int, list[tuple[str, int]]] = {}
    for made, device, staleness in rows.values_list("counted_in__number", "device__identifier", "staleness"):
        found.setdefault(made, []).append((device, staleness))
    return list(found.items())


def refused(act: Callable[[], object]) -> FedportalError:
    with pytest.raises(FedportalError) as raised:
        act()
    return raised.value


def switch(stage: Stage, run: Run, schedule: str, **ahead: Any) -> Run:
    return schedules.switch(stage.olga, run, {"schedule": schedule, **ahead})


def test_a_late_answer_counts_less_in_the_round_that_is_open(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = start(stage)
    task = slow.take()
    sent = {site: site.vector(site.task) for site in (one, two, slow)}
    one.answer()
    assert [one.tasks(), number(two), number(slow)] == [[], 1, 1]  # it has trained on this model
    two.answer()
    first = run.rounds.get(number=1)
    assert (first.state, first.staleness, first.bytes_up) == ("done", {"0": 2}, 2 * task.update_bytes)
    base = weights_of(run.base_version.blob)
    assert weights_of(first.result_blob) == pytest.approx(base + (sent[one] + sent[two]) / 2, rel=1e-6)
    assert [number(one), number(two), number(slow)] == [2, 2, 1]  # asked again at once, with the newest model
    slow.answer()
    fresh = one.vector(one.task)
    one.answer()
    second = run.rounds.get(number=2)
    assert (second.state, second.staleness) == ("done", {"0": 1, "1": 1})
    wanted = weights_of(first.result_blob) + (fresh + sent[slow] / np.sqrt(2)) / 2
    assert weights_of(second.result_blob) == pytest.approx(wanted, rel=1e-6)
    assert counted(run) == [(1, [("acme-1", 0), ("acme-2", 0)]), (2, [("metro-1", 1), ("acme-1", 0)])]


def test_fedasync_mixes_each_answer_in_as_its_paper_says(stage: Stage) -> None:
    one, _, slow = stage.three()
    config, plan = {"evaluate": False, "alpha": 0.5}, {"staleness_exponent": 1.0}
    run = stage.start(strategy="fedasync", config=config, plan=plan, min_participants=2)
    assert (run.plan["schedule"], run.plan["buffer"]) == ("asynchronous", 1)
    delta, began = slow.vector(slow.task), weights_of(run.base_version.blob)
    one.answer()
    one.answer()
    before = weights_of(run.rounds.get(number=2).result_blob)
    slow.answer()
    made = run.rounds.get(number=3)
    weight = 0.5 / 3
    assert made.staleness == {"2": 1}
    assert weights_of(made.result_blob) == pytest.approx((1 - weight) * before + weight * (began + delta), rel=1e-5)


def test_the_digest_does_not_know_who_came_first(stage: Stage) -> None:
    sites = stage.three()
    digests = set()
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        run = start(stage, rounds=1, plan={"buffer": 3}, version=stage.model.versions.get(version="1.0.0"))
        for place in order:
            sites[place].answer()
        digests.add(run.rounds.get(number=1).digest)
    assert len(digests) == 1


def test_the_oldest_answers_are_taken_and_the_others_wait_for_the_next_round(
    stage: Stage, silent: Callable[[], None]
) -> None:
    sites = stage.three()
    run = start(stage)
    silent()
    for site in sites:
        site.answer()
    rounds.settle(current(run).pk)
    assert counted(run) == [(1, [("acme-1", 0), ("acme-2", 0)])]
    assert current(run).number == 2
    assert [len(site.tasks()) for site in sites] == [1, 1, 0]  # whose answer waits is not asked again
    sites[0].answer()
    rounds.settle(current(run).pk)
    assert counted(run)[1] == (2, [("metro-1", 1), ("acme-1", 0)])
    assert [len(site.tasks()) for site in sites] == [1, 1, 1]


def test_a_full_buffer_closes_the_next_round_at_once(stage: Stage, silent: Callable[[], None]) -> None:
    sites = stage.three()
    run = start(stage, plan={"buffer": 1})
    silent()
    for site in sites:
        site.answer()
    rounds.settle(current(run).pk)
    assert [made for made, _ in counted(run)] == [1, 2, 3]
    assert [one[1] for _, one in ((made, rows[0]) for made, rows in counted(run))] == [0, 1, 2]


def test_an_answer_that_would_be_too_stale_is_refused_with_the_reason(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = start(stage, plan={"most_staleness": 1})
    task = slow.take()
    for _ in range(2):
        assert number(slow) == 1
        one.answer()
        two.answer()
    assert number(slow) == 3  # asked anew, with the newest model
    task.refresh_from_db()
    assert task.state == "expired"
    said = {"samples": 30, "sha256": "0" * 64}
    assert refused(lambda: slow.say(task, said)).code == "task_closed"
    part = Assignment.objects.get(task=task)
    assert part.state == "late"
    assert part.reason == "the model that it began from is more than 1 model old"
    assert "metro-1" not in {device for _, rows in counted(run) for device, _ in rows}


def test_repeating_an_answer_changes_nothing(stage: Stage) -> None:
    one, *_ = stage.three()
    run = start(stage)
    task = one.take()
    said = {"samples": 10, "seconds": 0.25, "sha256": one.upload(task)}
    receipt = one.say(task, said)
    assert one.say(task, said) == receipt
    assert refused(lambda: one.say(task, {**said, "samples": 11})).code == "answer_differs"
    assert Update.objects.filter(round__run=run).count() == 1


def test_a_claim_whose_worker_dies_is_taken_over_with_the_same_answers(
    stage: Stage, silent: Callable[[], None]
) -> None:
    sites = stage.three()
    run = start(stage)
    silent()
    sites[0].answer()
    sites[1].answer()
    claimed = rounds._claim(current(run).pk)
    assert isinstance(claimed, Round)
    sites[2].answer()  # while nobody works on it
    Round.objects.filter(pk=claimed.pk).update(lease_until=clock.now() - timedelta(seconds=1))
    assert list(healing.due()) == [claimed.pk]
    rounds.settle(claimed.pk)
    assert counted(run) == [(1, [("acme-1", 0), ("acme-2", 0)])]
    made = run.rounds.get(number=1)
    assert (made.state, made.fence, made.staleness) == ("done", 2, {"0": 2})
    assert opening.advance(run.pk) is None
    assert current(run).number == 2


def test_a_round_that_died_between_two_commits_is_mended_by_the_sweeper(
    stage: Stage, silent: Callable[[], None], bells: None
) -> None:
    sites = stage.three()
    run = start(stage)
    silent()
    for site in sites:
        site.answer()
    assert list(healing.due()) == [current(run).pk]  # its bell was lost
    claimed = rounds._claim(current(run).pk)
    assert isinstance(claimed, Round)
    rounds._work(claimed)
    assert healing.without_a_round() == [run.pk]  # and it closed, but nobody opened the next
    opening.advance(run.pk)
    assert current(run).number == 2


def test_at_its_deadline_a_round_makes_do_with_the_minimum(stage: Stage) -> None:
    one, *_ = stage.three()
    run = start(stage, plan={"buffer": 3})
    one.answer()
    rewind(run)
    healing.sweep()
    assert counted(run) == [(1, [("acme-1", 0)])]
    assert current(run).number == 2


def test_a_round_with_too_few_answers_is_tried_again_and_keeps_them(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = start(stage, plan={"buffer": 3}, min_participants=2)
    one.answer()
    rewind(run)
    healing.sweep()
    assert [(one.number, one.attempt, one.state) for one in run.rounds.all()] == [(1, 1, "failed"), (1, 2, "open")]
    assert [one.tasks(), number(two), number(slow)] == [[], 1, 1]
    two.answer()
    slow.answer()
    assert counted(run) == [(1, [("acme-1", 0), ("acme-2", 0), ("metro-1", 0)])]


def test_when_all_have_answered_a_buffer_that_cannot_fill_is_enough(stage: Stage) -> None:
    sites = stage.three()
    run = start(stage, plan={"buffer": 10})
    for site in sites:
        site.answer()
    assert [len(rows) for _, rows in counted(run)] == [3]


def test_a_task_whose_own_time_is_over_is_closed_and_the_device_asked_anew(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = start(stage)
    task = slow.take()
    one.answer()
    two.answer()
    DeviceTask.objects.filter(pk=task.pk).update(deadline=clock.now() - timedelta(seconds=1))
    healing.sweep()
    task.refresh_from_db()
    assert task.state == "expired"
    assert Assignment.objects.get(task=task).reason == healing.OVERDUE
    assert number(slow) == 2
    assert current(run).state == "open"


def test_a_device_that_is_gone_is_not_waited_for_whatever_its_round(stage: Stage) -> None:
    one, two, slow = stage.three()
    start(stage)
    one.answer()
    two.answer()
    assert number(slow) == 1
    slow.device.keys.update(revoked_at=clock.now())
    healing.sweep()
    assert slow.tasks() == []


def test_a_device_that_declines_is_not_waited_for(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = start(stage, plan={"buffer": 3})
    one.answer()
    two.answer()
    slow.decline()
    assert [len(rows) for _, rows in counted(run)] == [2]


def test_a_paused_run_keeps_the_answers_that_come(stage: Stage) -> None:
    sites = stage.three()
    run = start(stage, plan={"buffer": 1})
    runs.pause(stage.olga, run)
    sites[0].answer()
    assert current(run).state == "done"
    sites[1].answer()
    assert Update.objects.get(device=sites[1].device).counted_in is None
    runs.resume(stage.olga, run)
    assert counted(run) == [(1, [("acme-1", 0)]), (2, [("acme-2", 1)])]
    assert current(run).number == 3


def test_stopping_closes_what_is_out_whatever_its_round(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = start(stage)
    one.answer()
    two.answer()
    task = slow.task
    runs.stop(stage.olga, run)
    assert [site.tasks() for site in (one, two, slow)] == [[], [], []]
    assert refused(lambda: slow.answer(task)).code == "task_closed"
    assert not Assignment.objects.filter(round__run=run, state__in=("offered", "training")).exists()


def test_the_last_round_takes_what_is_in_and_closes_what_is_out(stage: Stage, silent: Callable[[], None]) -> None:
    one, two, slow = stage.three()
    run = start(stage, rounds=2, plan={"buffer": 1})
    one.answer()
    silent()
    one.answer()
    two.answer()
    rounds.settle(current(run).pk)
    assert counted(run) == [(1, [("acme-1", 0)]), (2, [("acme-1", 0), ("acme-2", 1)])]
    run.refresh_from_db()
    assert run.state == "completed"
    assert slow.tasks() == []
    part = Assignment.objects.get(device=slow.device)
    assert (part.state, part.reason) == ("expired", "the round had enough answers")
    given = {one.organization: (one.updates, one.expected) for one in giving.shares(run)}
    assert given == {"acme": (3, 3), "metro": (0, 0)}
    assert run.result_version is not None
    assert run.result_version.lineage["plan"]["schedule"] == "asynchronous"


def test_a_model_is_measured_by_late_answers_too(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = start(stage, config={"evaluate": True})
    one.answer()
    two.answer()
    first = run.rounds.get(number=1)
    assert set(first.metrics["organizations"]) == {stage.cast.acme.public_id}
    slow.answer()
    one.answer()
    first.refresh_from_db()
    assert set(first.metrics["organizations"]) == {stage.cast.acme.public_id, stage.cast.metro.public_id}
    assert first.metrics["overall"]["loss"] == pytest.approx(1.0)
    curve = {point["number"]: point for point in stage.snapshot(run)["curves"]}
    assert [curve[0]["samples"], curve[1]["samples"]] == [30, 10]
    assert [curve[1]["staleness"], curve[2]["staleness"], curve[2]["staleness_most"]] == [0.0, 0.5, 1]
    done = run.events.filter(kind="round.done").order_by("sequence").last()
    assert done is not None
    assert [point["number"] for point in done.data["points"]] == [0]
    assert (done.data["point"]["number"], done.data["staleness"]) == (1, 0.5)


def test_the_page_shows_whoever_is_at_work_with_the_age_of_their_model(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = start(stage)
    slow.take()
    one.answer()
    two.answer()
    one.answer()
    shown = stage.snapshot(run)
    cards = {card["device"]["identifier"]: (card["word"], card["staleness"]) for card in shown["participants"]}
    assert cards == {"acme-1": ("sent", 0), "acme-2": ("waiting", 0), "metro-1": ("training", 1)}
    assert (shown["round"]["number"], shown["round"]["asynchronous"], shown["round"]["buffer"]) == (2, True, 2)
    assert shown["tally"]["total"] == 3
    opened = run.events.filter(kind="round.opened").order_by("sequence").last()
    assert opened is not None
    assert {card["device"]["identifier"] for card in opened.data["participants"]} == {"acme-1", "acme-2", "metro-1"}
    assert (opened.data["asked"], opened.data["count"]) == (2, 3)


def test_no_more_devices_work_at_once_than_the_sample_says(stage: Stage) -> None:
    sites = stage.three()
    run = start(stage, plan={"sample": 1, "buffer": 2})
    asked = [site for site in sites if site.tasks()]
    assert len(asked) == 1
    asked[0].answer()  # the next takes its place
    others = [site for site in sites if site.tasks()]
    assert len(others) == 1
    assert others != asked
    others[0].answer()
    assert [len(rows) for _, rows in counted(run)] == [2]
    assert sum(len(site.tasks()) for site in sites) == 1


def test_free_places_are_filled_some_at_a_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom to ask is looked up among all devices, which would be too much for every answer of thousands."""
    sites = [*stage.three(), stage.site(stage.cast.metro, "metro-2")]
    monkeypatch.setattr(quorum, "AT_ONCE", 1)  # all of the places
    start(stage, plan={"buffer": 4, "sample": 2})
    asked = [site for site in sites if site.tasks()]
    asked[0].answer()
    assert sum(len(site.tasks()) for site in sites) == 1
    asked[1].decline()
    assert [len(site.tasks()) for site in sites] == [int(site not in asked) for site in sites]


def test_what_is_free_is_filled_by_the_sweeper_at_last(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = stage.three()
    monkeypatch.setattr(quorum, "AT_ONCE", 1)
    start(stage, plan={"buffer": 3, "sample": 2})
    next(site for site in sites if site.tasks()).answer()
    healing.sweep()
    assert sum(len(site.tasks()) for site in sites) == 2


def test_a_device_that_comes_later_is_asked_at_once(stage: Stage) -> None:
    stage.three()
    run = start(stage)
    late = stage.site(stage.cast.metro, "metro-2")
    assert late.tasks() == []
    rewind(run, -5)
    late.arrive()
    assert number(late) == 1
    assert late.task.deadline > clock.now() + timedelta(seconds=run.round_seconds - 60)  # however late in the round
    assert current(run).assignments.count() == 4


def test_whoever_takes_part_only_with_others_of_its_own_is_left_out(stage: Stage) -> None:
    policies.change(stage.cast.actor("mia"), stage.cast.metro, least_devices=2)
    one, two, slow = stage.three()
    other = stage.site(stage.cast.metro, "metro-2")
    run = start(stage)
    assert [len(site.tasks()) for site in (one, two, slow, other)] == [1, 1, 0, 0]
    ((barred,),) = [[row["reason"] for row in stage.snapshot(run)["barred"]]]
    assert barred == "metro takes part with at least 2 devices together, which asynchronous rounds do not promise"


def test_a_buffer_that_cannot_fill_is_told_before_the_start(stage: Stage) -> None:
    stage.three()
    plan = {"schedule": "asynchronous", "buffer": 5}
    preview = previews.of(stage.olga, stage.model, rounds=1, strategy="fedbuff", plan=plan)
    (problem,) = [one for one in preview.problems if one.code == "buffer"]
    assert problem.sentence == "A model is made of 5 answers, and only 4 devices could give one each."
    assert preview.ok
    assert preview.plan.startswith("Keeps everybody who is there at work, makes a model of every 5 answers")
    refusal = previews.of(stage.olga, stage.model, rounds=1, strategy="scaffold", plan=plan)
    assert [(one.code, one.field) for one in refusal.problems if one.level == "error"] == [
        ("strategy_schedule", "schedule")
    ]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"strategy": "scaffold"}, "strategy_schedule"),
        ({"strategy": "qfedavg"}, "strategy_schedule"),
        ({"strategy": "fedasync", "plan": {"schedule": "synchronous"}}, "strategy_schedule"),
        ({"strategy": "fedasync", "plan": {"buffer": 2}}, "field_invalid"),
        ({"strategy": "median", "min_participants": 3, "plan": {"buffer": 2}}, "field_invalid"),
        ({"plan": {"quota": 1}}, "field_invalid"),
        ({"plan": {"buffer": 0.5}}, "field_invalid"),
        ({"plan": {"most_staleness": -1}}, "field_invalid"),
        ({"plan": {"staleness_exponent": 11}}, "field_invalid"),
        ({"plan": {"schedule": "sometimes"}}, "field_invalid"),
    ],
)
def test_what_cannot_be_asynchronous_is_refused_at_the_start(stage: Stage, options: dict[str, Any], code: str) -> None:
    assert refused(lambda: start(stage, **options)).code == code
    assert not Run.objects.exists()


def test_made_asynchronous_an_open_round_goes_on_without_its_stragglers_who_keep_their_tasks(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = stage.start(**SETTINGS, rounds=4)
    slow.take()
    one.answer()
    two.answer()
    assert current(run).number == 1
    switched = switch(stage, run, "asynchronous", buffer=2, most_staleness=7)
    assert (switched.plan["schedule"], switched.plan["buffer"], switched.plan["most_staleness"]) == (
        "asynchronous",
        2,
        7,
    )
    assert counted(run) == [(1, [("acme-1", 0), ("acme-2", 0)])]
    assert [number(one), number(two), number(slow)] == [2, 2, 1]
    slow.answer()
    one.answer()
    assert counted(run)[1] == (2, [("metro-1", 1), ("acme-1", 0)])
    event = run.events.get(kind="run.rescheduled")
    assert (event.data["schedule"], event.data["by"]["name"]) == ("asynchronous", "acme")
    assert event.data["sentence"] == stage.snapshot(run)["run"]["plan"]["sentence"]
    assert AuditEntry.objects.filter(action="run.rescheduled", subject=run.public_id).count() == 1


def test_made_synchronous_the_open_round_takes_all_and_the_next_asks_everybody(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = start(stage)
    one.answer()
    two.answer()
    one.answer()
    switch(stage, run, "synchronous")
    assert current(run).number == 2
    assert number(slow) == 1
    two.answer()
    assert counted(run)[1] == (2, [("acme-1", 0), ("acme-2", 0)])
    part = Assignment.objects.get(device=slow.device, round__number=1)
    assert (part.state, part.reason) == ("expired", "the round had enough answers")
    assert [number(site) for site in (one, two, slow)] == [3, 3, 3]
    one.answer()
    two.answer()
    assert current(run).number == 3  # it waits for all
    slow.answer()
    assert counted(run)[2] == (3, [("acme-1", 0), ("acme-2", 0), ("metro-1", 0)])


def test_the_switch_takes_the_answers_of_a_synchronous_round_with_it(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = stage.start(**SETTINGS, rounds=4)
    one.answer()
    switch(stage, run, "asynchronous", buffer=2)
    assert current(run).state == "open"
    slow.answer()
    assert counted(run) == [(1, [("acme-1", 0), ("metro-1", 0)])]
    assert number(two) == 1


def test_the_switch_is_checked_and_says_nothing_when_nothing_changes(stage: Stage) -> None:
    stage.three()
    run = stage.start(strategy="scaffold", config={"evaluate": False})
    assert refused(lambda: switch(stage, run, "asynchronous")).code == "strategy_schedule"
    assert refused(lambda: schedules.switch(stage.cast.actor("otto"), run, {"schedule": "synchronous"})).code == (
        "forbidden"
    )
    switch(stage, run, "synchronous")
    assert not run.events.filter(kind="run.rescheduled").exists()
    runs.stop(stage.olga, run)
    assert refused(lambda: switch(stage, run, "synchronous")).code == "wrong_state"


def test_statistics_and_the_last_measure_stay_synchronous(stage: Stage) -> None:
    sites = stage.three()
    model = stage.shared("standardised", {"kind": "logistic", "inputs": 3, "classes": 2, "standardise": True})
    run = start(stage, model=model, rounds=1, config={"evaluate": True}, plan={"buffer": 1})
    for site in sites:
        site.answer()
    sites[0].answer()
    for site in sites:
        site.answer()
    run.refresh_from_db()
    assert run.state == "completed"
    made = run.rounds.order_by("number").values_list("number", "kind", "asynchronous")
    assert list(made) == [(0, "statistics", False), (1, "train", True), (2, "evaluate", False)]


def test_an_answer_while_no_round_is_open_waits(stage: Stage, silent: Callable[[], None]) -> None:
    sites = stage.three()
    run = start(stage)
    silent()
    sites[0].answer()
    sites[1].answer()
    claimed = rounds._claim(current(run).pk)
    assert isinstance(claimed, Round)
    task = sites[2].take()
    receipt = json.loads(json.dumps(sites[2].answer(task)))
    assert receipt["state"] == "answered"
    assert device_tasks.find(sites[2].device.pk, task.public_id).state == "answered"
    assert Update.objects.get(device=sites[2].device).counted_in is None


def test_a_task_of_an_attempt_that_failed_is_no_obstacle_to_the_end(stage: Stage) -> None:
    one, two, slow = stage.three()
    run = start(stage, rounds=1, min_participants=2)
    slow.take()
    one.answer()
    rewind(run)
    healing.sweep()
    assert [(one.number, one.attempt, one.state) for one in run.rounds.all()] == [(1, 1, "failed"), (1, 2, "open")]
    two.answer()
    run.refresh_from_db()
    assert run.state == "completed"
    assert slow.tasks() == []
    assert {share.organization: (share.updates, share.expected) for share in giving.shares(run)} == {"acme": (2, 0)}


def test_no_answer_waits_until_it_is_older_than_it_may_be(stage: Stage, silent: Callable[[], None]) -> None:
    sites = stage.three()
    run = start(stage, plan={"buffer": 1, "most_staleness": 1})
    silent()
    for site in sites:
        site.answer()
    rounds.settle(current(run).pk)
    assert counted(run) == [(1, [("acme-1", 0)]), (2, [("acme-2", 1), ("metro-1", 1)])]


def test_an_attempt_that_could_not_be_computed_measures_nothing_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = stage.three()
    run = start(stage, config={"evaluate": True}, min_participants=2)
    monkeypatch.setattr(rounds, "MOST_CLAIMS", 1)
    one.answer()
    task = two.take()
    sha = two.upload(task)
    blobs.remove(sha)
    two.say(task, {"samples": 20, "sha256": sha, "evaluation": two.report(task)})
    assert [(one.number, one.attempt, one.state) for one in run.rounds.all()] == [(1, 1, "failed"), (1, 2, "open")]
    two.answer()  # what the first sent has been waiting
    assert run.rounds.get(number=1, attempt=2).metrics["overall"]["samples"] == 20


def test_answers_from_before_the_switch_wait_for_the_next_attempt_too(stage: Stage) -> None:
    one, two, _ = stage.three()
    run = stage.start(**SETTINGS, rounds=4, min_participants=2)
    one.answer()
    switch(stage, run, "asynchronous", buffer=3)
    rewind(run)
    healing.sweep()
    assert [(one.number, one.attempt, one.state) for one in run.rounds.all()] == [(1, 1, "failed"), (1, 2, "open")]
    assert one.tasks() == []  # it has trained on this model
    two.answer()
    rewind(run)
    healing.sweep()
    assert counted(run) == [(1, [("acme-1", 0), ("acme-2", 0)])]
