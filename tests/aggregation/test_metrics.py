"""Reports of devices, merged per organization and over all."""

from __future__ import annotations

import numpy as np
import pytest
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


def rows(right: int, wrong: int, loss: float) -> dict:
    """So many right and wrong answers, each of this loss."""
    count = right + wrong
    return wire.evaluation([0.9] * count, [1] * right + [0] * wrong, [loss] * count)


def test_gap_is_between_all_rows_and_the_worst_organization() -> None:
    # acme 9 of 10, metro 8 of 10, valley 1 of 2: 18 of 22 over all.
    found = metrics.merged([("acme", rows(9, 1, 0.1)), ("metro", rows(8, 2, 0.2)), ("valley", rows(1, 1, 0.9))])
    accuracy, loss = found["fairness"]["accuracy"], found["fairness"]["loss"]
    assert accuracy["worst"] == loss["worst"] == "valley"
    assert accuracy["gap"] == pytest.approx(18 / 22 - 0.5)
    assert loss["gap"] == pytest.approx(0.9 - 4.8 / 22)
    assert (accuracy["least"], accuracy["most"]) == (0.5, 0.9)
    assert accuracy["deviation"] == pytest.approx(np.std([0.9, 0.8, 0.5]))


def test_one_organization_is_not_apart_from_itself() -> None:
    assert "fairness" not in metrics.merged([("acme", rows(9, 1, 0.1)), ("acme", rows(1, 9, 0.9))])


@given(some.lists(some.tuples(some.integers(0, 9), some.integers(0, 9), some.floats(0, 10)), min_size=2, max_size=6))
def test_worst_is_never_better_than_the_whole(parts: list) -> None:
    found = metrics.merged((str(n), rows(*part)) for n, part in enumerate(parts))
    for spread in found.get("fairness", {}).values():
        assert spread["least"] <= spread["most"]
    for measure in ("accuracy", "loss"):
        assert found.get("fairness", {}).get(measure, {"gap": 0})["gap"] >= -1e-12


def test_slices_are_over_all_organizations_and_say_for_whom_it_is_worse() -> None:
    def sliced(women: dict, men: dict) -> dict:
        return {**wire.merge([women, men]), "slices": {"sex": {"F": women, "M": men}}}

    found = metrics.merged(
        [("acme", sliced(rows(9, 1, 0.1), rows(5, 5, 0.5))), ("metro", sliced(rows(10, 0, 0), rows(7, 3, 0)))]
    )
    sex = found["slices"]["sex"]
    assert sex["parts"]["F"]["accuracy"] == 0.95
    assert sex["parts"]["M"]["samples"] == 20
    assert sex["fairness"]["accuracy"]["worst"] == "M"
    assert sex["fairness"]["accuracy"]["gap"] == pytest.approx(31 / 40 - 0.6)


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
