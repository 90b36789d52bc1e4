"""Gradients row by row, and what is measured on them, by the trainer and by differences."""

from __future__ import annotations

import numpy as np
import pytest

from fedportal_sdk.leakage.chains import Chain
from fedportal_sdk.trainers.dense import DenseTrainer
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError

SPECS = (
    {"kind": "linear", "inputs": 3},
    {"kind": "logistic", "inputs": 3, "classes": 2},
    {"kind": "logistic", "inputs": 3, "classes": 4},
    {"kind": "mlp", "inputs": 3, "hidden": [5], "classes": 2},
    {"kind": "mlp", "inputs": 3, "hidden": [5, 4], "classes": 3},
)


class World:
    """A chain with weights, rows and labels for it."""

    def __init__(self, spec: dict[str, object]) -> None:
        self.architecture = Architecture.parse(spec)
        self.chain = Chain(self.architecture)
        self.random = np.random.default_rng(3)
        self.weights = self.random.normal(size=self.chain.parameters)
        self.rows = self.random.normal(size=(6, 3))
        classes = self.architecture.classes
        self.labels = np.arange(6) % classes if classes else self.random.normal(size=6)


@pytest.fixture(params=SPECS, ids=lambda spec: f"{spec['kind']}-{spec.get('hidden', '')}-{spec.get('classes', 0)}")
def world(request):
    return World(request.param)


def test_gradients_are_those_that_a_device_trains_with(world):
    trainer = DenseTrainer(world.architecture)
    found = world.chain.gradients(world.weights, world.rows, world.labels)
    for row, label, gradient in zip(world.rows, world.labels, found, strict=True):
        np.testing.assert_allclose(gradient, trainer.gradient(world.weights, row[None], np.array([label])), atol=1e-12)


def test_losses_are_those_that_a_device_measures(world):
    found = world.chain.losses(world.weights, world.rows, world.labels)
    assert found.mean() == pytest.approx(
        DenseTrainer(world.architecture).mean_loss(world.weights, world.rows, world.labels)
    )


def test_how_far_a_gradient_points_from_a_direction_is_its_angle(world):
    wanted = directions(world)
    gradients = world.chain.gradients(world.weights, world.rows, world.labels)
    cosines = np.einsum("np,np->n", gradients, wanted) / np.linalg.norm(gradients, axis=1)
    found = world.chain.turned(world.weights, world.rows, world.labels, wanted)[0]
    np.testing.assert_allclose(found, 1 - cosines, atol=1e-12)


def test_the_way_a_row_turns_its_gradient_is_the_difference_that_a_small_move_makes(world):
    wanted = directions(world)

    def angles(rows):
        return world.chain.turned(world.weights, rows, world.labels, wanted)[0]

    found = world.chain.turned(world.weights, world.rows, world.labels, wanted)[1]
    for column in range(3):
        step = np.zeros(3)
        step[column] = 1e-6
        expected = (angles(world.rows + step) - angles(world.rows - step)) / 2e-6
        np.testing.assert_allclose(found[:, column], expected, rtol=1e-4, atol=1e-7)


def directions(world: World) -> np.ndarray:
    found = world.random.normal(size=(6, world.chain.parameters))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"kind": "cnn", "inputs": [1, 8, 8], "channels": [2], "hidden": [], "classes": 2}, "convolution"),
        ({"kind": "mlp", "inputs": 3, "hidden": [4], "classes": 2, "batch_norm": True}, "batch normalisation"),
    ],
)
def test_a_model_that_these_attacks_do_not_fit_is_refused_with_the_reason(spec, why):
    with pytest.raises(FedportalError, match=why) as refused:
        Chain(Architecture.parse(spec))
    assert refused.value.code == "audit_unavailable"
