"""The main job in production mode: several processes, PostgreSQL and Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.story import Story, devices
from tests.production import Production
from tests.services import Unavailable

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture(scope="module")
def portal() -> Iterator[Production]:
    """A portal of several processes; skipped, and said by `dev.py test`, where the servers cannot be had."""
    try:
        running = Production(SWEEP_SECONDS=1, LEASE_SECONDS=3)
    except Unavailable as reason:
        pytest.skip(str(reason))
    with running:
        yield running


@pytest.fixture(scope="module")
def story(portal: Production) -> Story:
    """One federation for both runs: to set all this up takes half a minute."""
    return Story(portal)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the devices keep their keys: they are the same in both runs."""
    return tmp_path_factory.mktemp("devices")


def test_a_run_completes_across_processes(portal: Production, story: Story, home: Path) -> None:
    with devices(story, home) as taking_part:
        run = story.start(rounds=5)
        ended = story.completed(run)
        assert {device.join().state for device in taking_part} == {"completed"}
    assert ended["run"]["result_version"] == story.versions()[0]["version"] == "2.0.0"
    assert [row["updates"] for row in ended["contributions"]] == [5, 5, 5]
    assert portal.dead() == []


def test_a_run_survives_the_death_of_its_worker(portal: Production, story: Story, home: Path) -> None:
    model = "survivor"
    story.shared_model(model)
    with devices(story, home, model=model) as taking_part:
        run = story.start(rounds=20, model=model)
        story.wait_for(run, lambda snapshot: snapshot["run"]["current_round"] >= 2)
        portal.kill_worker()
        portal.start_worker()
        ended = story.completed(run)
        assert {device.join().state for device in taking_part} == {"completed"}
    assert [row["updates"] for row in ended["contributions"]] == [20, 20, 20]
