"""What happens to a plan of inference at the same moment happens one after the other: on a real database file and on a
real PostgreSQL, with a connection for each thread."""

from __future__ import annotations

from typing import Any

import pytest

from tests import services


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def races(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every race, by name."""
    found: dict[str, Any] = services.raced(
        "tests.training.inference_racing", request.param, tmp_path_factory.mktemp("races")
    )
    return found


def test_answers_that_come_at_once_count_once_each_and_are_paid_once(races: dict[str, Any]) -> None:
    errors, (state, rows, held, states, paid) = races["answered_at_once"]
    assert (errors, state, rows, held) == ([], "done", 120, 0)
    assert (states, paid) == (["charged"] * 3, 3)


def test_a_cancelled_plan_keeps_nothing_and_what_was_seen_is_paid(races: dict[str, Any]) -> None:
    for errors, (state, rows, held, states, paid) in races["cancelled_meanwhile"]:
        assert (errors, held, len(states)) == ([], 0, 3)
        assert (state, rows) in (("cancelled", None), ("done", 120))
        assert paid == states.count("charged")


def test_what_is_refused_while_the_plan_is_cancelled_is_paid_by_whoever_was_seen(races: dict[str, Any]) -> None:
    for errors, seen, (state, rows, held, states, paid) in races["refused_meanwhile"]:
        assert (errors, state, rows, held) == ([], "cancelled", None, 0)
        assert (states.count("charged"), paid) == (seen, seen)


def test_consent_taken_back_is_out_of_the_sum_or_came_too_late_for_it(races: dict[str, Any]) -> None:
    for errors, (state, rows, held, states, paid) in races["withdrawn_meanwhile"]:
        assert (errors, held, len(states)) == ([], 0, 3)
        assert (state, rows) in (("done", 120), ("done", 80), ("failed", None))
        assert paid == states.count("charged")


def test_a_plan_that_is_started_by_many_asks_each_device_once(races: dict[str, Any]) -> None:
    assert races["started_at_once"] == [[], 3, 3]


def test_of_two_plans_over_almost_the_same_devices_that_end_at_once_one_is_shown(races: dict[str, Any]) -> None:
    assert races["ended_at_once"] == [[[], "done", "failed"]] * 6
