"""What a device says of itself before a run, read strictly."""

from __future__ import annotations

from typing import Any

import pytest

from fedwire import checks
from fedwire.errors import FedportalError

GOOD = {"failed": ["data_shape"], "warned": ["clock_off"], "sdk_version": "0.1.0", "clock_seconds": -3, "memory_mb": 9}


def test_a_report_is_read_as_it_was_meant_and_nothing_else_is_kept() -> None:
    assert checks.parse({**GOOD, "columns": ["age"]}) == {**GOOD, "clock_seconds": -3.0}
    assert checks.parse({"sdk_version": "1.2.3"}) == {"failed": [], "warned": [], "sdk_version": "1.2.3"}
    assert checks.parse({**GOOD, "failed": ["not_finite", "not_finite"]})["failed"] == ["not_finite"]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {"failed": []},
        {**GOOD, "sdk_version": "<b>"},
        {**GOOD, "failed": "data_shape"},
        {**GOOD, "failed": ["Column 'age' holds text: 'Meier'"]},
        {**GOOD, "failed": [7]},
        {**GOOD, "warned": ["a"] * 21},
        {**GOOD, "clock_seconds": float("nan")},
        {**GOOD, "clock_seconds": "1"},
        {**GOOD, "clock_seconds": 10**400},
        {**GOOD, "memory_mb": -1},
        {**GOOD, "memory_mb": 1.5},
        {**GOOD, "memory_mb": True},
    ],
)
def test_what_is_no_report_is_refused(wrong: Any) -> None:
    with pytest.raises(FedportalError) as refused:
        checks.parse(wrong)
    assert (refused.value.code, refused.value.context["field"]) == ("field_invalid", "check")


@pytest.mark.parametrize(
    ("own", "other", "older"),
    [("0.1.0", "0.2.0", True), ("0.10.0", "0.9.9", False), ("1.0.0", "1.0.0", False), ("dev", "1.0.0", False)],
)
def test_versions_compare_as_numbers(own: str, other: str, older: bool) -> None:
    assert checks.is_older(own, other) is older


def test_memory_by_hand() -> None:
    assert checks.memory_needed(1000, rows=10, inputs=3) == 5 * 1000 + 2 * 4 * 10 * 3
