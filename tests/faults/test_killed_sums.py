"""The portal is killed in the middle of secure sums with the SDK's devices, and started again: each round comes to its
sum in its first attempt, and nothing of a sum stays on disk."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal.common import faults
from fedportal_sdk import FederatedClient
from fedwire import routes
from fedwire.architectures import Architecture
from tests.journeys.story import FEDERATION, MEMBERS, Story
from tests.running import Portal

MODEL = "killed-sums"
ARCHITECTURE: dict[str, Any] = {"kind": "linear", "inputs": 7}
EACH = 4  # devices of each organization
# A vector has no other length than this, and no other blob of the portal has it.
VECTOR_BYTES = (Architecture.parse(ARCHITECTURE).manifest().parameters + 1) * 4
PATIENCE_SECONDS = 120.0
# The last two: what was unmasked is a blob, and the commit that erases it is not done.
KILLED = (*faults.MASKED_POINTS, "after_aggregation", "before_publish")


def moved(by: float, state: dict[str, Any]) -> tuple[dict[str, Any], int, None]:
    """What such a device trains: every number a little larger."""
    return {name: array + np.float32(by) for name, array in state.items()}, 100, None


@contextmanager
def taking_part(story: Story, folder: Path) -> Iterator[None]:
    """So many devices of each organization, at work until the end."""
    clients = [
        FederatedClient(story.keys[name], f"{name}-{number}", story.portal.url, folder / f"{name}-{number}")
        for name in MEMBERS
        for number in range(EACH)
    ]
    for client in clients:
        client.register()
    threads = [
        threading.Thread(
            target=partial(client.train_from_remote, MODEL, partial(moved, 0.01 * number), rounds=None, forever=True),
            daemon=True,
        )
        for number, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for client in clients:
            client.stop()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)


@pytest.mark.slow
def test_secure_sums_survive_a_kill_at_each_of_their_points(tmp_path: Path) -> None:
    with Portal(SWEEP_SECONDS=0.3, LEASE_SECONDS=1.5) as portal:
        story = Story(portal, ARCHITECTURE)
        story.shared_model(MODEL, ARCHITECTURE)
        wish = {
            "model_id": MODEL,
            "federation_id": FEDERATION,
            "rounds": len(KILLED),
            "min_devices": EACH * len(MEMBERS),
            "config": {"seed": 1, "evaluate": False, "privacy": {"sums": "secure", "clip": 1.0}},
        }
        portal.kill()
        portal.start(FAULT=f"{KILLED[0]}:5")
        run = story.call("acme", "POST", routes.SESSIONS, wish)["session_id"]
        with taking_part(story, tmp_path):
            for point in KILLED[1:]:
                assert portal.wait_for_death(PATIENCE_SECONDS) == -signal.SIGKILL
                portal.launch(FAULT=f"{point}:1")
            assert portal.wait_for_death(PATIENCE_SECONDS) == -signal.SIGKILL
            portal.start()
            story.completed(run, PATIENCE_SECONDS)
        events, more = list[dict[str, Any]](), True
        while more:
            after = events[-1]["sequence"] if events else 0
            page = story.call("acme", "GET", f"{routes.SESSION_EVENTS.format(run=run)}?after={after}")
            events, more = [*events, *page["events"]], page["more"]
        ended = [event["data"] for event in events if event["kind"] in ("round.done", "round.failed")]
        done = [(data["number"], data["attempt"]) for data in ended]
        assert done == [(number, 1) for number in range(1, len(KILLED) + 1)]
        time.sleep(1)  # the sweeper has passed
        blobs = (portal.data_dir / "var" / "blobs").rglob("*")
        assert [path.name for path in blobs if path.is_file() and path.stat().st_size == VECTOR_BYTES] == []
