"""Coordinate by coordinate: medians, trimmed means and the networks that sort for them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays

from tests.aggregation import plain
from training.aggregation import coordinate, networks
from training.aggregation.networks import Want

PROPERTY = settings(max_examples=80, deadline=None)


def f32(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def matrices(most_rows: int = 40) -> some.SearchStrategy[np.ndarray]:
    sizes = some.tuples(some.integers(1, most_rows), some.integers(1, 9))
    numbers = some.floats(-1e6, 1e6, width=32, allow_subnormal=False)
    return sizes.flatmap(lambda size: arrays(np.float32, size, elements=numbers))


def median_of(rows: np.ndarray) -> np.ndarray:
    out = np.empty(rows.shape[1], np.float32)
    coordinate.median(rows.copy(), out)
    return out


def trimmed_of(rows: np.ndarray, cut: int) -> np.ndarray:
    out = np.empty(rows.shape[1], np.float32)
    coordinate.trimmed_mean(rows.copy(), cut, out)
    return out


def near_of(rows: np.ndarray, keep: int) -> np.ndarray:
    out = np.empty(rows.shape[1], np.float32)
    coordinate.mean_near_median(rows.copy(), keep, out)
    return out


@pytest.mark.parametrize("places", range(1, 11))
def test_network_sorts_whatever_stands_there(places: int) -> None:
    """By the zero-one principle all sequences of zeros and ones are enough."""
    inputs = np.array(list(itertools.product((0, 1), repeat=places)), np.float32).T.copy()
    expected = np.sort(inputs, axis=0)
    assert (np.array(networks.arranged(inputs, lambda count: (Want.EXACT,) * count)) == expected).all()


@pytest.mark.parametrize("places", [2, 5, 8, 17, 50])
def test_network_for_less_has_fewer_comparators(places: int) -> None:
    whole = networks.network((Want.EXACT,) * places)
    middle = tuple(Want.EXACT if place == places // 2 else Want.NOTHING for place in range(places))
    assert whole == networks.network((Want.EXACT,) * places)
    assert len(networks.network(middle)) <= len(whole)
    assert networks.network((Want.SUMMED,) * places) == ()
    assert networks.network((Want.NOTHING,) * places) == ()


def test_median_by_hand() -> None:
    assert median_of(f32([3, -1], [1, 9], [2, 0])).tolist() == [2, 0]


def test_median_of_an_even_count_is_the_mean_of_the_two_in_the_middle() -> None:
    assert median_of(f32([1, 0], [100, -7], [2, 5], [4, 1])).tolist() == [3, 0.5]


def test_median_of_the_largest_numbers_does_not_overflow() -> None:
    largest = float(np.finfo(np.float32).max)
    assert median_of(f32([largest], [largest])).tolist() == [largest]


def test_trimmed_mean_by_hand() -> None:
    rows = f32([1, -100], [2, 4], [3, 6], [1000, 5], [6, 0])
    assert trimmed_of(rows, 1).tolist() == [np.float32(11 / 3), 3]
    assert trimmed_of(rows, 2).tolist() == [3, 4]


def test_trimming_nothing_is_the_mean() -> None:
    assert trimmed_of(f32([1, 2], [3, 4], [5, 9]), 0).tolist() == [3, 5]


def test_trimming_everything_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is left"):
        trimmed_of(f32([1], [2]), 1)


def test_mean_near_the_median_by_hand() -> None:
    # The median is 4; nearest are 4, 3 and 6. In the second column 0 is, and of -1 and 1 both.
    rows = f32([0, -50], [3, -1], [4, 0], [6, 1], [90, 70])
    assert near_of(rows, 3).tolist() == [np.float32(13 / 3), 0]


def test_of_two_equally_near_numbers_the_smaller_counts() -> None:
    assert near_of(f32([1], [5], [9]), 2).tolist() == [3]


@PROPERTY
@given(matrices())
def test_median_is_numpys(rows: np.ndarray) -> None:
    assert (median_of(rows) == np.median(rows, axis=0)).all()


@PROPERTY
@given(matrices(), some.data())
def test_trimmed_mean_is_the_reference(rows: np.ndarray, data: some.DataObject) -> None:
    cut = data.draw(some.integers(0, (len(rows) - 1) // 2))
    expected = plain.trimmed_mean(rows.astype(np.float64), cut)
    assert np.abs(trimmed_of(rows, cut) - expected).max() <= 1e-6 * max(np.abs(rows).max(), 1e-30)


@PROPERTY
@given(matrices(), some.data())
def test_mean_near_the_median_is_the_reference(rows: np.ndarray, data: some.DataObject) -> None:
    rows = np.round(rows)  # so that the median and all distances are exact, and equal ones equal
    keep = data.draw(some.integers(1, len(rows)))
    expected = plain.mean_near_median(rows.astype(np.float64), keep)
    assert np.abs(near_of(rows, keep) - expected).max() <= 1e-6 * max(np.abs(rows).max(), 1)


@PROPERTY
@given(matrices(30), some.randoms(use_true_random=False))
def test_order_of_the_rows_does_not_change_a_median(rows: np.ndarray, random) -> None:
    shuffled = rows[random.sample(range(len(rows)), len(rows))]
    assert (median_of(rows) == median_of(shuffled)).all()


@pytest.mark.parametrize("count", [149, 150, 151, 152, 400])
def test_many_rows_are_sorted_in_another_way_with_the_same_result(count: int) -> None:
    rows = np.random.default_rng(count).standard_normal((count, 2 * networks.COLUMNS + 3), dtype=np.float32)
    wide = rows.astype(np.float64)
    assert (median_of(rows) == np.median(rows, axis=0)).all()
    assert np.allclose(trimmed_of(rows, count // 5), plain.trimmed_mean(wide, count // 5), rtol=0, atol=1e-6)
    few = slice(0, 50)
    assert np.allclose(near_of(rows[:, few], count // 2), plain.mean_near_median(wide[:, few], count // 2), atol=1e-6)


@PROPERTY
@given(matrices(25), some.data())
def test_as_many_wrong_numbers_as_are_cut_off_do_not_leave_the_honest_range(
    rows: np.ndarray, data: some.DataObject
) -> None:
    faulty = data.draw(some.integers(0, (len(rows) - 1) // 2))
    wrong = data.draw(arrays(np.float32, (faulty, rows.shape[1]), elements=some.floats(width=32, allow_nan=False)))
    wrong = np.nan_to_num(wrong)
    honest = rows[faulty:].astype(np.float64)
    both = np.concatenate([wrong, rows[faulty:]])
    with np.errstate(over="ignore"):
        results = [median_of(both), trimmed_of(both, faulty)]
    for result in results:
        slack = 1e-6 * np.abs(honest).max()
        assert (result >= honest.min(axis=0) - slack).all()
        assert (result <= honest.max(axis=0) + slack).all()
