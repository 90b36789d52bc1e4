"""Training with noise about single rows on the device: right gradients, that it learns, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedportal_sdk import data
from fedportal_sdk.functions import FunctionWork
from fedportal_sdk.local import Refusal, TableWork
from fedportal_sdk.simulation import rows as simulated
from fedportal_sdk.trainers import Plan, private, trainer_for
from fedwire import gradients
from fedwire.architectures import MEAN, STD, Architecture
from fedwire.errors import FedportalError
from fedwire.tensors import flatten
from tests.sdk.test_local import task
from tests.sdk.test_trainers import SPECS, example, quiet

ASKED = {"clip": 1.0, "noise": 1.0, "rate": 0.1}


@pytest.mark.parametrize("name", [name for name in SPECS if "normalisation" not in name])
def test_the_gradients_of_single_rows_are_those_of_batches_of_one(name: str) -> None:
    architecture, arrays, rows, labels = example(SPECS[name], 6)
    trainer, plan = trainer_for(architecture), Plan(learning_rate=1.0, batch_size=1)
    flat = flatten(architecture.manifest(), arrays)
    found = trainer.each_gradient(flat, rows, labels)
    assert found.shape == (6, len(flat))
    for row in range(6):
        one = slice(row, row + 1)
        stepped = flatten(architecture.manifest(), trainer.train(arrays, rows[one], labels[one], plan, quiet))
        np.testing.assert_allclose(found[row], flat - stepped, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in SPECS if "normalisation" in name])
def test_rows_under_batch_normalisation_have_no_gradients_of_their_own(name: str) -> None:
    architecture, arrays, rows, labels = example(SPECS[name], 4)
    with pytest.raises(ValueError, match="mixes the rows"):
        trainer_for(architecture).each_gradient(flatten(architecture.manifest(), arrays), rows, labels)
    table = data.load((rows.astype(np.float64), labels), "target")
    with pytest.raises(Refusal, match="mixes rows"):
        TableWork(table).train(task(architecture=architecture, gradients=ASKED), arrays, quiet)


def test_with_hardly_any_noise_and_a_wide_clip_it_is_gradient_descent() -> None:
    """All rows come in every step, so two steps are two steps of the whole gradient over the batch size."""
    architecture, arrays, rows, labels = example(SPECS["logistic"], 40)
    plan = Plan(epochs=2, learning_rate=0.5, batch_size=40, momentum=0.5, weight_decay=0.01, mu=0.1)
    told: list[tuple[int, int]] = []
    asked = private.Asked(clip=100.0, noise=1e-6, rate=1.0)
    found = private.trained(trainer_for(architecture), arrays, rows, labels, plan, asked, lambda *at: told.append(at))
    expected = trainer_for(architecture).train(arrays, rows, labels, plan, quiet)
    for one, array in expected.items():
        np.testing.assert_allclose(found[one], array, atol=1e-3)
    assert told == [(1, 2), (2, 2)]


def test_the_number_of_steps_knows_nothing_of_the_rows() -> None:
    plan = Plan(epochs=3, share=0.5)
    assert private.steps(plan, private.Asked(1.0, 1.0, 0.1)) == 15


def test_breast_cancer_is_learned_under_noise_about_each_row() -> None:
    """ε 4.69 for δ 1e-5 and any one row: noise 1, rate 0.1, 40 steps."""
    table = _breast_cancer()
    architecture = Architecture.parse({"kind": "logistic", "inputs": 30, "standardise": True})
    base: dict[str, Any] = architecture.initial()
    base |= {MEAN: table.features.mean(axis=0).astype("f4"), STD: table.features.std(axis=0).astype("f4")}
    work = TableWork(table)
    asked = task(architecture=architecture, epochs=4, learning_rate=0.5, batch_size=45, gradients=ASKED)
    first, second = work.train(asked, base, quiet), work.train(asked, base, quiet)
    assert any((first.arrays[name] != second.arrays[name]).any() for name in first.arrays)
    assert first.samples == data.by_place(table).sum()
    _, report = work.evaluate(task("evaluate", architecture), {**base, **first.arrays})
    assert report["correct"] >= 0.85 * report["samples"]


def test_no_row_chooses_which_others_are_trained_on() -> None:
    """Without noise of the classes: where a class is rare, `held_out` moves rows for its sake."""
    features = np.arange(60.0).reshape(30, 2)
    for rare in range(1, 29):
        target = np.where(np.arange(30) < rare, "yes", "no")
        found = data.by_place(data.load((features, target), "target"))
        assert found.tolist() == data.by_place(data.load((features, np.roll(target, 7)), "target")).tolist()
        assert found[:-1].tolist() == data.by_place(data.load((features[:-1], target[:-1]), "target")).tolist()


@pytest.mark.parametrize(
    "wrong", [5, {}, {**ASKED, "rate": 1.5}, {**ASKED, "rate": 0}, {**ASKED, "noise": None}, {**ASKED, "clip": True}]
)
def test_a_request_that_is_none_is_not_trained_at_all(wrong: Any) -> None:
    with pytest.raises(FedportalError) as caught:
        private.Asked.of({"gradients": wrong})
    assert caught.value.code == "field_invalid"


def test_what_would_leave_beside_the_update_is_refused() -> None:
    table = _breast_cancer()
    architecture = Architecture.parse({"kind": "logistic", "inputs": 30})
    asked = task(architecture=architecture, gradients=ASKED)
    with pytest.raises(Refusal, match="no noise"):
        TableWork(table).train(asked, architecture.initial(), quiet, np.zeros(31, np.float32))
    asked["answer"]["reports"] = ["steps"]
    with pytest.raises(Refusal, match="no noise"):
        TableWork(table).train(asked, architecture.initial(), quiet)


def test_a_function_of_ones_own_does_not_say_that_it_knows_how() -> None:
    assert gradients.ABILITY in TableWork.abilities
    assert gradients.ABILITY not in FunctionWork.abilities


def _breast_cancer() -> data.Table:
    rows, labels = simulated._known("breast-cancer")
    return data.load((rows, labels), "diagnosis")
