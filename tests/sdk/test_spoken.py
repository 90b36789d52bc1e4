"""Percentages, durations and schedules as people type them."""

from __future__ import annotations

import click
import pytest

from fedportal_sdk.cli.spoken import DURATION, PERCENTAGE, SCHEDULE, lasting


@pytest.mark.parametrize(("said", "meant"), [("10%", 10), ("12.5 %", 12.5), ("100", 100), ("0.01%", 0.01)])
def test_a_percentage_is_read(said: str, meant: float) -> None:
    assert PERCENTAGE.convert(said, None, None) == meant


@pytest.mark.parametrize("said", ["", "%", "0%", "101%", "-5%", "ten", "1e1", "nan", "10%%", "١٠"])
def test_what_is_no_percentage_is_refused_with_an_example(said: str) -> None:
    with pytest.raises(click.BadParameter, match=r"12\.5%"):
        PERCENTAGE.convert(said, None, None)


@pytest.mark.parametrize(("said", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("2d", 172_800), ("0s", 0)])
def test_a_duration_is_read(said: str, seconds: int) -> None:
    assert DURATION.convert(said, None, None) == seconds


@pytest.mark.parametrize("said", ["", "1", "h", "1w", "1.5h", "-1h"])
def test_what_is_no_duration_is_refused_with_an_example(said: str) -> None:
    with pytest.raises(click.BadParameter, match="1h"):
        DURATION.convert(said, None, None)


@pytest.mark.parametrize("seconds", [0, 90, 1800, 3600, 5400, 172_800])
def test_a_duration_is_written_as_it_is_read(seconds: int) -> None:
    assert DURATION.convert(lasting(seconds), None, None) == seconds


def test_a_schedule_is_read_step_by_step() -> None:
    assert SCHEDULE.convert("5%:1h, 25%:1d ,100%", None, None) == [(5, 3600), (25, 86_400), (100, 0)]


@pytest.mark.parametrize("said", ["", "5%:", "5%:1h,5%", "50%:1h,25%", "5%:1h,,100%", "5%:1h:2h,100%", "5%:soon"])
def test_what_is_no_schedule_is_refused(said: str) -> None:
    with pytest.raises(click.BadParameter):
        SCHEDULE.convert(said, None, None)
