"""What devices counted, added up: small cells are hidden so that nobody can compute them from the rest."""

from __future__ import annotations

import numpy as np
import pytest

from fedwire.inference import GRID, Asked
from training.aggregation import summaries

FLOOR = 10


def histogram(bins: int, **more: float) -> Asked:
    return Asked("histogram", bins=bins, least_count=FLOOR, **more)  # type: ignore[arg-type]


def test_the_total_is_the_exact_sum() -> None:
    large = 2**52
    assert summaries.total_of(histogram(2), [[large, 1], [large - 1, 2]]) == [2 * large - 1, 3]


def test_what_is_hidden_cannot_be_told_from_what_is_not() -> None:
    """Of 2,000 random totals: what is hidden is nothing, or two cells at least that hold as many rows as the floor, or
    everything; and no cell below the floor is ever shown."""
    draws = np.random.default_rng(5)
    for _ in range(2000):
        bins = int(draws.integers(2, 9))
        total = [int(cell) for cell in draws.geometric(0.06, bins) - 1]
        found = summaries.released(histogram(bins), total, 3)
        if found is None:
            assert sum(total) < FLOOR
            continue
        gone = [place for place, cell in enumerate(found["cells"]) if cell is None]
        assert all(
            cell is None or (cell == total[place] and cell >= FLOOR) for place, cell in enumerate(found["cells"])
        )
        assert (found["rows"], found["hidden"]) == (sum(total), len(gone))
        if gone:
            held = sum(total[place] for place in gone)
            assert len(gone) == bins or (len(gone) >= 2 and held >= FLOOR)


def test_large_cells_are_all_shown() -> None:
    assert summaries.released(histogram(3), [10, 40, 50], 4) == {
        "rows": 100,
        "cells": [10, 40, 50],
        "deviation": 0.0,
        "hidden": 0,
    }


def test_noisy_cells_are_hidden_as_exact_ones_are_and_told_with_their_deviation() -> None:
    """Noise may be so little that a hidden cell could be told from the total and the others."""
    found = summaries.released(histogram(3, noise=2.0), [-4, 40, 50], 4)
    assert found is not None
    assert (found["cells"], found["deviation"]) == ([None, None, 50], pytest.approx(4.0))


def test_a_mean_lies_in_its_range_and_is_of_enough_rows() -> None:
    asked = Asked("mean", low=-1.0, high=3.0, least_count=FLOOR)
    assert summaries.released(asked, [9 * GRID, 5 * GRID], 3) is None
    found = summaries.released(asked, [40 * GRID, 10 * GRID], 3)
    assert found is not None
    assert (found["mean"], found["rows"], found["deviation"]) == (0.0, 40, 0.0)


@pytest.mark.parametrize(
    ("above", "shown"),
    [(9, False), (10, True), (30, True), (31, False)],
    ids=["few above", "ten", "thirty", "few below"],
)
def test_a_mean_that_counts_rows_above_a_threshold_keeps_to_the_floor(above: int, shown: bool) -> None:
    """In a range that is next to nothing each row is 0 or GRID, so the mean of 40 rows is an exact count of some."""
    asked = Asked("mean", low=0.5, high=0.5 + 1e-12, least_count=FLOOR)
    found = summaries.released(asked, [40 * GRID, above * GRID], 3)
    assert (found is not None) is shown


@pytest.mark.parametrize(
    ("now", "earlier", "differ"),
    [
        (Asked("histogram"), Asked("histogram"), False),
        (Asked("histogram", high=1.001), Asked("histogram"), True),
        (Asked("histogram", low=0.001), Asked("histogram"), True),
        (Asked("histogram", bins=10), Asked("histogram"), True),
        (Asked("counts", rows="held_out"), Asked("counts"), True),
        (Asked("mean", low=0.5), Asked("histogram"), True),
        (Asked("mean", bins=10), Asked("histogram"), False),
        (Asked("counts", high=1.001, bins=2), Asked("histogram", high=1.001, bins=2), True),
        (Asked("counts", bins=2), Asked("confusion"), False),
    ],
)
def test_two_plans_cut_the_rows_alike_or_not(now: Asked, earlier: Asked, differ: bool) -> None:
    """Only by what their summaries use: counts are cut in the middle, whatever bounds are said with them."""
    assert (summaries.cut_otherwise(now, earlier), summaries.cut_otherwise(earlier, now)) == (differ, differ)


def test_the_deviation_of_a_noisy_mean_is_that_of_repeated_draws() -> None:
    asked = Asked("mean", noise=2.0, least_count=FLOOR)
    exact, devices = np.array([400 * GRID, 300 * GRID]), 4
    draws = np.random.default_rng(1).normal(0, asked.sigma * devices**0.5, (4000, 2))
    means = (exact[1] + draws[:, 1]) / (exact[0] + draws[:, 0])
    found = summaries.released(asked, [int(cell) for cell in exact], devices)
    assert found is not None
    assert means.std() == pytest.approx(found["deviation"], rel=0.05)


def test_an_accuracy_is_told_only_where_the_whole_matrix_is() -> None:
    asked = Asked("confusion", classes=2, least_count=FLOOR)
    whole = summaries.released(asked, [30, 10, 20, 40], 3)
    part = summaries.released(asked, [30, 3, 20, 40], 3)
    assert whole is not None
    assert part is not None
    assert (whole["accuracy"], "accuracy" in part) == (0.7, False)


@pytest.mark.parametrize(
    ("now", "alike"),
    [({1, 2, 3, 4}, False), ({1, 2, 3}, True), ({1, 2, 3, 4, 5, 6}, True), ({1, 2, 3, 4, 5, 6, 7}, False)],
    ids=["the same", "one less", "two more", "three more"],
)
def test_two_sums_differ_by_none_or_by_enough(now: set[int], alike: bool) -> None:
    assert summaries.too_alike(now, [{1, 2, 3, 4}], 3) is alike
