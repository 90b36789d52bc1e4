"""Rows from updates: by hand, and for any row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedportal_sdk.leakage import inversion
from fedportal_sdk.leakage.chains import Chain
from fedportal_sdk.leakage.inversion import Prior
from fedwire.architectures import Architecture

LINEAR = Chain(Architecture.parse({"kind": "linear", "inputs": 2}))
MLP = Chain(Architecture.parse({"kind": "mlp", "inputs": 4, "hidden": [8], "classes": 3}))
LOGISTIC = Chain(Architecture.parse({"kind": "logistic", "inputs": 4, "classes": 2}))
NUMBERS = st.floats(-3, 3, width=32)


def weights_of(chain: Chain) -> np.ndarray:
    return np.random.default_rng(5).normal(size=chain.parameters)


def test_one_row_by_hand():
    """w = 0, b = 0, row (3, -1), target 2: the slope is -2, so ΔW = 0.1·2·(3, -1) and Δb = 0.2."""
    update = -0.1 * LINEAR.gradients(np.zeros(3), np.array([[3.0, -1.0]]), np.array([2.0]))
    weight, bias = LINEAR.layer(update, 0)
    np.testing.assert_allclose(weight[0], [[0.6, -0.2]])
    np.testing.assert_allclose(bias[0], [0.2])
    np.testing.assert_allclose(inversion.least_squares(LINEAR, update), [[3, -1]])


@settings(max_examples=60, deadline=None)
@given(st.lists(NUMBERS, min_size=4, max_size=4), st.integers(0, 2), st.floats(1e-3, 10))
def test_any_row_comes_back_from_its_own_update_whatever_the_learning_rate(row, label, rate):
    update = -rate * MLP.gradients(weights_of(MLP), np.array([row]), np.array([label]))
    if np.abs(MLP.layer(update, 0)[1]).max() < 1e-9:  # every neuron of the first layer is silent for it
        return
    np.testing.assert_allclose(inversion.least_squares(MLP, update), [row], atol=1e-8)
    for candidate in inversion.ratios(MLP, update[0]):
        np.testing.assert_allclose(candidate, row, atol=1e-6)


@pytest.mark.parametrize(("chain", "classes"), [(MLP, 3), (LOGISTIC, 2)])
def test_the_class_is_read_off_the_last_layer(chain, classes):
    rows, labels = np.random.default_rng(1).normal(size=(60, 4)), np.arange(60) % classes
    updates = -0.1 * chain.gradients(weights_of(chain), rows, labels)
    np.testing.assert_array_equal(inversion.labels_of(chain, updates), labels)


def test_a_model_without_classes_has_none_to_read():
    assert inversion.labels_of(LINEAR, np.zeros((1, 3))) is None
    prior = Prior.of(np.random.default_rng(1).normal(size=(9, 2)))
    assert inversion.searched(LINEAR, np.zeros(3), np.zeros((1, 3)), prior, np.random.default_rng(1)) is None


def test_a_neuron_that_answers_to_one_row_alone_gives_it_away_in_a_sum():
    weights = np.zeros(LOGISTIC.parameters)
    one, other = np.array([[1.0, 2, 3, 4]]), np.array([[4.0, 3, 2, 1]])
    mlp = Chain(Architecture.parse({"kind": "mlp", "inputs": 4, "hidden": [2], "classes": 2}))
    weights = np.zeros(mlp.parameters)
    mlp.layer(weights, 0)[0][:] = [
        [1, 0, 0, -1],
        [-1, 0, 0, 1],
    ]  # one neuron for rows that rise, one for those that fall
    mlp.layer(weights, 1)[0][:] = [[1, 1]]
    both = mlp.gradients(weights, np.concatenate([one, other]), np.array([0, 1])).sum(axis=0)
    np.testing.assert_allclose(sorted(inversion.ratios(mlp, both).tolist()), [one[0], other[0]])


def test_a_row_is_found_by_search_where_its_gradient_is_known():
    random = np.random.default_rng(2)
    rows, labels = random.random((20, 4)), np.arange(20) % 3
    prior = Prior(rows.mean(axis=0), np.eye(4), np.zeros(4), np.ones(4))
    updates = -0.1 * MLP.gradients(weights_of(MLP), rows, labels)
    found = inversion.searched(MLP, weights_of(MLP), updates, prior, random)
    assert inversion.psnr(found, rows, 1.0).mean() > 30


def test_psnr_by_hand():
    """An error of a tenth of the range in every number is 20 dB; none at all is the most there is."""
    truth = np.zeros((2, 4))
    guess = truth + np.array([[0.2], [0.0]])
    np.testing.assert_allclose(inversion.psnr(guess, truth, 2.0), [20, inversion.MOST_PSNR])


def test_what_is_known_of_rows_counts_by_how_much_noise_there_is():
    """One neuron, Δb = 10, noise 10 on each number: its share is taken off, 100 - 100 < 1, so s² = 100 / 1 and of the
    guess 1/101 is kept where rows have a variance of one."""
    update = np.array([[10.0, 50.0, 0.0]])  # bias, then weight: the guess is (5, 0)
    prior = Prior(np.zeros(2), np.eye(2), np.full(2, -9.0), np.full(2, 9.0))
    np.testing.assert_allclose(inversion.informed(LINEAR, update, prior, 10.0), [[5 / 101, 0]])
    np.testing.assert_allclose(inversion.informed(LINEAR, update, prior, 0.0), [[5, 0]])


def test_a_class_that_is_known_is_guessed_as_its_normal_distribution_says():
    """Δb is known to be 2, noise 2: s² = 1, so half of what the update says goes to the mean of the class."""
    update = np.array([[7.0, 4.0, 8.0]])  # the guess is (2, 4)
    prior = Prior(np.array([1.0, 1.0]), np.eye(2), np.full(2, -9.0), np.full(2, 9.0))
    found = inversion.classwise(LINEAR, update, np.array([1]), {1: np.array([2.0])}, {1: prior}, 2.0)
    np.testing.assert_allclose(found, [[1.5, 2.5]])
