"""A large round made by one, two and three Celery workers, and by some of which one is killed: one model, once.

On a real PostgreSQL and a real Valkey. What each worker did is what the database saw of it, see `tests.faults.working`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests import services

pytestmark = [pytest.mark.services, pytest.mark.slow]

PARTS = 16  # of each of two passes
IN_PARTS = ("alone", "two", "three", "killed_claimant", "killed_helper")
WHOLE = ("alone", "two", "three")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every scene, by name."""
    folder = tmp_path_factory.mktemp("workers")
    quick = {"LEASE_SECONDS": 3, "EMAIL_URL": "smtp://127.0.0.1:9"}  # where nobody listens: letters wait
    return services.raced("tests.faults.working", "postgresql", folder, broker=True, **quick)


def done(scene: dict[str, Any]) -> list[tuple[str, bool, int]]:
    """Worker, pass and place of every part that was finished, in order."""
    return [(worker, first, start) for worker, first, start, state in scene["moved"] if state == "done"]


def taken(scene: dict[str, Any], first: bool, start: int) -> list[str]:
    """The workers that took this part, in order."""
    return [row[0] for row in scene["moved"] if row[1:] == [first, start, "taken"]]


@pytest.mark.parametrize("name", IN_PARTS)
def test_any_number_of_workers_makes_the_model_that_is_made_in_one_piece(scenes: dict[str, Any], name: str) -> None:
    assert scenes["in_one_piece"]["moved"] == []
    assert scenes["in_one_piece"]["made"][1]
    assert scenes[name]["made"] == scenes["in_one_piece"]["made"]
    assert scenes[name]["state"][:2] == ["completed", "done"]


@pytest.mark.parametrize("name", IN_PARTS)
def test_every_part_is_finished_once_and_leads_to_one_version(scenes: dict[str, Any], name: str) -> None:
    scene = scenes[name]
    parts = Counter((first, start) for _, first, start in done(scene))
    assert (len(parts), set(parts.values())) == (2 * PARTS, {1})
    assert (scene["versions"], scene["closed"]) == (1, 1)


@pytest.mark.parametrize("name", IN_PARTS)
def test_how_far_it_has_come_is_told_once_for_each_step(scenes: dict[str, Any], name: str) -> None:
    assert scenes[name]["told"] == list(range(2, 2 * PARTS + 1, 2))


@pytest.mark.parametrize(("name", "crew"), [("alone", 1), ("two", 2), ("three", 3)])
def test_all_workers_that_are_there_take_part(scenes: dict[str, Any], name: str, crew: int) -> None:
    for first in (True, False):
        assert len({worker for worker, of, _ in done(scenes[name]) if of is first}) == crew


@pytest.mark.parametrize("name", WHOLE)
def test_afterwards_no_row_and_no_file_of_a_part_is_left(scenes: dict[str, Any], name: str) -> None:
    assert (scenes[name]["rows"], scenes[name]["files"]) == (0, 0)


def test_what_a_killed_helper_had_in_hand_is_made_by_the_claimant(scenes: dict[str, Any]) -> None:
    scene = scenes["killed_helper"]
    (held,) = [row[1:3] for row in scene["moved"] if row[0] == "helper"]
    assert taken(scene, *held) == ["helper", "first"]
    assert "helper" not in {worker for worker, _, _ in done(scene)}
    assert scene["state"][2] == 1  # the round stayed with its claimant
    assert (scene["rows"], scene["files"]) == (0, 1)  # what it had begun to write


def test_a_killed_claimant_is_followed_by_another_which_makes_its_part_too(scenes: dict[str, Any]) -> None:
    scene = scenes["killed_claimant"]
    (held,) = [row[1:3] for row in scene["moved"] if row[0] == "claimant"]
    assert taken(scene, *held) == ["claimant", "first"]
    assert {worker for worker, _, _ in done(scene)} == {"first"}
    assert scene["state"][2] == 2
    assert (scene["rows"], scene["files"]) == (0, 1)
