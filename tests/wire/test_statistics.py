"""Pooled means and deviations are those of all rows together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from fedwire import statistics
from fedwire.errors import FedportalError

GOOD = {"samples": 2, "mean": [1.0, 2.0], "m2": [0.5, 0.0]}
matrices = st.integers(1, 12).flatmap(
    lambda n: arrays_of.arrays(np.float64, (n, 3), elements=st.floats(-1e6, 1e6, allow_subnormal=False))
)


def test_three_rows_by_hand() -> None:
    assert statistics.of([[1, 10], [2, 10], [6, 10]]) == {"samples": 3, "mean": [3.0, 10.0], "m2": [14.0, 0.0]}


def test_two_hospitals_by_hand() -> None:
    merged = statistics.merge([statistics.of([[0.0], [2.0]]), statistics.of([[4.0]])])
    assert merged == {"samples": 3, "mean": [2.0], "m2": [pytest.approx(8.0)]}


@given(st.lists(matrices, min_size=1, max_size=5))
def test_merging_gives_the_statistics_of_all_rows(parts: list[NDArray[np.float64]]) -> None:
    whole = np.concatenate(parts)
    merged = statistics.merge([statistics.of(part) for part in parts])
    scale = 1 + np.abs(whole).max()
    assert merged["samples"] == len(whole)
    np.testing.assert_allclose(merged["mean"], whole.mean(axis=0), atol=1e-12 * scale)
    np.testing.assert_allclose(merged["m2"], whole.var(axis=0) * len(whole), rtol=1e-9, atol=1e-11 * scale**2)


def test_a_large_offset_does_not_swallow_the_spread() -> None:
    rows = np.array([[1e9 + 1], [1e9 + 2], [1e9 + 3], [1e9 + 4]])
    merged = statistics.merge([statistics.of(rows[:1]), statistics.of(rows[1:])])
    assert merged["m2"] == [pytest.approx(5.0)]


def test_mean_and_deviation_are_float32_buffers() -> None:
    mean, deviation = statistics.mean_std(statistics.of([[1.0, 5.0], [3.0, 5.0]]))
    assert mean.dtype == deviation.dtype == np.float32
    assert mean.tolist() == [2.0, 5.0]
    assert deviation.tolist() == [1.0, 1.0]


def test_a_column_that_does_not_vary_is_divided_by_one() -> None:
    same = statistics.merge([statistics.of([[0.1]])] * 7)
    assert statistics.mean_std(same)[1].tolist() == [1.0]


def test_a_hospital_without_rows_adds_nothing() -> None:
    some = statistics.of([[1.0], [2.0]])
    assert statistics.merge([{"samples": 0, "mean": [9.0], "m2": [9.0]}, some]) == some


@pytest.mark.parametrize("matrix", [[[np.nan]], [[np.inf]], [], [1.0, 2.0], np.zeros((0, 3))])
def test_rows_that_are_no_numbers_are_refused(matrix: Any) -> None:
    with pytest.raises(FedportalError):
        statistics.of(matrix)


def test_nothing_cannot_be_merged() -> None:
    with pytest.raises(FedportalError):
        statistics.merge([])


def test_different_columns_cannot_be_merged() -> None:
    with pytest.raises(FedportalError, match="columns"):
        statistics.merge([statistics.of([[1.0]]), statistics.of([[1.0, 2.0]])])


def test_statistics_from_outside_are_kept_when_they_can_be() -> None:
    assert statistics.parse({**GOOD, "rows": [[1, 2]]}, columns=2) == GOOD


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 0},
        {"samples": -1},
        {"samples": 1.5},
        {"samples": True},
        {"samples": 10**9},
        {"mean": [1.0]},
        {"mean": [1.0, 2.0, 3.0]},
        {"mean": [1.0, None]},
        {"mean": [1.0, True]},
        {"mean": [1.0, float("nan")]},
        {"mean": [1.0, 1e39]},
        {"mean": [1.0, 10**400]},
        {"m2": [1.0, -0.1]},
        {"m2": [1.0, float("inf")]},
        {"m2": "1.0"},
    ],
    ids=str,
)
def test_statistics_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FedportalError) as refused:
        statistics.parse({**GOOD, **change}, columns=2)
    assert refused.value.code == "metrics_invalid"


@pytest.mark.parametrize("value", [None, [], "statistics"])
def test_what_is_no_statistics_is_refused(value: Any) -> None:
    with pytest.raises(FedportalError):
        statistics.parse(value, columns=2)
