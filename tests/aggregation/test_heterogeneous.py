"""FedProx, FedNova and q-FedAvg: weights by hand, against float64, and what they promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from tests.aggregation.conftest import Folder, manifest_of
from training.aggregation import transforms
from training.aggregation.assembly import write_model
from training.aggregation.strategies import FEDAVG, find
from training.aggregation.transforms import Update

PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def f32(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def unread(number: int, samples: int = 1, **reports: float) -> Update:
    """An update of norm 1 whose file nobody reads."""
    return Update(Path("unread"), str(number), samples, 1.0, reports)


def new_weights(
    folder: Folder, strategy: str, rows: list[tuple[np.ndarray, int, dict[str, float]]], **parameters: float
) -> np.ndarray:
    """The model after updates (vector, samples, reports) of a model of zeros."""
    found = find(strategy)
    length = len(rows[0][0])
    manifest, out = manifest_of(length), folder.fresh()
    updates = [replace(folder.update(manifest, vector, n), reports=reports) for vector, n, reports in rows]
    base = folder.model(manifest, np.zeros(length, np.float32))
    write_model(found, found.checked(parameters), manifest=manifest, base=base, updates=updates, out=out)
    return np.frombuffer(out.read_bytes()[-4 * length :], "<f4")


# -- FedNova


def test_worked_example_of_normalised_averaging(folder: Folder) -> None:
    # 30 rows took 3 steps, 10 rows took 1: p = ¾, ¼ and τ_eff = ¾·3 + ¼·1 = 2.5. Their steps were 1 and 4 each.
    rows = [(f32(3, 0), 30, {"steps": 3, "normaliser": 3.0}), (f32(4, 8), 10, {"steps": 1, "normaliser": 1.0})]
    new = new_weights(folder, "fednova", rows)
    np.testing.assert_allclose(new, [2.5 * (0.75 * 1 + 0.25 * 4), 2.5 * 0.25 * 8], rtol=1e-6)


def test_with_equal_steps_normalised_averaging_is_federated_averaging() -> None:
    updates = [
        Update(folder, f"{i}", n, reports={"normaliser": 7.0}) for i, (folder, n) in enumerate(((None, 3), (None, 9)))
    ]  # type: ignore[arg-type]
    nova = find("fednova")
    assert nova.weights(updates, nova.checked({})) == pytest.approx(FEDAVG.weights(updates, FEDAVG.checked({})))


def test_normalised_averaging_finds_the_common_optimum_where_plain_averaging_does_not() -> None:
    """Devices minimise (x - bᵢ)²/2 by 1 and by 20 steps, over equally many rows: the optimum is the mean of bᵢ."""
    targets, steps, rate = np.array([0.0, 1.0]), np.array([1, 20]), 0.01
    found = {}
    for name in ("fedavg", "fednova"):
        strategy, x = find(name), 0.0
        for _ in range(2000):
            deltas = (targets - x) * (1 - (1 - rate) ** steps)
            # Of a quadratic the normaliser is Σ (1 - rate)^k exactly.
            a = (1 - (1 - rate) ** steps) / rate
            updates = [unread(number, normaliser=float(n)) for number, n in enumerate(a)]
            x += float(np.dot(strategy.weights(updates, strategy.checked({})), deltas))
        found[name] = x
    assert found["fednova"] == pytest.approx(0.5, abs=1e-9)
    assert found["fedavg"] > 0.9


# -- q-FedAvg


def test_worked_example_of_fair_weights(folder: Folder) -> None:
    # L = 1, q = 1, equal rows: F = 2 and 1, Δ = (1, 0) and (0, 2). h = ½·(1·1² + 2) + ½·(1·2² + 1) = 4.
    rows = [(f32(1, 0), 5, {"base_loss": 2.0}), (f32(0, 2), 5, {"base_loss": 1.0})]
    new = new_weights(folder, "qfedavg", rows, q=1, learning_rate=1)
    np.testing.assert_allclose(new, [0.5 * 2 * 1 / 4, 0.5 * 1 * 2 / 4], rtol=1e-6)


def test_without_fairness_it_is_federated_averaging(folder: Folder) -> None:
    rows = [(f32(1, 0), 5, {"base_loss": 2.0}), (f32(0, 2), 15, {"base_loss": 0.0})]
    np.testing.assert_allclose(new_weights(folder, "qfedavg", rows, q=0), [0.25, 1.5], rtol=1e-6)


@some.composite
def fair_rounds(draw: some.DrawFn) -> list[tuple[np.ndarray, int, dict[str, float]]]:
    generator = np.random.default_rng(draw(some.integers(0, 2**32)))
    losses = draw(some.lists(some.floats(1e-3, 50), min_size=1, max_size=5))
    return [
        (generator.standard_normal(6, dtype=np.float32), int(generator.integers(1, 500)), {"base_loss": loss})
        for loss in losses
    ]


@PROPERTY
@given(fair_rounds(), some.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0, 5.0]), some.floats(0.01, 1))
def test_fair_rounds_are_those_of_the_formula(shared_folder: Folder, rows: list, q: float, rate: float) -> None:
    p = np.array([n for _, n, _ in rows]) / sum(n for _, n, _ in rows)
    losses = np.array([reports["base_loss"] for _, _, reports in rows])
    steps = np.stack([vector for vector, _, _ in rows]).astype(np.float64) / rate
    h = q * losses ** (q - 1) * (steps**2).sum(axis=1) + losses**q / rate
    expected = (p * losses**q) @ steps / (p @ h)
    found = new_weights(shared_folder, "qfedavg", rows, q=q, learning_rate=rate)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@PROPERTY
@given(fair_rounds(), some.floats(0.1, 3))
def test_a_device_that_does_worse_counts_for_more(shared_folder: Folder, rows: list, q: float) -> None:
    updates = [unread(number, **reports) for number, (_, _, reports) in enumerate(rows)]
    strategy = find("qfedavg")
    weights = strategy.weights(updates, strategy.checked({"q": q}))
    order = np.argsort([update.reports["base_loss"] for update in updates])
    assert (np.diff(np.array(weights)[order]) >= 0).all()


def test_losses_of_nothing_and_of_very_much_give_finite_weights() -> None:
    for losses in ((0.0, 0.0), (0.0, 1e30), (1e30, 1e30)):
        updates = [unread(number, base_loss=loss) for number, loss in enumerate(losses)]
        for q in (0.0, 0.5, 20.0):
            assert np.isfinite(transforms.by_loss(q, 10.0)(updates, [0.5, 0.5])).all()


def test_fair_weights_need_the_norm() -> None:
    with pytest.raises(ValueError, match="norm"):
        transforms.by_loss(1.0, 1.0)([replace(unread(0, base_loss=1.0), norm=None)], [1.0])


# -- the rest


def test_equal_updates_with_other_reports_do_not_depend_on_their_order() -> None:
    one, other = unread(0, normaliser=1.0), unread(0, normaliser=2.0)
    assert transforms.in_order([one, other]) == transforms.in_order([other, one])


def test_fedprox_tells_the_device_how_strongly_to_hold_on() -> None:
    prox = find("fedprox")
    half = prox.device_half(prox.checked({"mu": 0.5}))
    assert half["mu"] == 0.5
    assert half["requires"] == ["proximal"]
