"""What happens to one run at the same moment, on a real database file and on a real PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from tests import services

OVER = {"rounds": [], "parts": 0, "tasks": 0}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def races(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every race, by name."""
    return services.raced("tests.training.racing", request.param, tmp_path_factory.mktemp("races"))


def test_a_run_that_is_stopped_while_a_round_opens_trains_no_further(races: dict[str, Any]) -> None:
    errors, run = races["stopped_while_a_round_opens"]
    assert (errors, run) == ([], {"state": "stopped", "last": "run.stopped", **OVER})


def test_a_run_whose_federation_goes_while_a_round_opens_trains_no_further(races: dict[str, Any]) -> None:
    errors, run = races["dissolved_while_a_round_opens"]
    assert (errors, run) == ([], {"state": "failed", "last": "run.failed", **OVER})


def test_a_device_that_joins_while_a_run_is_stopped_is_called_off(races: dict[str, Any]) -> None:
    errors, run = races["stopped_while_a_device_joins"]
    assert (errors, run) == ([], {"state": "stopped", "last": "run.stopped", **OVER})


def test_a_device_that_joins_at_the_deadline_is_asked_for_something_that_counts(races: dict[str, Any]) -> None:
    errors, rounds_of_open_tasks = races["failed_while_a_device_joins"]
    assert (errors, set(rounds_of_open_tasks) <= {"open"}) == ([], True)


def test_nobody_waits_for_another_in_a_circle_and_every_stop_ends_its_run(races: dict[str, Any]) -> None:
    for errors, run in races["storm"]:
        assert (errors, run) == ([], {"state": "stopped", "last": "run.stopped", **OVER})
