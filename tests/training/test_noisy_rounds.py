"""Runs with noise, through the services: what devices are asked, and what the portal makes of their updates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from federations.models import Policy
from fedwire import gradients, grids
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest
from tests.training.conftest import Site, Stage, current, weights_of
from training import spending
from training.models import Ledger, Run, Spending, Update
from training.privacy import accounting, labels
from training.privacy.accounting import Mechanism
from training.services import budgets, labelling

TRAIN_ONLY = {"evaluate": False}
CENTRAL = {"mechanism": "central", "noise": 1.0, "clip": 0.5}
RECORDS = {"mechanism": "records", "noise": 1.0, "clip": 0.5, "rate": 0.05}
LITTLE = {**CENTRAL, "noise": 0.01}


def moved(run: Run) -> np.ndarray:
    """How far the first round moved the model."""
    first = run.rounds.get(number=1, state="done")
    return (weights_of(first.result_blob) - weights_of(first.base_blob)).astype(np.float64)


def ended(stage: Stage, sites: list[Site], privacy: dict[str, object], vector: np.ndarray) -> Run:
    """A run of one round in which every device sends this update."""
    run = stage.start(rounds=1, min_participants=len(sites), config={**TRAIN_ONLY, "privacy": privacy})
    for site in sites:
        site.answer(vector=vector)
    run.refresh_from_db()
    assert run.state == "completed"
    return run


def test_the_portal_clips_each_update_and_adds_noise_to_the_sum(stage: Stage) -> None:
    sites = stage.three()
    update = np.full(stage_length(stage), 1e6, np.float32)
    found = moved(ended(stage, sites, LITTLE, update))
    each = 0.5 / np.sqrt(len(update))
    assert np.abs(found - each).max() < 8 * 0.01 * 0.5 / 3  # the noise of a sum of three, divided by three
    assert np.abs(found - each).max() > 0


def test_two_runs_of_the_same_are_never_equal(stage: Stage) -> None:
    sites = stage.three()
    update = np.zeros(stage_length(stage), np.float32)
    first, second = (moved(ended(stage, sites, CENTRAL, update)) for _ in range(2))
    assert not np.array_equal(first, second)
    assert np.abs(first).max() < 8 * 0.5 / 3


def test_rows_give_no_weight_under_noise(stage: Stage) -> None:
    """Of three devices one has many rows: what it moves is a third all the same."""
    few, some, many = stage.three()
    run = stage.start(rounds=1, min_participants=3, config={**TRAIN_ONLY, "privacy": LITTLE})
    nothing = np.zeros(stage_length(stage), np.float32)
    few.answer(vector=nothing)
    some.answer(vector=nothing)
    many.answer(vector=nothing + np.float32(0.1), samples=100_000)
    assert np.abs(moved(run) - 0.1 / 3).max() < 8 * 0.01 * 0.5 / 3


def test_a_device_is_asked_for_noise_of_its_own_and_has_to_know_how(stage: Stage) -> None:
    (site, *_) = stage.three()
    stage.start(config={**TRAIN_ONLY, "privacy": {**CENTRAL, "mechanism": "local"}})
    told = site.task.content["training"]
    assert told["noise"] == {"clip": 0.5, "noise": 1.0}
    assert told["requires"] == [grids.ABILITY]


def test_noise_about_rows_is_asked_for_charged_by_the_step_and_told_by_the_round(stage: Stage) -> None:
    sites = stage.three()
    run = stage.start(rounds=1, min_participants=3, config={**TRAIN_ONLY, "privacy": RECORDS, "epochs": 2})
    told = sites[0].task.content["training"]
    assert told["gradients"] == {"clip": 0.5, "noise": 1.0, "rate": 0.05}
    assert told["requires"] == [gradients.ABILITY]
    for site in sites:
        site.answer()
    run.refresh_from_db()
    assert run.state == "completed"
    kept = Spending.objects.filter(run=run, organization=stage.cast.acme).get()
    assert (kept.state, kept.unit, kept.noise, kept.rate, kept.rounds) == ("charged", "record", 1.0, 0.05, 40)
    label = labelling.of(run)
    (noise, acme) = label["noise"], label["organizations"][0]
    assert noise["epsilon"] == pytest.approx(accounting.epsilon([Mechanism(1.0, 0.05, 40)], 1e-5))
    assert noise["epsilon"] < accounting.epsilon([Mechanism(1.0, 1.0, 40)], 1e-5) / 5
    assert (noise["delta"], noise["unit"], noise["towards"]) == (1e-5, "record", [labels.PORTAL, labels.OTHERS])
    assert "one record" in noise["adjacency"]
    assert "a coin of its own on its device, with the probability 0.05" in noise["sampling"]
    assert acme["rounds"] == 1
    own = spending.of(stage.cast.acme)
    assert [row["rounds"] for row in own["federations"]] == [1]
    assert spending.told(stage.cast.acme, [run])[0]["charged"] == 1


def test_a_budget_is_enough_for_whole_rounds_about_rows(stage: Stage) -> None:
    """A round is of forty steps, and what is left is told in rounds."""
    each = Mechanism(1.0, 0.05, 40)
    two, three = (accounting.running_epsilon([replace(each, rounds=40 * rounds)], 1e-5) for rounds in (2, 3))
    Policy.objects.update_or_create(organization=stage.cast.acme, defaults={"privacy_epsilon": (two + three) / 2})
    site, *_ = stage.three()
    run = stage.start(rounds=5, min_participants=1, config={**TRAIN_ONLY, "privacy": RECORDS, "epochs": 2})
    counts = Ledger.objects.get(organization=stage.cast.acme).counts
    assert counts == {"record 1.0 0.05": 40}
    assert budgets.rounds_left(run, counts, Policy.objects.get(organization=stage.cast.acme)) == 1
    assert site.task.kind == "train"


@pytest.mark.parametrize(
    ("architecture", "why"),
    [
        ({"kind": "mlp", "inputs": 3, "hidden": [4], "batch_norm": True}, "mixes rows"),
    ],
)
def test_noise_about_rows_is_refused_for_models_whose_rows_are_mixed(
    stage: Stage, architecture: dict[str, object], why: str
) -> None:
    stage.three()
    with pytest.raises(FedportalError) as caught:
        stage.start(model=stage.shared("mixed", architecture), config={**TRAIN_ONLY, "privacy": RECORDS})
    assert (caught.value.code, why in str(caught.value)) == ("field_invalid", True)
    assert not Run.objects.exists()


def test_without_noise_nobody_is_asked_for_any(stage: Stage) -> None:
    (site, *_) = stage.three()
    run = stage.start(config=TRAIN_ONLY)
    assert "noise" not in site.task.content["training"]
    stage.start(config={**TRAIN_ONLY, "privacy": CENTRAL})
    assert all("noise" not in task.content["training"] for task in site.tasks())
    assert current(run).number == 1


def test_an_adaptive_clip_goes_on_from_round_to_round(stage: Stage) -> None:
    sites = stage.three()
    privacy = {**CENTRAL, "clip": 2.0, "noise": 0.01, "clipping": "adaptive", "quantile": 0.5}
    run = stage.start(rounds=3, min_participants=3, config={**TRAIN_ONLY, "privacy": privacy})
    update = np.full(stage_length(stage), 0.01, np.float32)
    for _ in range(3):
        for site in sites:
            site.answer(vector=update)
    clips = list(run.rounds.filter(state="done").order_by("number").values_list("clip", flat=True))
    # All norms are within, so the clip goes down by the step of the paper, but for the noise in the count of three.
    assert clips == sorted(clips, reverse=True)
    assert abs(np.log(clips[2] / 2.0) + 3 * 0.2 * 0.5) < 3 * 0.2 * 8 * 0.15 / 3


def test_a_fixed_clip_leaves_nothing_behind(stage: Stage) -> None:
    run = ended(stage, stage.three(), CENTRAL, np.zeros(stage_length(stage), np.float32))
    assert list(run.rounds.values_list("clip", flat=True)) == [None]


def stage_length(stage: Stage) -> int:
    """How many numbers an update of the stage's model has."""
    return Manifest.from_json(stage.model.versions.get().manifest).parameters


def test_under_noise_nobody_hears_of_the_scores_of_single_updates(stage: Stage) -> None:
    sites = [stage.site(stage.cast.acme, f"acme-{number}") for number in range(5)]
    lengths = {site: 50.0 if number == 4 else 1 + number / 100 for number, site in enumerate(sites)}
    numbers = stage_length(stage)
    for privacy, told in (({}, True), (CENTRAL, False), ({**CENTRAL, "mechanism": "local"}, False)):
        run = stage.start(rounds=1, min_participants=5, config={**TRAIN_ONLY, "privacy": privacy})
        for site, length in lengths.items():
            site.answer(vector=np.full(numbers, length, np.float32))
        assert bool(stage.snapshot(run)["flagged"]) is told
        kept = Update.objects.filter(counted_in__run=run).values_list("anomaly", flat=True)
        assert [bool(found) for found in kept] == [told] * 5
