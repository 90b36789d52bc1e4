"""What a version is held against: each limit is a check, and what nobody knows is not taken for well."""

from __future__ import annotations

import math

import pytest

from registry.delivery.gates import Figure, Limits, bound, judge, outcome, title


@pytest.mark.parametrize(
    ("limits", "name", "figure", "expected"),
    [
        (Limits(quality=0.8), "quality", 0.8, "passed"),
        (Limits(quality=0.8), "quality", 0.79, "failed"),
        (Limits("auc", quality=0.8), "quality", 0.9, "passed"),
        (Limits("loss", quality=0.8), "quality", 0.9, "failed"),
        (Limits("loss", quality=0.8), "quality", 0.8, "passed"),
        (Limits(gap=0.1), "gap", 0.1, "passed"),
        (Limits(gap=0.1), "gap", 0.11, "failed"),
        (Limits(drift=0.5), "drift", 0.51, "failed"),
        (Limits(cosine=0.0), "cosine", 0.0, "passed"),
        (Limits(size=100), "size", 101.0, "failed"),
        (Limits(latency=5.0), "latency", 4.9, "passed"),
    ],
)
def test_a_figure_at_its_limit_keeps_to_it_and_one_beyond_does_not(
    limits: Limits, name: str, figure: float, expected: str
) -> None:
    (check,) = judge(limits, {name: Figure(figure)})
    assert (check.name, check.figure, check.outcome) == (name, figure, expected)
    assert outcome([check]) == expected


def test_without_limits_there_are_no_checks() -> None:
    assert judge(Limits(), {"size": Figure(1.0)}) == []
    assert outcome([]) == "passed"


def test_what_is_not_known_does_not_pass_and_says_why() -> None:
    checks = judge(Limits(quality=0.5, drift=1.0), {"quality": Figure(None, "it was pushed"), "drift": Figure(0.1)})
    assert [(check.outcome, check.reason) for check in checks] == [("unknown", "it was pushed"), ("passed", "")]
    assert outcome(checks) == "unknown"
    (missing,) = judge(Limits(gap=0.1), {})
    assert missing.outcome == "unknown"
    for value in (math.nan, math.inf):
        (check,) = judge(Limits(gap=0.1), {"gap": Figure(value)})
        assert (check.outcome, check.figure) == ("unknown", None)


def test_a_failure_weighs_more_than_what_is_not_known() -> None:
    checks = judge(Limits(quality=0.5, size=10), {"size": Figure(11.0)})
    assert outcome(checks) == "failed"


def test_where_nothing_can_be_wrong_the_check_is_passed_without_a_figure() -> None:
    (check,) = judge(Limits(drift=0.1), {"drift": Figure(None, "nothing is rolled out yet", void=True)})
    assert (check.outcome, check.figure, check.reason) == ("passed", None, "nothing is rolled out yet")


def test_a_check_is_called_by_its_metric_and_says_which_way_it_limits() -> None:
    assert title("quality", "auc") == "AUC on held-out rows"
    assert title("gap", "accuracy") == "gap of the worst organization in accuracy"
    assert [bound("quality", metric) for metric in ("accuracy", "loss")] == ["at least", "at most"]
    assert bound("size", "accuracy") == "at most"
