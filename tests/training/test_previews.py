"""A run foreseen: what the preview says is what the start does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from federations.models import Device, DeviceGroup, DeviceKey, Policy
from federations.services import federations
from fedportal.common import clock
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest, TensorSpec
from registry import files
from registry.models import ModelVersion, Share
from registry.services import models
from tests.training.conftest import LOGISTIC, Stage, current, rewind
from training.models import Round, Run
from training.services import previews, rounds, runs
from training.services.previews import Preview


def foreseen(stage: Stage, **options: Any) -> Preview:
    wish = {"rounds": 3, "min_participants": 1, "federation": stage.cast.federation, **options}
    return previews.of(stage.olga, wish.pop("model", stage.model), **wish)


def codes(preview: Preview) -> set[str]:
    return {problem.code for problem in preview.problems}


def places(preview: Preview) -> dict[str, tuple[int, int, str]]:
    return {place.name: (place.expected, place.known, place.reason) for place in preview.places}


def test_whom_the_preview_expects_is_whom_the_round_asks(stage: Stage) -> None:
    one, two, _ = stage.three()
    stage.site(stage.cast.acme, "acme-away").vanish()
    stage.site(stage.cast.valley, "valley-1")  # not a member yet
    DeviceKey.objects.filter(device=two.device).update(revoked_at=clock.now())
    preview = foreseen(stage)
    assert places(preview) == {
        "acme": (1, 3, "is not there with all"),
        "metro": (1, 2, "is not there with all"),
        "valley": (0, 0, "has not joined yet"),
    }
    assert preview.sentence == "The first round would begin at once with 2 devices of 2 organizations."
    run = stage.start()
    assert current(run).assignments.count() == preview.expected == 2
    assert one.task.content["run"] == run.public_id


def test_looking_changes_nothing(stage: Stage) -> None:
    stage.three()
    foreseen(stage)
    assert not Run.objects.exists()
    assert not Round.objects.exists()


def test_who_is_barred_is_named_with_the_reason_and_left_out(stage: Stage) -> None:
    stage.three()
    Policy.objects.create(organization=stage.cast.metro, allowed_strategies=["fedprox"])
    preview = foreseen(stage, min_participants=3)
    assert places(preview)["metro"][::2] == (0, "metro does not allow the strategy fedavg")
    assert {"left_out", "too_few", "alone"} <= codes(preview)
    assert preview.ok
    run = stage.start(min_participants=3)
    assert current(run).assignments.count() == preview.expected == 2


def test_a_group_counts_only_its_devices(stage: Stage) -> None:
    one, *_ = stage.three()
    one.device.groups.add(DeviceGroup.objects.create(organization=stage.cast.acme, name="gpu"))
    assert places(foreseen(stage, group="gpu"))["acme"] == (1, 1, "")
    assert places(foreseen(stage, group="gpu"))["metro"] == (0, 0, "has no device in this group")
    assert "too_few" in codes(foreseen(stage, group="nowhere"))


def test_a_steep_learning_rate_is_seen_in_the_settings(stage: Stage) -> None:
    assert "steep" in codes(foreseen(stage, config={"learning_rate": 50}))
    assert "steep" not in codes(foreseen(stage, config={"learning_rate": 0.1}))


def test_a_run_that_goes_on_already_and_a_hasty_deadline_are_told(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(rounds=2)
    for site in sites:
        site.answer()
    Round.objects.filter(run=run, number=1).update(opened_at=clock.now() - timedelta(seconds=90))
    preview = foreseen(stage, round_seconds=60)
    assert {"going_on", "hasty"} <= codes(preview)
    told = next(problem for problem in preview.problems if problem.code == "going_on")
    assert "round 1 of 2 in healthcare-consortium" in told.sentence
    assert "hasty" not in codes(foreseen(stage, round_seconds=600))


def test_settings_with_which_the_last_run_grew_without_end_are_warned_of(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(config={"learning_rate": 5.0})
    assert "grew" not in codes(foreseen(stage, config={"learning_rate": 5.0}))
    for site in sites:
        site.decline("not_finite")
    assert {card["reason"] for card in stage.snapshot(run)["participants"]} == {
        "the weights grew beyond all bounds here"
    }
    rewind(run)
    rounds.settle(current(run).pk)
    run.refresh_from_db()
    assert run.reason == (
        "The weights grew beyond all bounds on 3 devices. "
        "Most likely the learning rate of 5 is too high: run again with a lower one."
    )
    warned = next(found for found in foreseen(stage, config={"learning_rate": 5.0}).problems if found.code == "grew")
    assert (warned.level, warned.field) == ("warning", "config.learning_rate")
    assert run.reason in warned.sentence
    assert "grew" not in codes(foreseen(stage, config={"learning_rate": 0.1}))


def test_devices_with_too_few_rows_for_their_policy_are_not_promised(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(rounds=2)
    for site in sites:
        site.answer()
    runs.stop(stage.olga, run)
    Policy.objects.create(organization=stage.cast.acme, least_records=15)
    preview = foreseen(stage, min_participants=3)
    assert places(preview)["acme"] == (2, 2, "1 would decline: fewer than 15 rows")
    assert "few_rows" in codes(preview)
    assert preview.sentence == "The first round would wait for 1 more device."
    told = foreseen(stage, min_participants=2).sentence
    assert told == "The first round would begin at once with 2 devices of 2 organizations."


def test_all_that_is_wrong_is_told_at_once(stage: Stage) -> None:
    config = {"epochs": 0, "learning_rate": "fast", "speed": 3, "seed": -1}
    preview = foreseen(stage, rounds=0, min_participants=0, round_seconds="long", group="a\tb", config=config)
    errors = {problem.field for problem in preview.problems if problem.level == "error"}
    assert errors == {
        *("rounds", "min_participants", "round_seconds", "group", "config.seed"),
        *("config.epochs", "config.learning_rate", "config.speed"),
    }


def without_version(stage: Stage) -> dict[str, Any]:
    made = models.create(stage.olga, name="empty", architecture=LOGISTIC)
    models.share(stage.olga, made, stage.cast.federation)
    return {"model": made}


def of_halves(stage: Stage) -> dict[str, Any]:
    """A model whose weights are not float32."""
    made = models.create(stage.olga, name="halves")
    models.share(stage.olga, made, stage.cast.federation)
    manifest = Manifest.of([TensorSpec("w", "F16", (2,))])
    stored = files.store_arrays(manifest, {"w": np.ones(2, np.float16)})
    ModelVersion.objects.create(
        organization=made.organization,
        model=made,
        version="1.0.0",
        major=1,
        minor=0,
        patch=0,
        origin="pushed",
        blob=stored.blob,
        size=stored.size,
        digest=stored.digest,
        manifest=manifest.to_json(),
    )
    return {"model": made}


def not_shared(stage: Stage) -> dict[str, Any]:
    Share.objects.filter(model=stage.model).delete()
    return {}


def shared_twice(stage: Stage) -> dict[str, Any]:
    models.share(stage.olga, stage.model, federations.found(stage.olga, name="second"))
    return {"federation": None}


@pytest.mark.parametrize(
    "wrong",
    [
        without_version,
        of_halves,
        not_shared,
        shared_twice,
        lambda stage: {"rounds": 0},
        lambda stage: {"rounds": "many"},
        lambda stage: {"round_seconds": 10_000_000},
        lambda stage: {"min_participants": 1.5},
        lambda stage: {"group": "x" * 61},
        lambda stage: {"strategy": "magic"},
        lambda stage: {"config": {"epochs": 1.5}},
        lambda stage: {"config": {"standardise": True}},
        lambda stage: {"config": {"evaluate": "yes"}},
    ],
)
def test_an_error_is_exactly_what_the_start_refuses(wrong: Any, stage: Stage) -> None:
    stage.three()
    options = wrong(stage)
    preview = foreseen(stage, **options)
    errors = [problem.code for problem in preview.problems if problem.level == "error"]
    assert not preview.ok
    wish = {"model": stage.model, "rounds": 3, "federation": stage.cast.federation, **options}
    with pytest.raises(FedportalError) as refused:
        runs.start(stage.olga, **wish)
    assert refused.value.code in errors
    assert len(errors) == 1


def test_what_only_warns_starts(stage: Stage) -> None:
    preview = foreseen(stage, min_participants=9, group="nowhere")
    assert preview.ok
    assert preview.problems
    assert stage.start(min_participants=9, group="nowhere").state == "running"


def test_who_may_not_start_may_not_preview(stage: Stage) -> None:
    for who, code in (("otto", "forbidden"), ("mia", "forbidden"), ("vera", "not_found"), ("rex", "not_found")):
        with pytest.raises(FedportalError) as refused:
            previews.of(stage.cast.actor(who), stage.model, federation=stage.cast.federation, rounds=1)
        assert refused.value.code == code


def test_a_preview_asks_as_often_for_many_devices_as_for_few(stage: Stage) -> None:
    stage.three()

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            foreseen(stage)
        return len(asked)

    queries()
    few = queries()
    template = Device.objects.get(identifier="acme-1")
    for number in range(30):
        Device.objects.create(
            organization=template.organization, identifier=f"more-{number}", last_seen_at=template.last_seen_at
        )
    assert queries() == few


def test_the_api_previews_what_it_would_start(stage: Stage) -> None:
    stage.three()
    client = stage.cast.client("olga")
    wish = {"model_id": "radiology-v1", "rounds": 3, "min_devices": 4, "config": {"epochs": 0}}
    answer = client.post("/api/v1/training/sessions/preview", wish, content_type="application/json")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["ok"], found["expected"], found["need"], found["version"]) == (False, 3, 4, "1.0.0")
    assert [row["organization"]["name"] for row in found["organizations"] if row["expected"]] == ["acme", "metro"]
    assert {problem["field"] for problem in found["problems"] if problem["level"] == "error"} == {"config.epochs"}
    assert not Run.objects.exists()
    refused = client.post(
        "/api/v1/training/sessions/preview", {**wish, "privacy": "local"}, content_type="application/json"
    )
    assert refused.json()["context"]["field"] == "privacy"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("fraction", "codec_fraction"),
        ("feedback", "error_feedback"),
        ("Momentun", "momentum"),
        ("learningrate", "learning_rate"),
        ("min_participant", "min_participants"),
        ("sample", "sample"),
        ("magic", None),
    ],
)
def test_a_name_that_is_no_parameter_says_which_may_have_been_meant(stage: Stage, said: str, meant: str | None) -> None:
    (problem,) = [one for one in foreseen(stage, config={said: 0.5}).problems if one.level == "error"]
    assert problem.code == "strategy_parameter"
    assert ("Did you mean" in problem.sentence) is (meant is not None)
    with pytest.raises(FedportalError) as refused:
        stage.start(config={said: 0.5})
    assert refused.value.context.get("meant") == meant
    assert refused.value.message == problem.sentence
    if meant is not None:
        what = "" if meant in ("momentum", "learning_rate") else ", a setting of the run"
        assert problem.sentence.endswith(f"Did you mean {meant}{what}?")
