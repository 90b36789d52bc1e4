"""The best round of a run: how it is chosen, and its model as a version beside that of the last."""

from __future__ import annotations

from typing import Any

import pytest

from fedwire import metrics
from fedwire.errors import FedportalError
from registry.models import ModelVersion
from registry.selectors import sentence
from tests.training.conftest import Site, Stage
from tests.training.test_rounds import finish
from training.models import Run
from training.services import best

LOSSES = {1: 1.0, 2: 0.25, 3: 0.5, 4: 0.75}  # of the model each round begins with: the first round makes the best


class Wavering(Site):
    """A device on whose rows the model becomes better and then worse."""

    def report(self, task: Any) -> dict[str, Any]:
        loss = LOSSES[task.content["round"]]
        right = round(10 * loss)  # so that more loss is more accuracy, and the two do not agree
        report = metrics.evaluation([0.9] * 10, [1] * right + [0] * (10 - right), [loss] * 10)
        return {**report, "sums": {"dice": 10 * loss}}


def play(stage: Stage, **config: Any) -> Run:
    site = Wavering(stage.site(stage.cast.acme, "acme-1").device, 10, 1.0)
    return finish(stage.start(rounds=3, config=config), [site])


@pytest.mark.parametrize(
    ("chosen", "number", "value"),
    [
        (None, 1, 0.25),
        ("loss", 1, 0.25),
        ("accuracy", 0, 1.0),
        ("dice", 0, 1.0),
        ({"metric": "dice", "greater": False}, 1, 0.25),
        ({"metric": "never heard of"}, None, None),
    ],
)
def test_best_round_is_chosen_by_the_metric_of_the_run(
    stage: Stage, chosen: Any, number: int | None, value: float | None
) -> None:
    run = play(stage, best=chosen)
    assert (run.best_round, run.best_value) == (number, pytest.approx(value))
    assert run.best_loss == (None if number is None else LOSSES[number + 1])


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        (None, {"metric": "loss", "greater": False}),
        ("auc", {"metric": "auc", "greater": True}),
        ("absolute_error", {"metric": "absolute_error", "greater": False}),
        ({"metric": "dice"}, {"metric": "dice", "greater": True}),
        ({"greater": True}, {"metric": "loss", "greater": True}),
    ],
)
def test_more_is_better_unless_it_is_an_error(said: Any, stored: dict[str, Any]) -> None:
    assert best.criterion(said) == stored


@pytest.mark.parametrize("said", [3, [], "", "x" * 99, {"metric": 1}, {"greater": "yes"}, {"by": "loss"}])
def test_criterion_that_is_none_is_refused(stage: Stage, said: Any) -> None:
    with pytest.raises(FedportalError) as refused:
        stage.start(config={"best": said})
    assert refused.value.code == "field_invalid"


def test_best_model_becomes_a_version_beside_the_last(stage: Stage) -> None:
    run = play(stage)
    assert stage.snapshot(run)["actions"]["publish_best"]
    version = best.publish(stage.olga, run)
    made = run.rounds.get(number=1)
    assert (version.version, version.blob, version.digest) == ("2.1.0", made.result_blob, made.digest)
    assert version.metrics["loss"] == 0.25
    assert run.result_version is not None
    assert run.result_version.blob != version.blob


def test_lineage_says_that_it_is_the_best_and_by_what(stage: Stage) -> None:
    run = play(stage)
    version = best.publish(stage.olga, run)
    assert version.lineage["chosen"] == "best"
    assert version.lineage["rounds"] == 1
    assert version.lineage["best"]["by"] == {"metric": "loss", "greater": False}
    assert version.lineage["best"]["value"] == 0.25
    assert sentence(version) == "aggregated from 1 round, 1 organization; the best of its run"
    assert run.result_version is not None
    assert run.result_version.lineage["chosen"] == "last"


def test_publishing_twice_gives_one_version_and_the_page_says_which(stage: Stage) -> None:
    run = play(stage)
    first = best.publish(stage.olga, run)
    assert best.publish(stage.olga, run) == first
    assert ModelVersion.objects.filter(lineage__chosen="best").count() == 1
    shown = stage.snapshot(run)
    assert shown["best_version"] == first.version
    assert not shown["actions"]["publish_best"]
    assert run.events.filter(kind="version.published").count() == 1


def test_last_model_that_is_the_best_is_published_already(stage: Stage) -> None:
    sites = stage.three()
    run = finish(stage.start(rounds=2), sites)
    assert best.publish(stage.olga, run) == run.result_version


def test_base_that_nothing_surpassed_is_no_new_version(stage: Stage) -> None:
    run = play(stage, best="accuracy")
    with pytest.raises(FedportalError, match="the one it began with") as refused:
        best.publish(stage.olga, run)
    assert refused.value.next_step == "It is version 1.0.0 already."
    assert not stage.snapshot(run)["actions"]["publish_best"]


def test_member_who_may_not_control_the_run_may_not_publish(stage: Stage) -> None:
    run = play(stage)
    with pytest.raises(FedportalError) as refused:
        best.publish(stage.cast.actor("mia"), run)
    assert refused.value.code == "forbidden"


def test_points_say_how_far_the_model_moved_and_how_the_loss_changed(stage: Stage) -> None:
    run = play(stage)
    curve = stage.snapshot(run)["curves"]
    assert [point["drift"] for point in curve[:2]] == [
        None,
        None,
    ]  # its first weights are 0
    assert all(point["drift"] > 0 for point in curve[2:])
    assert [point["loss_change"] for point in curve] == [None, -0.75, 0.25, 0.25]
    assert curve[2]["organizations"][stage.cast.acme.public_id]["loss_change"] == 0.25
    told = [event.data["point"] for event in run.events.filter(kind="round.done").order_by("sequence")]
    assert [point["drift"] for point in told] == [point["drift"] for point in curve]


def test_only_the_newest_point_tells_fairness_in_full(stage: Stage) -> None:
    sites = stage.three()
    run = finish(stage.start(rounds=2), sites)
    curve = stage.snapshot(run)["curves"]
    assert ["fairness" in point for point in curve] == [False, False, True]
    assert curve[-1]["fairness"]["loss"]["gap"] == pytest.approx(0.0)
    assert run.result_version is not None
    assert set(run.result_version.metrics["fairness"]) >= {"accuracy", "loss"}
