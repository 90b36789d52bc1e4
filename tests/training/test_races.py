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


def test_an_answer_that_comes_while_the_buffer_is_claimed_waits_for_the_next_round(races: dict[str, Any]) -> None:
    errors, run = races["answered_while_the_buffer_is_claimed"]
    assert (errors, run["counted"], run["waiting"]) == ([], [2], 1)
    assert (run["answers"], run["receipts"], run["given"]) == (3, 3, 2)


def test_an_answer_that_was_written_before_the_last_claim_counts_in_it(races: dict[str, Any]) -> None:
    errors, run = races["claimed_while_an_answer_is_written"]
    assert errors == []
    assert (run["state"], run["counted"], run["aged"], run["waiting"]) == ("completed", [3], [3], 0)


def test_a_buffer_that_several_workers_settle_counts_once(races: dict[str, Any]) -> None:
    errors, run, claims = races["settled_by_several_workers"]
    assert errors == []
    assert claims == [[number, 1, 1] for number in range(1, 7)]
    assert (run["state"], run["counted"], run["answers"]) == ("completed", [3] * 6, 18)


def test_a_round_that_is_made_asynchronous_is_not_closed_as_it_was(races: dict[str, Any]) -> None:
    errors, run = races["settled_while_it_is_made_asynchronous"]
    assert (errors, run["closed"]) == ([], [])  # its straggler keeps its task
    assert (run["counted"], run["aged"], run["waiting"]) == ([3], [3], 0)


def test_an_answer_to_a_round_that_becomes_asynchronous_meanwhile_fills_its_buffer(races: dict[str, Any]) -> None:
    errors, run, bells = races["answered_while_it_is_made_asynchronous"]
    assert errors == []
    assert bells.count("training.tasks.settle_round") == 1
    assert (run["counted"], run["aged"], run["waiting"]) == ([2], [2], 0)


def test_whatever_happens_at_once_every_acknowledged_answer_counts_in_one_round(races: dict[str, Any]) -> None:
    for errors, run in races["asynchronous_storm"]:
        assert (errors, run["state"], run["waiting"]) == ([], "completed", 0)
        assert run["answers"] == run["receipts"] == run["given"] == sum(run["counted"])
        assert run["counted"] == run["aged"]
