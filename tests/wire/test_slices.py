"""Which parts of the rows a report may speak of."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fedwire import metrics, reports, slices
from fedwire.errors import FedportalError


def part(rows: int) -> Any:
    return metrics.evaluation([0.9] * rows, [1] * rows, [0.5] * rows)


def sliced(total: int, **sizes: int) -> Any:
    return {**part(total), "slices": {"sex": {name: part(rows) for name, rows in sizes.items()}}}


def test_slice_of_few_rows_is_held_back_with_the_one_it_could_be_computed_from() -> None:
    assert slices.told({"F": 95, "M": 5}, 100, 10) == []
    assert slices.told({"F": 95, "M": 105}, 200, 10) == ["F", "M"]
    # 4 rows of "x" are left over by the others, so the smallest of these is held back too.
    assert slices.told({"F": 50, "M": 40, "x": 4}, 94, 10) == ["F"]


def test_rows_in_no_slice_count_as_left_over() -> None:
    assert slices.told({"F": 50, "M": 40}, 95, 10) == ["F"]
    assert slices.told({"F": 50, "M": 40}, 100, 10) == ["F", "M"]


def test_of_many_slices_the_largest_are_told() -> None:
    sizes = {f"clinic {number:02d}": 100 + number for number in range(30)}
    told = slices.told(sizes, sum(sizes.values()), 10)
    assert told == [f"clinic {number:02d}" for number in range(10, 30)]


@given(
    some.dictionaries(some.text("abcdefgh", min_size=1, max_size=2), some.integers(0, 60), max_size=12),
    some.integers(0, 30),
    some.integers(1, 40),
)
def test_nothing_tells_of_fewer_rows_than_the_floor(sizes: dict[str, int], nowhere: int, least: int) -> None:
    total = sum(sizes.values()) + nowhere
    told = slices.told(sizes, total, least)
    left = total - sum(sizes[name] for name in told)
    assert all(sizes[name] >= least for name in told)
    assert not told or left == 0 or left >= least


def test_policy_without_a_floor_means_ten() -> None:
    assert (slices.floor_of(0), slices.floor_of(3), slices.floor_of(50)) == (10, 3, 50)


def test_report_is_cut_down_to_what_it_may_tell() -> None:
    assert slices.disclosed(sliced(40, F=20, M=20), 10) == sliced(40, F=20, M=20)
    assert slices.disclosed(sliced(40, F=32, M=8), 10) == part(40)
    assert slices.disclosed(part(40), 10) == part(40)


@pytest.mark.parametrize("sizes", [{"F": 9, "M": 31}, {"F": 35}])
def test_report_that_tells_of_too_few_rows_is_refused(sizes: dict[str, int]) -> None:
    assert reports.parse(sliced(40, **sizes))
    with pytest.raises(FedportalError, match="fewer than 10 rows"):
        reports.parse(sliced(40, **sizes), least_slice=10)


def test_slices_come_through_as_they_are_and_have_none_themselves() -> None:
    inner = sliced(40, F=20, M=20)
    assert reports.parse(inner, least_slice=20) == inner
    nested = {**part(40), "slices": {"sex": {"F": inner}}}
    assert reports.parse(nested)["slices"]["sex"]["F"] == part(40)
