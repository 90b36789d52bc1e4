"""A report that speaks against a version has it judged at once, and a storm of them about once a second."""

from __future__ import annotations

import time
from typing import Any

import pytest

from fedportal.common import jobs
from fedwire.states import RolloutState
from registry import tasks
from registry.models import Rollout
from registry.services import rollouts
from tests.registry.conftest import House
from tests.registry.test_rollouts import FAILING, Fleet


@pytest.fixture
def fleet(house: House) -> Fleet:
    return Fleet(house)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was rung for lately: rows of other tests had the same keys."""
    monkeypatch.setattr(jobs, "_rhythm", jobs._Rhythm())


def rings(callbacks: Any) -> int:
    """How many messages the callbacks of the commits leave for a worker."""
    before = jobs.waiting()
    for callback in callbacks:
        callback()
    return jobs.waiting() - before


def test_a_storm_of_reports_is_judged_now_and_once_more(fleet: Fleet, django_capture_on_commit_callbacks: Any) -> None:
    rollouts.deploy(fleet.mia, fleet.new, share=1_000)
    fleet.obey()
    with django_capture_on_commit_callbacks() as callbacks:
        for number in range(20):
            fleet.report(fleet.new, f"b{number}", count=1, errors=1)
    # The first at once, and one in a second for all that came meanwhile.
    assert rings(callbacks) == 2


@pytest.mark.parametrize(
    ("limits", "counts", "rung"),
    [
        ({}, {"count": 100}, 0),
        ({"error_rate": 0.1}, {"count": 100, "errors": 1}, 1),
        ({"error_rate": 0.1, "auto_rollback": False}, {"count": 100, "errors": 100}, 0),
        ({"accuracy": 0.9}, {"judged": 10, "right": 10}, 0),
        ({"accuracy": 0.9}, {"judged": 10, "right": 9}, 1),
        ({"latency_ms": 10.0}, {"count": 3, "latencies": [0, 0, 0, 3]}, 0),
        ({"latency_ms": 10.0}, {"count": 3, "latencies": [0, 0, 0, 2, 1]}, 1),
    ],
)
def test_only_what_speaks_against_the_version_is_judged_at_once(
    fleet: Fleet, django_capture_on_commit_callbacks: Any, limits: Any, counts: Any, rung: int
) -> None:
    rollouts.deploy(fleet.mia, fleet.new, share=1_000, **limits)
    fleet.obey()
    with django_capture_on_commit_callbacks() as callbacks:
        assert fleet.report(fleet.new, **counts) == 1
    assert rings(callbacks) == rung


def test_a_worker_takes_an_unwell_version_back_once(fleet: Fleet) -> None:
    rollout = rollouts.deploy(fleet.mia, fleet.new)
    fleet.obey()
    fleet.report(fleet.new, **FAILING)
    for _ in range(2):
        tasks.judge(rollout.pk)
    tasks.judge(Rollout.objects.latest("pk").pk + 1)
    rollout.refresh_from_db()
    assert (rollout.state, rollout.reason) == (RolloutState.ROLLED_BACK, "400 of 1000 predictions failed")
    assert fleet.obey() == 10


def test_who_rings_in_a_rhythm_is_heard_after_the_last_time() -> None:
    rhythm = jobs._Rhythm()
    assert rhythm.wait(("a",), 0.05) == 0
    later = rhythm.wait(("a",), 0.05)
    assert later is not None
    assert 0 < later <= 0.05
    assert rhythm.wait(("a",), 0.05) is None
    assert rhythm.wait(("b",), 0.05) == 0
    time.sleep(0.06)
    assert rhythm.wait(("a",), 0.05) is not None
    for other in range(jobs.MOST_RHYTHMS + 2):
        rhythm.wait((other,), 0.0)
    time.sleep(0.001)
    rhythm.wait(("c",), 0.0)
    assert len(rhythm._next) < jobs.MOST_RHYTHMS
