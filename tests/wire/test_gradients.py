"""Noise in gradients: what one row more or less changes, how often a row comes, and how many steps there are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedwire import gradients
from fedwire.grids import Grid

ODD = [0.0, 5e-324, 1e-40, 1e-8, 0.3, 1.0, 7.0, 1e30, 1.7e308, math.inf, -math.inf, math.nan]


def rows_of(seed: int, count: int, length: int) -> np.ndarray:
    """Gradients [count, length] of very different lengths, some of them odd."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, length)) * 10.0 ** random.integers(-6, 7, (count, 1))
    places = random.random(rows.shape) < 0.05
    rows[places] = random.choice(ODD, places.sum())
    return rows


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 8),
    length=st.integers(1, 300),
    clip=st.floats(1e-6, 1e6),
    noise=st.floats(0.3, 100),
)
def test_a_row_more_or_less_changes_the_sum_by_the_clip_at_most(
    seed: int, count: int, length: int, clip: float, noise: float
) -> None:
    rows, grid = rows_of(seed, count, length), Grid(clip, noise, length)
    whole = gradients.clipped_sum(grid, [rows])
    assert np.isfinite(whole).all()
    assert (whole == np.rint(whole)).all()
    for left_out in range(count):
        other = gradients.clipped_sum(grid, [np.delete(rows, left_out, axis=0)])
        # Whole numbers, so the difference is exact and so is its norm but for the root.
        squares = sum(int(number) ** 2 for number in whole - other)
        assert math.sqrt(squares) * grid.step <= clip


def test_how_rows_are_put_together_changes_nothing() -> None:
    rows, grid = rows_of(3, 50, 40), Grid(1.0, 1.0, 40)
    whole = gradients.clipped_sum(grid, [rows])
    assert np.array_equal(whole, gradients.clipped_sum(grid, [rows[:7], rows[7:8], rows[8:]]))
    assert np.array_equal(whole, gradients.clipped_sum(grid, [rows[::-1]]))
    assert not gradients.clipped_sum(grid, []).any()


def test_a_short_gradient_counts_as_it_is() -> None:
    found = gradients.clipped_sum(grid := Grid(1.0, 1.0, 2), [np.array([[0.25, -0.5], [3.0, 4.0]])]) * grid.step
    assert found == pytest.approx([0.25 + 0.6, -0.5 + 0.8], abs=1e-5)


def test_the_noise_is_as_asked_for_and_never_the_same() -> None:
    rows = np.ones((4, 20_000))
    first, second = (gradients.noisy_sum([rows], 20_000, 2.0, 1.5) for _ in range(2))
    assert not np.array_equal(first, second)
    for found in (first, second):
        assert float(np.std(found)) == pytest.approx(3.0, rel=0.04)  # eight standard deviations of this estimate
        assert float(np.mean(found)) == pytest.approx(4 * 2.0 / math.sqrt(20_000), abs=8 * 3.0 / math.sqrt(20_000))


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.99])
def test_every_row_tosses_a_coin_of_its_own(rate: float) -> None:
    count = 100_000
    first, second = gradients.drawn(count, rate), gradients.drawn(count, rate)
    spread = math.sqrt(rate * (1 - rate) * count)
    for found in (first, second):
        assert len(found) == pytest.approx(rate * count, abs=8 * spread)
        assert (np.diff(found) > 0).all()
    both = rate**2 * count
    assert len(np.intersect1d(first, second)) == pytest.approx(both, abs=8 * math.sqrt(both))


def test_at_the_rate_1_all_come_and_beyond_there_is_no_coin() -> None:
    assert gradients.drawn(5, 1.0).tolist() == [0, 1, 2, 3, 4]
    assert len(gradients.drawn(0, 0.5)) == 0
    for rate in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="no coin"):
            gradients.drawn(5, rate)


def test_steps_follow_from_what_the_run_says_alone() -> None:
    assert [gradients.steps_of(epochs, rate) for epochs, rate in ((1, 0.05), (3, 0.1), (2, 0.3), (5, 1.0))] == [
        20,
        30,
        7,
        5,
    ]
