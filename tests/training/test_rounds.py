"""A run from its first round to its version, as the devices and the worker make it happen."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from fedportal.common import blobs, clock
from fedwire.errors import FedportalError
from fedwire.tensors import decode_model, digest_of
from registry.models import ModelVersion
from registry.services import versions
from tests.training.conftest import STANDARDISED, Stage, current, rewind, weights_of
from training.models import Assignment, Round, Run, RunEvent, Update
from training.services import best, rounds, runs
from training.services.cohorts import seed_for
from training.wording import Party


def finish(run: Run, sites: list, rounds_left: int = 100) -> Run:
    """Let every site answer whatever it is asked until the run is over."""
    for _ in range(rounds_left):
        run.refresh_from_db()
        if run.state != "running":
            break
        for site in sites:
            for task in site.tasks():
                site.answer(task)
    return run


def play(stage: Stage, **options: Any) -> Run:
    """A whole run with three sites."""
    sites = stage.three()
    return finish(stage.start(**options), sites)


def test_run_of_three_rounds_ends_with_version_two(stage: Stage) -> None:
    run = play(stage)
    assert run.state == "completed"
    assert run.current_round == 3
    assert run.result_version is not None
    assert run.result_version.version == "2.0.0"
    assert run.result_version.lineage["rounds"] == 3
    assert [o["name"] for o in run.result_version.lineage["organizations"]] == ["acme", "metro"]
    assert run.result_version.lineage["organizations"][0] == {
        "id": stage.cast.acme.public_id,
        "name": "acme",
        "devices": 2,
        "updates": 6,
        "samples": 90,
    }


def test_result_is_the_weighted_mean_of_what_was_sent(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(rounds=1, config={"evaluate": False})
    sent = []
    for site in sites:
        task = site.task
        vector = site.vector(task)
        sent.append((vector, site.samples, site.upload(task)))
        site.answer(task)
    expected = weights_of(run.base_version.blob).copy()
    step = np.zeros_like(expected)
    for vector, samples, _ in sorted(sent, key=lambda item: item[2]):
        step += vector * np.float32(samples / 60)
    run.refresh_from_db()
    assert run.result_version is not None
    assert weights_of(run.result_version.blob).tobytes() == (expected + step).tobytes()


def test_rounds_are_numbered_train_then_evaluate(stage: Stage) -> None:
    run = play(stage, rounds=2)
    assert list(run.rounds.values_list("number", "attempt", "kind", "state")) == [
        (1, 1, "train", "done"),
        (2, 1, "train", "done"),
        (3, 1, "evaluate", "done"),
    ]


def test_each_round_starts_from_the_result_of_the_last(stage: Stage) -> None:
    run = play(stage)
    made = list(run.rounds.order_by("number"))
    assert made[0].base_blob == run.base_version.blob
    assert [r.base_blob for r in made[1:]] == [r.result_blob for r in made[:-1]]


def test_metrics_of_a_round_are_of_the_model_it_began_with(stage: Stage) -> None:
    run = play(stage, rounds=2)
    curve = stage.snapshot(run)["curves"]
    assert [point["number"] for point in curve] == [0, 1, 2]
    assert [point["loss"] for point in curve] == pytest.approx([1.0, 0.5, 1 / 3])
    assert curve[0]["seconds"] is None
    assert curve[1]["seconds"] >= 0
    assert curve[1]["bytes_up"] == sum(u.size for u in Update.objects.filter(round__run=run, round__number=1))
    assert set(curve[1]["organizations"]) == {stage.cast.acme.public_id, stage.cast.metro.public_id}
    assert run.best_round == 2
    assert run.result_version is not None
    assert run.result_version.metrics["loss"] == pytest.approx(1 / 3)


def test_what_a_round_took_is_known_when_it_closes(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start()
    for site in sites:
        site.answer()
    before, closed = stage.snapshot(run)["curves"]
    assert (before["number"], before["loss"], before["seconds"]) == (0, pytest.approx(1.0), None)
    assert (closed["number"], closed["loss"], closed["organizations"]) == (1, None, {})
    assert closed["seconds"] >= 0
    assert closed["bytes_up"] == sum(u.size for u in Update.objects.filter(round__run=run, round__number=1))


def test_an_organization_keeps_its_place_among_the_names_whoever_measures_later(stage: Stage) -> None:
    run = stage.start()
    run.rounds.all().delete()
    acme, metro = stage.cast.acme.public_id, stage.cast.metro.public_id
    stage.valley_joins()
    for number, there in ((1, [metro]), (2, [metro, acme])):
        metrics = {"overall": {}, "organizations": {key: {"loss": 0.5} for key in there}}
        row = {"state": "done", "deadline": clock.now(), "closed_at": clock.now(), "metrics": metrics}
        Round.objects.create(organization=stage.cast.acme, run=run, number=number, **row)
    assert list(stage.snapshot(run)["names"]) == [metro, acme, stage.cast.valley.public_id]


def losses(**of: float) -> dict[str, Any]:
    """What organizations measured, each on ten rows."""
    return {"loss": sum(of.values()) / len(of), "organizations": {key: {"loss": of[key], "samples": 10} for key in of}}


def test_best_is_chosen_over_the_organizations_that_measured_both_models(stage: Stage) -> None:
    run = stage.start(rounds=5)
    assert best.is_better(run, losses(acme=9.0))
    run.best_round, run.best_value = 0, 0.5
    Round.objects.filter(run=run, number=1).update(state="done", metrics=losses(acme=0.4, metro=0.6))
    assert best.is_better(run, losses(acme=0.4, metro=0.5))
    assert not best.is_better(run, losses(acme=0.4, metro=0.7))
    assert best.is_better(run, losses(acme=0.3))  # metro was away: acme's rows decide
    assert not best.is_better(run, losses(acme=0.45))  # less than the loss over both, and no better for acme
    assert not best.is_better(run, losses(valley=0.1))  # nobody measured both


def test_who_joins_late_does_not_make_a_worse_model_the_best(stage: Stage) -> None:
    run = stage.start(rounds=5)
    run.best_round, run.best_value = 0, 0.1157
    Round.objects.filter(run=run, number=1).update(state="done", metrics=losses(acme=0.1, metro=0.13))
    assert not best.is_better(run, losses(acme=4000.0, metro=6000.0, valley=5000.0))
    assert best.is_better(run, losses(acme=0.09, metro=0.13, valley=5000.0))  # valley's rows were never easy


def test_without_evaluation_there_is_no_last_round(stage: Stage) -> None:
    run = play(stage, rounds=2, config={"evaluate": False})
    assert run.state == "completed"
    assert list(run.rounds.values_list("kind", flat=True)) == ["train", "train"]


def test_devices_are_told_how_to_train_and_what_to_send(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(config={"epochs": 4, "learning_rate": 0.05})
    content = sites[0].task.content
    assert content["run"] == run.public_id
    assert content["model"] == stage.model.public_id
    assert content["round"] == 1
    assert content["training"]["epochs"] == 4
    assert content["training"]["learning_rate"] == 0.05
    assert content["answer"]["metrics"] is True
    assert content["answer"]["scale"] == "logit"
    assert sites[0].task.base_blob == run.base_version.blob
    seeds = {site.task.content["training"]["seed"] for site in sites}
    assert len(seeds) == 3


def test_seeds_depend_on_names_round_and_run_seed_only(stage: Stage) -> None:
    one, other = Party("dev_1", "h", "org_1", "acme"), Party("dev_2", "h", "org_2", "acme")
    assert seed_for(7, 1, one) == seed_for(7, 1, other)
    assert (
        len(
            {
                seed_for(7, 1, one),
                seed_for(7, 2, one),
                seed_for(8, 1, one),
                seed_for(7, 1, one._replace(identifier="g")),
            }
        )
        == 4
    )
    assert seed_for(7, 1, one) < 2**53


def test_standardisation_is_pooled_before_round_one_and_kept_in_the_version(stage: Stage) -> None:
    model = stage.shared("tabular", STANDARDISED)
    sites = stage.three()
    run = stage.start(model=model, rounds=1)
    first = current(run)
    assert (first.number, first.kind) == (0, "statistics")
    assert sites[0].task.base_blob == ""
    assert sites[0].task.update_bytes == 0
    finish(run, sites)
    assert run.state == "completed"
    parts = [np.random.default_rng(s.samples).normal(s.move, 2.0, (s.samples, 3)) for s in sites]
    everything = np.concatenate(parts)
    assert run.result_version is not None
    _, arrays = decode_model(blobs.path(run.result_version.blob))
    np.testing.assert_allclose(arrays["standardise.mean"], everything.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(arrays["standardise.std"], everything.std(axis=0), rtol=1e-5)
    assert run.standardisation["samples"] == 60


def test_second_run_keeps_the_standardisation_of_the_first(stage: Stage) -> None:
    model = stage.shared("tabular", STANDARDISED)
    sites = stage.three()
    finish(stage.start(model=model, rounds=1), sites)
    again = stage.start(model=model, rounds=1)
    assert current(again).number == 1
    assert again.config["standardise"] is False


def test_devices_that_decline_statistics_train_all_the_same(stage: Stage) -> None:
    model = stage.shared("tabular", STANDARDISED)
    sites = stage.three()
    run = stage.start(model=model, rounds=1, min_participants=3)
    for site in sites:
        site.decline("no columns to describe")
        site.arrive()
    assert current(run).number == 1
    assert finish(run, sites).state == "completed"


def test_statistics_of_another_width_are_refused(stage: Stage) -> None:
    model = stage.shared("tabular", STANDARDISED)
    (site, *_) = stage.three()
    stage.start(model=model)
    with pytest.raises(FedportalError) as refused:
        site.answer(statistics={"samples": 10, "mean": [0.0, 1.0], "m2": [1.0, 1.0]})
    assert refused.value.code == "metrics_invalid"
    assert not Update.objects.exists()
    assert site.task.state == "open"


def test_round_closes_when_all_have_answered_and_not_before(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(min_participants=1)
    first.answer()
    second.answer()
    assert current(run).number == 1
    third.answer()
    assert current(run).number == 2


def test_straggler_does_not_stop_the_round_at_the_deadline(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(min_participants=2)
    first.answer()
    second.answer()
    late = third.take()
    rewind(run)
    rounds.settle(current(run).pk)
    assert current(run).number == 2
    assert Assignment.objects.get(task=late).state == "expired"
    assert Update.objects.filter(round__number=1).count() == 2


def test_late_update_is_refused_with_its_own_code_and_noted(stage: Stage) -> None:
    first, second, third = stage.three()
    run = stage.start(min_participants=2)
    first.answer()
    second.answer()
    late = third.take()
    rewind(run)
    rounds.settle(current(run).pk)
    with pytest.raises(FedportalError) as refused:
        third.say(late, {"samples": 5, "sha256": "0" * 64})
    assert refused.value.code == "task_closed"
    part = Assignment.objects.get(task=late)
    assert (part.state, part.reason) == ("late", "the answer came after the round had gone on")
    assert not Update.objects.filter(assignment=part).exists()
    told = RunEvent.objects.filter(run=run, kind="assignment.changed", data__state="late").get()
    assert told.data["word"] == "late"


def test_answer_to_a_round_that_was_called_off_is_neither_late_nor_told(stage: Stage) -> None:
    first, *_ = stage.three()
    run = stage.start()
    task = first.take()
    runs.stop(stage.olga, run)
    told = run.events.count()
    with pytest.raises(FedportalError) as refused:
        first.say(task, {"samples": 5, "sha256": "0" * 64})
    assert refused.value.code == "task_closed"
    assert run.events.count() == told
    cards = stage.snapshot(run)["participants"]
    assert {(card["word"], card["reason"]) for card in cards} == {("called off", "the run was stopped")}


def test_repeated_answer_counts_once(stage: Stage) -> None:
    first, *_ = stage.three()
    run = stage.start()
    task = first.task
    receipt = first.answer(task)
    assert (
        first.say(task, {"samples": 10, "seconds": 0.25, "sha256": receipt["sha256"], "evaluation": first.report(task)})
        == receipt
    )
    with pytest.raises(FedportalError) as refused:
        first.say(task, {"samples": 11, "sha256": receipt["sha256"]})
    assert refused.value.code == "answer_differs"
    assert Update.objects.filter(round__run=run).count() == 1


def test_foreign_task_is_not_found(stage: Stage) -> None:
    first, second, _ = stage.three()
    stage.start()
    with pytest.raises(FedportalError) as refused:
        second.say(first.task, {"samples": 5})
    assert refused.value.code == "not_found"


def test_settling_again_and_again_changes_nothing(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start()
    done = current(run).pk
    for site in sites:
        site.answer()
    before = list(run.rounds.values()), run.events.count()
    for _ in range(5):
        rounds.settle(done)
        rounds.settle(current(run).pk)
    assert (list(run.rounds.values()), run.events.count()) == before


def test_too_few_answers_at_the_deadline_open_another_attempt_from_the_same_base(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(min_participants=3)
    sites[0].answer()
    seeds = {site.device.pk: site.task.content["training"]["seed"] for site in sites[1:]}
    rewind(run)
    rounds.settle(current(run).pk)
    again = current(run)
    assert (again.number, again.attempt, again.state) == (1, 2, "open")
    assert again.base_blob == run.base_version.blob
    failed = run.rounds.get(attempt=1)
    assert failed.state == "failed"
    assert failed.reason == "1 of 3 devices had answered at the deadline"
    assert {site.device.pk: site.task.content["training"]["seed"] for site in sites[1:]} == seeds
    assert finish(run, sites).state == "completed"


def test_order_of_arrival_does_not_change_the_digest(stage: Stage) -> None:
    sites = stage.three()
    first, digests = versions.latest(stage.model), set()
    for order in (sites, sites[::-1], [sites[1], sites[0], sites[2]]):
        run = finish(stage.start(version=first), order)
        digests.add(tuple(run.rounds.order_by("number").values_list("digest", flat=True)))
    assert len(digests) == 1
    assert all(digests.pop()[:3])


def test_model_that_is_not_finite_ends_the_run_with_a_reason(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(rounds=3, config={"evaluate": False})
    huge = np.full(4, np.finfo(np.float32).max, np.float32)
    for _ in range(2):  # each update is finite; the model after the second is not
        for site in sites:
            site.answer(vector=huge)
    run.refresh_from_db()
    assert run.state == "failed"
    assert run.reason == (
        "The weights grew beyond all bounds in the model of round 2. "
        "Most likely the learning rate of 0.1 is too high: run again with a lower one."
    )
    assert ModelVersion.objects.filter(model=stage.model).count() == 1
    assert not any(site.tasks() for site in sites)


def test_events_are_numbered_without_gaps(stage: Stage) -> None:
    run = play(stage)
    numbers = list(run.events.values_list("sequence", flat=True))
    assert numbers == list(range(1, run.sequence + 1))
    kinds = list(run.events.values_list("kind", flat=True))
    assert kinds[0] == "run.started"
    assert kinds[-1] == "run.completed"
    assert kinds.count("round.done") == 4


def test_two_runs_share_one_fleet(stage: Stage) -> None:
    sites = stage.three()
    other = stage.shared("second", {"kind": "linear", "inputs": 5})
    runs = [stage.start(rounds=2, config={"evaluate": False}), stage.start(model=other, rounds=2)]
    assert all(len(site.tasks()) == 2 for site in sites)
    for run in runs:
        assert finish(run, sites).state == "completed"


def test_stored_model_of_every_round_is_what_its_digest_says(stage: Stage) -> None:
    run = play(stage)
    for made in run.rounds.filter(kind="train"):
        path = blobs.path(made.result_blob)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == made.result_blob
        assert digest_of(path) == made.digest
