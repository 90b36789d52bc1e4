"""Whatever the order of the answers and however many workers and threads there are: the same model, to the bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fedwire import routes
from tests.journeys.story import MEMBERS, Story, devices
from tests.running import Portal
from training.aggregation.layout import BLOCK

# Several blocks, so that threads share the work.
WIDE: dict[str, Any] = {"kind": "mlp", "inputs": 6, "hidden": [1500, 1000], "classes": 2}
ROUNDS = 2
# Jobs at a time, threads of the aggregation, and the order in which the hospitals answer.
WAYS = (
    (1, 1, ("acme", "metro", "valley")),
    (2, 2, ("valley", "metro", "acme")),
    (4, 3, ("metro", "valley", "acme")),
)


class Queue:
    """Lets the hospitals finish training one after the other in every round."""

    def __init__(self, order: tuple[str, ...]) -> None:
        self._order = order
        self._answered: set[tuple[str, int]] = set()
        self._changed = threading.Condition()

    def __call__(self, organization: str, event: dict[str, Any]) -> None:
        with self._changed:
            if event["event"] == "training":
                place = self._order.index(organization)
                before = {(name, event["round"]) for name in self._order[:place]}
                assert self._changed.wait_for(lambda: before <= self._answered, 60)
            elif event["event"] == "answered":
                self._answered.add((organization, event["round"]))
                self._changed.notify_all()


@pytest.fixture
def story() -> Iterator[Story]:
    with Portal() as portal:
        yield Story(portal)


def arrivals(story: Story, run: str) -> list[tuple[int, str]]:
    """Who answered in which training round, in the order in which the portal heard of it."""
    events = story.call("acme", "GET", routes.SESSION.format(run=run) + "/events?after=0")["events"]
    said = [event["data"] for event in events if event["kind"] == "assignment.changed"]
    return [
        (one["number"], one["organization"]["name"])
        for one in said
        if one["state"] == "submitted" and 1 <= one["number"] <= ROUNDS
    ]


@pytest.mark.slow
def test_order_of_arrival_workers_and_threads_leave_no_trace(story: Story) -> None:
    digests = []
    for number, (workers, threads, order) in enumerate(WAYS):
        model = f"way-{number}"
        story.portal.restart(WORKER_THREADS=workers, AGGREGATION_THREADS=threads)
        story.shared_model(model, WIDE)
        with devices(story, story.portal.data_dir / "devices", model=model, on_event=Queue(order)):
            run = story.start(rounds=ROUNDS, model=model, standardise=False)
            story.completed(run)
        assert arrivals(story, run) == [(n, name) for n in range(1, ROUNDS + 1) for name in order]
        rounds = story.call("acme", "GET", routes.SESSION.format(run=run) + "/rounds")["rounds"]
        digests.append([one["digest"] for one in rounds if one["kind"] == "train"])
    assert story.versions(model)[0]["digest"] == digests[0][-1]
    assert all(found == digests[0] for found in digests)
    assert len(set(digests[0])) == ROUNDS


def test_the_model_is_large_enough_for_threads_to_share_it() -> None:
    first, second = WIDE["hidden"]
    assert first * second > BLOCK
    assert sorted(WAYS[0][2]) == sorted(MEMBERS)
