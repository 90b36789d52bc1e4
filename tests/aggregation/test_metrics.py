"""Reports of devices, merged per organization and over all."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from fedwire import metrics as wire
from fedwire import statistics
from training.aggregation import metrics


def report(rows: int, seed: int) -> dict:
    generator = np.random.default_rng(seed)
    return wire.evaluation(generator.random(rows), generator.integers(0, 2, rows), generator.random(rows))


def test_overall_is_over_all_rows_and_not_the_mean_of_the_organizations() -> None:
    # 10 rows all right, 90 rows all wrong: 0.1 over all, not 0.5.
    right = wire.evaluation([0.9] * 10, [1] * 10, [0.0] * 10)
    wrong = wire.evaluation([0.1] * 90, [1] * 90, [1.0] * 90)
    found = metrics.merged([("acme", right), ("metro", wrong)])
    assert found["overall"]["accuracy"] == 0.1
    assert found["overall"]["loss"] == 0.9
    assert found["organizations"]["acme"]["accuracy"] == 1.0
    assert found["organizations"]["metro"]["samples"] == 90


def test_devices_of_one_organization_are_one() -> None:
    found = metrics.merged([("metro", report(20, 1)), ("acme", report(5, 2)), ("metro", report(30, 3))])
    assert found["organizations"]["metro"]["samples"] == 50
    assert list(found["organizations"]) == ["acme", "metro"]


def test_reports_without_rows_say_nothing() -> None:
    nothing = {"samples": 0, "loss_sum": 0.0, "correct": 0}
    assert metrics.merged([("acme", nothing)]) == {}
    assert metrics.merged([]) == {}
    assert "acme" not in metrics.merged([("acme", nothing), ("metro", report(5, 0))])["organizations"]


@given(some.permutations([("a", report(9, 4)), ("b", report(7, 5)), ("a", report(3, 6)), ("c", report(8, 7))]))
def test_order_of_reports_leaves_no_trace(reports: list) -> None:
    assert metrics.merged(reports) == metrics.merged(sorted(reports, key=lambda pair: (pair[0], pair[1]["samples"])))


def test_pooled_standardisation_is_that_of_all_rows_together() -> None:
    generator = np.random.default_rng(8)
    parts = [generator.normal(size, 3.0, (size, 4)) for size in (10, 25, 300)]
    reports = {("hospital", f"device-{i}"): statistics.of(part) for i, part in enumerate(parts)}
    mean, deviation, samples = metrics.standardisation(reports)
    everything = np.concatenate(parts)
    assert samples == 335
    np.testing.assert_allclose(mean, everything.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(deviation, everything.std(axis=0), rtol=1e-6)


@given(some.permutations(range(5)))
def test_standardisation_does_not_depend_on_the_order_of_answers(order: list[int]) -> None:
    generator = np.random.default_rng(9)
    reports = [(("org", f"dev-{i}"), statistics.of(generator.normal(i, 1, (5 + i, 3)))) for i in range(5)]
    usual = metrics.standardisation(dict(reports))
    other = metrics.standardisation(dict([reports[i] for i in order]))
    assert usual[0].tobytes() == other[0].tobytes()
    assert usual[1].tobytes() == other[1].tobytes()
