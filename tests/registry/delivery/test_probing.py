"""How long a forward pass takes here: the pass computes what the architecture says, and the fastest one is told."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedwire.architectures import NORM_PARTS, Architecture
from registry.delivery import probing

CNN = {"kind": "cnn", "inputs": [1, 6, 6], "channels": [2], "hidden": [4], "classes": 3, "batch_norm": True}


def test_a_dense_model_computes_its_outputs() -> None:
    described = Architecture.parse({"kind": "logistic", "inputs": 2, "standardise": True})
    arrays = {
        "layers.0.weight": np.array([[2.0, 3.0]], np.float32),
        "layers.0.bias": np.array([1.0], np.float32),
        "standardise.mean": np.array([1.0, 1.0], np.float32),
        "standardise.std": np.array([2.0, 1.0], np.float32),
    }
    rows = np.array([[3.0, 2.0]], np.float32)
    assert probing.forward(described, arrays, rows).tolist() == [[2.0 * 1 + 3.0 * 1 + 1.0]]


def test_a_picture_model_computes_what_its_description_says() -> None:
    described = Architecture.parse(CNN)
    arrays = described.initial(3)
    generator = np.random.default_rng(1)
    for part, least in (("running_mean", 0.0), ("running_var", 0.5), ("weight", 0.5), ("bias", 0.0)):
        arrays[f"layers.1.{part}"] = generator.random(2, dtype=np.float32) + np.float32(least)
    rows = generator.standard_normal((3, 1, 6, 6), dtype=np.float32)
    expected = [plainly(arrays, row) for row in rows]
    assert np.allclose(probing.forward(described, arrays, rows), expected, atol=1e-5)


def plainly(arrays: dict[str, Any], row: Any) -> Any:
    """The outputs for one picture, number by number: Conv, Norm, Relu, MaxPool, Flatten, Dense, Norm, Relu, Dense."""
    padded = np.pad(row[0], 1)
    pooled = np.zeros((2, 3, 3))
    for plane, y, x in np.ndindex(2, 6, 6):
        value = (padded[y : y + 3, x : x + 3] * arrays["layers.0.weight"][plane, 0]).sum()
        value = normed(arrays, "layers.1", value + arrays["layers.0.bias"][plane], plane)
        pooled[plane, y // 2, x // 2] = max(pooled[plane, y // 2, x // 2], value, 0.0)
    hidden = arrays["layers.5.weight"] @ pooled.reshape(-1) + arrays["layers.5.bias"]
    hidden = [max(normed(arrays, "layers.6", value, place), 0.0) for place, value in enumerate(hidden)]
    return arrays["layers.8.weight"] @ np.array(hidden) + arrays["layers.8.bias"]


def normed(arrays: dict[str, Any], name: str, value: float, place: int) -> float:
    weight, bias, mean, variance = (arrays[f"{name}.{part}"][place] for part in NORM_PARTS)
    return float((value - mean) / np.sqrt(variance + 1e-5) * weight + bias)


def test_the_fastest_pass_is_told_in_milliseconds() -> None:
    described = Architecture.parse({"kind": "mlp", "inputs": 3, "hidden": [4]})
    ticks = iter([0.0, 0.5, 1.0, 1.25, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5])
    assert probing.latency(described, described.initial(0), clock=lambda: next(ticks)) == 250.0


def test_how_much_a_pass_holds_is_known_beforehand() -> None:
    small = Architecture.parse({"kind": "logistic", "inputs": 100})
    large = Architecture.parse({"kind": "cnn", "inputs": [3, 1024, 1024], "channels": [8]})
    assert probing.numbers(small) == 3200
    assert probing.numbers(large) > probing.MOST_NUMBERS
