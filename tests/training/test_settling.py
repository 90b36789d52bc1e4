"""What closing a round costs: it is asked of the database once, not for each device, and a round has a budget."""

from __future__ import annotations

from collections.abc import Callable

from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.training.conftest import Stage, current
from training.services import rounds

# Beginnings and ends of units among them. Whoever needs more here makes every device of every round wait for it.
MOST_QUERIES = 40


def closing(stage: Stage, silent: Callable[[], None], devices: int) -> int:
    """How many queries it takes to close a round that so many devices have answered, and to open the next."""
    sites = [stage.site(stage.cast.acme, f"acme-{number}", 10 + number, 0.1 * number) for number in range(devices)]
    run = stage.start(rounds=5)
    for site in sites:
        site.answer()
    assert current(run).number == 2  # the first is past, so there are metrics, contributions and a best model to keep
    silent()
    for site in sites:
        site.answer()
    with CaptureQueriesContext(connection) as asked:
        rounds.settle(current(run).pk)
    assert current(run).number == 3
    return len(asked)


def test_closing_a_round_of_many_devices_asks_no_more_than_one_of_few(stage: Stage, silent: Callable[[], None]) -> None:
    assert closing(stage, silent, 12) <= MOST_QUERIES


def test_closing_a_round_of_few_devices_stays_within_the_budget(stage: Stage, silent: Callable[[], None]) -> None:
    assert closing(stage, silent, 2) <= MOST_QUERIES
