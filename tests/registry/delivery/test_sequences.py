"""A test that may be looked at any time: its level, its power, and that its interval covers at all looks together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.delivery import sequences
from registry.delivery.sequences import Arm, Tally, compare

LOOKS = 1000
REPEATS = 2000
PLANNED = 1000


def looked_at(control: float, treatment: float, seed: int) -> tuple[float, float]:
    """In what part of the repetitions a difference is found at any look, and in what part the interval ever misses."""
    draws = np.random.default_rng(seed)
    counts = np.arange(1.0, LOOKS + 1)
    found = missed = 0
    for _ in range(REPEATS):
        ours = np.cumsum(draws.random(LOOKS) < control, dtype=np.float64)
        theirs = np.cumsum(draws.random(LOOKS) < treatment, dtype=np.float64)
        variance = sequences.rate_variance(ours, counts) + sequences.rate_variance(theirs, counts)
        half = sequences.half_width(variance, sequences.together(counts, counts), PLANNED)
        estimate = (theirs - ours) / counts
        looks = slice(sequences.LEAST - 1, None)
        found += bool(np.any(np.abs(estimate[looks]) > half[looks]))
        missed += bool(np.any(np.abs(estimate[looks] - (treatment - control)) > half[looks]))
    return found / REPEATS, missed / REPEATS


@pytest.mark.parametrize(("rate", "seed"), [(0.5, 1), (0.8, 2), (0.95, 3), (0.99, 4)])
def test_equal_arms_are_hardly_ever_told_apart_however_often_one_looks(rate: float, seed: int) -> None:
    found, _ = looked_at(rate, rate, seed)
    assert found <= 0.066  # 5 %, and more than three standard deviations of the simulation


@pytest.mark.parametrize(("control", "treatment", "seed"), [(0.7, 0.8, 5), (0.8, 0.7, 6)])
def test_seven_in_ten_is_told_from_eight_in_ten_within_a_thousand(control: float, treatment: float, seed: int) -> None:
    found, missed = looked_at(control, treatment, seed)
    assert found >= 0.9
    assert missed <= 0.066


@pytest.mark.parametrize(("control", "treatment", "seed"), [(0.5, 0.55, 7), (0.99, 0.97, 8)])
def test_the_interval_covers_at_all_looks_together(control: float, treatment: float, seed: int) -> None:
    assert looked_at(control, treatment, seed)[1] <= 0.066


def rates(hits: int, count: int) -> Arm:
    return Arm.of([Tally.of_rate(count, hits)], rate=True)


def test_a_worked_example() -> None:
    # rho^2 = (5.99146 + log 6.99146) / 500 = 0.0158722; x = 500 rho^2 = 7.93611 at 1,000 in each arm.
    found = compare(rates(700, 1000), rates(800, 1000), planned=1000)
    assert found is not None
    variance = (701 / 1002 * 301 / 1002 + 801 / 1002 * 201 / 1002) / 1000
    x = 7.936108
    half = math.sqrt(variance * 2 * (1 + x) / x * (math.log(1 + x) / 2 + math.log(20)))
    assert found.estimate == pytest.approx(0.1)
    assert (found.low, found.high) == pytest.approx((0.1 - half, 0.1 + half), rel=1e-5)
    likelihood = (1 + x) ** -0.5 * math.exp(x / (2 * (1 + x)) * 0.01 / variance)
    assert found.p == pytest.approx(1 / likelihood, rel=1e-4)
    assert found.found


@given(st.integers(20, 400), st.integers(20, 400), st.data())
@settings(max_examples=80, deadline=None)
def test_the_p_value_and_the_interval_say_the_same(ours: int, theirs: int, data: st.DataObject) -> None:
    control = rates(data.draw(st.integers(0, ours)), ours)
    treatment = rates(data.draw(st.integers(0, theirs)), theirs)
    found = compare(control, treatment, PLANNED)
    assert found is not None
    assert found.found == (not found.low <= 0 <= found.high)
    swapped = compare(treatment, control, PLANNED)
    assert swapped is not None
    assert (swapped.low, swapped.high, swapped.p) == pytest.approx((-found.high, -found.low, found.p))


def test_few_observations_say_nothing() -> None:
    assert compare(rates(19, 19), rates(0, 1000), PLANNED) is None
    assert compare(Arm.of([], rate=True), rates(5, 100), PLANNED) is None


def test_values_without_any_spread_say_nothing() -> None:
    same = Arm.of([Tally(50, 100.0, 200.0)])
    assert compare(same, same, PLANNED) is None


def test_never_in_twenty_is_not_taken_for_never() -> None:
    found = compare(rates(0, 20), rates(2, 20), PLANNED)
    assert found is not None
    assert not found.found


def measured(values: list[list[float]]) -> Arm:
    return Arm.of(Tally(len(own), sum(own), sum(value**2 for value in own)) for own in values)


def test_the_mean_of_values_has_the_textbook_variance() -> None:
    values = [3.0, 5.0, 4.0, 8.0, 1.0, 3.5]
    arm = measured([[value] for value in values])
    assert arm.mean == pytest.approx(np.mean(values))
    assert arm.variance == pytest.approx(np.var(values, ddof=1) / len(values))
    assert arm.worth == pytest.approx(len(values))


def test_a_hundred_answers_of_one_ward_are_not_a_hundred_witnesses() -> None:
    wards = [[float(ward)] * 100 for ward in (0, 1, 0, 1, 1)]
    arm = measured(wards)
    assert arm.variance == pytest.approx(np.var([0, 1, 0, 1, 1], ddof=1) / 5)
    assert arm.worth == pytest.approx(5, rel=0.2)


def test_devices_that_agree_are_not_trusted_more_than_their_observations() -> None:
    alike = measured([[0.0, 1.0]] * 30)
    assert alike.variance == pytest.approx(np.var([0.0, 1.0] * 30, ddof=1) / 60)


def told(control: Arm, treatment: Arm) -> bool:
    found = compare(control, treatment, PLANNED)
    return found is not None and found.found


def test_a_difference_between_wards_alone_is_not_found() -> None:
    """Arms of four wards with rates of their own, drawn alike: by answers alone most would be told apart."""
    draws = np.random.default_rng(9)
    naive = found = 0
    for _ in range(300):
        arms = [[Tally.of_rate(500, int(draws.binomial(500, rate))) for rate in draws.beta(8, 2, 8)] for _ in range(2)]
        whole = [rates(int(sum(own.total for own in arm)), sum(own.count for own in arm)) for arm in arms]
        naive += told(whole[0], whole[1])
        found += told(Arm.of(arms[0], rate=True), Arm.of(arms[1], rate=True))
    assert naive > 150
    assert found <= 20
