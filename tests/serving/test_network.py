"""What is served computes what was trained: to 1e-5 the same as torch and as the trainers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fedportal_sdk.serving import network
from fedportal_sdk.serving.network import Network
from fedportal_sdk.trainers.dense import DenseTrainer
from fedportal_sdk.trainers.torch import build, state_dict_of
from fedwire.architectures import Architecture
from tests.serving.made import weights

SPECS: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "inputs": 7},
    "linear, standardised": {"kind": "linear", "inputs": 7, "standardise": True},
    "two classes": {"kind": "logistic", "inputs": 7, "standardise": True},
    "five classes": {"kind": "logistic", "inputs": 7, "classes": 5},
    "mlp": {"kind": "mlp", "inputs": 7, "hidden": [16, 9], "classes": 3, "standardise": True},
    "mlp, normalised": {"kind": "mlp", "inputs": 7, "hidden": [16, 9], "classes": 2, "batch_norm": True},
    "mlp without a hidden layer": {"kind": "mlp", "inputs": 7, "hidden": [], "classes": 2},
    "cnn": {"kind": "cnn", "inputs": [1, 12, 12], "classes": 10},
    "cnn, odd and coloured": {"kind": "cnn", "inputs": [3, 13, 11], "hidden": [6], "classes": 2, "standardise": True},
    "cnn, normalised": {"kind": "cnn", "inputs": [2, 8, 9], "channels": [3, 5], "hidden": [4], "batch_norm": True},
    "cnn without channels": {"kind": "cnn", "inputs": [2, 4, 3], "channels": [], "hidden": [4], "classes": 3},
}


def rows_for(architecture: Architecture, count: int = 33) -> Any:
    return np.random.default_rng(1).normal(3, 1, size=(count, architecture.inputs))


def with_torch(architecture: Architecture, arrays: Any) -> Any:
    module = build(architecture)
    state = state_dict_of(arrays)
    module.load_state_dict(state, strict=False)
    assert set(state) <= set(module.state_dict())
    return module.eval()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_outputs_and_hidden_layer_are_those_of_torch(spec: dict[str, Any]) -> None:
    architecture, arrays = Architecture.parse(spec), weights(spec)
    rows, made, module = rows_for(architecture), Network(architecture, arrays), with_torch(architecture, arrays)
    given = torch.from_numpy(rows.astype(np.float32)).view(-1, *architecture.input_shape)
    with torch.no_grad():
        expected = module(given).numpy()
        if architecture.standardise:
            given = module.standardise(given)
        before = module.layers[:-1](given).numpy()
    assert np.abs(made.outputs(rows) - expected).max() < 1e-5 * max(1, np.abs(expected).max())
    if len(architecture.steps) > 1:
        assert made.width == before.shape[1]
        assert np.abs(made.hidden(rows) - before).max() < 1e-5 * max(1, np.abs(before).max())
    else:
        assert made.width == 0


def test_rows_are_standardised_as_in_training_where_single_precision_would_lose_them() -> None:
    """A column that is large and hardly varies."""
    spec = {"kind": "logistic", "inputs": 1, "standardise": True}
    architecture, arrays = Architecture.parse(spec), weights(spec)
    arrays["standardise.mean"], arrays["standardise.std"] = np.full(1, 1e6, np.float32), np.full(1, 1e-2, np.float32)
    rows = np.array([[1e6 + 0.005], [1e6 - 0.02]])
    trained = DenseTrainer(architecture).forward(arrays, np.array([[0.5], [-2.0]], np.float32) / np.float32(1))
    assert np.allclose(Network(architecture, arrays).outputs(rows), trained, atol=1e-5)


def test_many_rows_are_computed_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECS["cnn, normalised"]
    architecture, arrays = Architecture.parse(spec), weights(spec)
    rows = rows_for(architecture)
    whole = Network(architecture, arrays).outputs(rows)
    monkeypatch.setattr(network, "BYTES_AT_ONCE", 1)
    assert np.allclose(Network(architecture, arrays).outputs(rows), whole, atol=1e-6)


def test_the_weights_are_the_networks_own() -> None:
    """A file that is written anew must not change a model that is in use."""
    spec = SPECS["linear"]
    architecture, arrays = Architecture.parse(spec), weights(spec)
    made, rows = Network(architecture, arrays), rows_for(architecture)
    before = made.outputs(rows)
    for array in arrays.values():
        array[...] = 0
    assert (made.outputs(rows) == before).all()
