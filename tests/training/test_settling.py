"""What closing a round costs: it is asked of the database once, not for each device, and a round has a budget."""

from __future__ import annotations

from collections.abc import Callable

import pytest
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


@pytest.mark.parametrize("devices", [2, 12])
def test_closing_a_round_stays_within_its_budget_however_many_devices(
    stage: Stage, silent: Callable[[], None], devices: int
) -> None:
    assert closing(stage, silent, devices) <= MOST_QUERIES
