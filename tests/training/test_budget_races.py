"""However many rounds are opened at once, no more get through than a budget is enough for: on a real database file and
on a real PostgreSQL, with a connection for each thread."""

from __future__ import annotations

from typing import Any

import pytest

from tests import services
from tests.training.budget_racing import AFFORDABLE, LEDGERS


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def races(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every race, by name."""
    found = services.raced("tests.training.budget_racing", request.param, tmp_path_factory.mktemp("races"))
    return {**found, "database": request.param}


def test_of_sixty_four_openings_as_many_get_through_as_the_budget_affords(races: dict[str, Any]) -> None:
    assert [affordable for _, affordable, *_ in races["opened_at_once"]] == list(AFFORDABLE)
    for errors, affordable, asked, spent, states, left in races["opened_at_once"]:
        assert (errors, asked) == ([], affordable)
        assert spent == ({"device 4.0 1.0": affordable} if affordable else {})
        assert (states, left) == ({"refunded": affordable} if affordable else {}, {})


def test_ledgers_that_are_wanted_together_in_any_order_give_exactly_what_they_have(races: dict[str, Any]) -> None:
    errors, count, wrong, beyond = races["many_ledgers"]
    assert (errors, count, wrong, beyond) == ([], LEDGERS[races["database"]], [], [])
