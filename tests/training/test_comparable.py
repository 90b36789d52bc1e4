"""Two models compare over those that measured both."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.services.comparable import over_both


def ratios(loss: float, samples: int = 10, **others: float) -> dict[str, Any]:
    return {"loss": loss, "samples": samples, "others": others}


def test_organizations_weigh_by_the_rows_that_both_have_by_hand() -> None:
    before = {"a": ratios(1.0, 10), "b": ratios(2.0, 30), "c": ratios(9.0, 1000)}
    now = {"a": ratios(3.0, 10), "b": ratios(1.0, 50), "d": ratios(0.0, 1000)}
    assert over_both(before, now) == (pytest.approx((10 + 60) / 40), pytest.approx((30 + 30) / 40))


def test_without_a_common_organization_nothing_compares() -> None:
    assert over_both({"a": ratios(1.0)}, {"b": ratios(1.0)}) is None
    assert over_both({}, {"b": ratios(1.0)}) is None
    assert over_both({"a": {"loss": None, "samples": 3}}, {"a": ratios(1.0)}) is None


def test_metrics_by_name_compare_as_well() -> None:
    before, now = {"a": ratios(1.0, dice=0.5)}, {"a": ratios(1.0, dice=0.75), "b": ratios(1.0, dice=0.0)}
    assert over_both(before, now, "dice") == (0.5, 0.75)
    assert over_both(before, {"a": ratios(1.0)}, "dice") is None


several = st.dictionaries(st.sampled_from("abcde"), st.tuples(st.floats(0, 1e6), st.integers(1, 1000)), max_size=5)


@given(several, several, st.floats(0, 1e9))
def test_who_joins_changes_nothing(before: Any, now: Any, loss: float) -> None:
    one, other = ({key: ratios(*row) for key, row in rows.items()} for rows in (before, now))
    assert over_both(one, other) == over_both(one, {**other, "newcomer": ratios(loss, 10**6)})
    found = over_both(one, other)
    assert found is None or over_both(other, one) == found[::-1]
