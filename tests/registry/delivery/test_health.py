"""When a version is unwell: beyond a limit, beyond chance, within the window, and with enough seen."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fedwire.latencies import counted
from registry.delivery import health
from registry.delivery.health import Limits, Report, judge

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
LIMITS = Limits(timedelta(minutes=10), least=50, error_rate=0.05, latency_ms=100, accuracy=0.9)


def report(
    minutes: float, count: int, errors: int = 0, latency: float | None = None, judged: int = 0, right: int = 0
) -> Report:
    classes = counted([] if latency is None else [latency] * count)
    return Report(NOW - timedelta(minutes=minutes), count, errors, tuple(classes), judged, right)


def test_nothing_is_wrong_with_what_nobody_used() -> None:
    verdict = judge([], NOW, LIMITS)
    assert (verdict.count, verdict.problem, verdict.error_rate, verdict.latency_ms) == (0, "", None, None)


@pytest.mark.parametrize(("errors", "problem"), [(3, ""), (5, ""), (7, "error_rate"), (50, "error_rate")])
def test_errors_count_when_chance_does_not_explain_them(errors: int, problem: str) -> None:
    assert judge([report(1, 50, errors)], NOW, LIMITS).problem == problem


def test_few_predictions_decide_nothing() -> None:
    assert judge([report(1, 49, 49)], NOW, LIMITS).problem == ""
    assert judge([report(1, 49, 49), report(2, 1)], NOW, LIMITS).problem == "error_rate"


def test_what_is_older_than_the_window_is_forgotten() -> None:
    verdict = judge([report(10, 500, 500), report(9.9, 60)], NOW, LIMITS)
    assert (verdict.count, verdict.errors, verdict.problem) == (60, 0, "")


def test_a_slow_version_is_unwell() -> None:
    assert judge([report(1, 100, latency=40)], NOW, LIMITS).latency_ms == 50
    assert judge([report(1, 80, latency=40), report(1, 20, latency=400)], NOW, LIMITS).problem == "latency"
    assert judge([report(1, 100, latency=90)], NOW, LIMITS).problem == ""  # of the class up to the limit itself
    assert judge([report(1, 60, latency=60_000)], NOW, LIMITS).latency_ms == math.inf


def test_a_version_that_is_often_wrong_is_unwell() -> None:
    assert judge([report(1, 100, judged=100, right=80)], NOW, LIMITS).problem == "accuracy"
    assert judge([report(1, 100, judged=100, right=88)], NOW, LIMITS).problem == ""
    assert judge([report(1, 100, judged=40, right=0)], NOW, LIMITS).problem == ""


def test_what_has_no_limit_is_not_looked_at() -> None:
    open_limits = Limits(timedelta(minutes=10), least=1)
    assert judge([report(1, 100, 100, latency=9_000, judged=100)], NOW, open_limits).problem == ""


def test_a_rate_at_its_limit_is_rarely_taken_for_more() -> None:
    draws = np.random.default_rng(3)
    called = sum(health.least_rate(int(hits), 200) > 0.05 for hits in draws.binomial(200, 0.05, 4000))
    assert called / 4000 <= 0.08


@pytest.mark.parametrize(("hits", "count"), [(1, 10), (10, 100), (50, 50), (400, 10_000)])
def test_the_lower_end_of_wilsons_interval_is_z_standard_deviations_below(hits: int, count: int) -> None:
    low = health.least_rate(hits, count)
    assert 0 < low < hits / count
    assert hits / count - low == pytest.approx(health.Z * math.sqrt(low * (1 - low) / count))


@pytest.mark.parametrize(("hits", "count"), [(0, 0), (0, 10)])
def test_nothing_seen_is_no_rate(hits: int, count: int) -> None:
    assert health.least_rate(hits, count) == pytest.approx(0, abs=1e-15)


def test_course_is_cut_into_equal_parts_and_leaves_none_of_it_out() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    told = [Report(start + timedelta(minutes=minute), 10, errors=minute) for minute in (0, 1, 9, 10)]
    parts = health.slices(reversed(told), 5)
    assert [(at.minute, seen.count, seen.errors) for at, seen in parts] == [(1, 20, 1), (10, 20, 19)]
    assert [seen.count for _, seen in health.slices(told[:1], 5)] == [10]
    assert health.slices([], 5) == []
