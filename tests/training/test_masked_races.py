"""Runs with secure sums that are stopped at the moment when their devices are asked, on a file and on PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from tests import services
from tests.training.test_races import OVER


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def races(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every race, by the step that the devices had taken."""
    return services.raced("tests.training.masked_racing", request.param, tmp_path_factory.mktemp("races"))


@pytest.mark.parametrize("step", ["train", "advertise"])
def test_a_run_that_is_stopped_while_its_devices_are_asked_leaves_no_session(races: dict[str, Any], step: str) -> None:
    errors, run, left = races[step]
    assert (errors, run) == ([], {"state": "stopped", "last": "run.stopped", **OVER})
    assert left == {"sessions": 0, "tasks": 0}
