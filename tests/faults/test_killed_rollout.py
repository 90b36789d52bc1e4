"""The portal is killed while a version goes out to many devices, or comes back: each of them is asked exactly once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from fedportal_sdk.delivering import Deliverer
from tests.running import Portal

MODEL = "radiology-v1"
COUNT = 2_000  # four portions


def until(question: Callable[[], bool], seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_each_device_is_asked_once_on_the_way_there_and_back(tmp_path: Path) -> None:
    with Portal(module="tests.driving", SWEEP_SECONDS="0.5") as portal:
        owner = Deliverer(portal.url, portal.found("acme", "olga@acme.example")["api_key"], home=tmp_path)
        owner.create_model(MODEL, architecture={"kind": "logistic", "inputs": 4, "classes": 2})
        owner.push_initial(MODEL)
        portal.do("enrol", count=COUNT, organization="acme")
        begun = owner.deploy(MODEL)
        portal.kill()
        portal.restart()
        until(lambda: owner.rollout(begun["id"])["devices"].get("pending") == COUNT)
        assert portal.do("asked", subject=begun["id"]) == {"tasks": COUNT, "devices": COUNT}
        owner.roll_back(begun["id"])
        portal.kill()
        portal.restart()
        # Every task for the version is cancelled by now or soon, and each device has one more: to hold nothing.
        until(lambda: portal.do("asked", subject=begun["id"])["tasks"] == 2 * COUNT)
        time.sleep(1.5)  # further sweeps ask nobody again
        assert portal.do("asked", subject=begun["id"]) == {"tasks": 2 * COUNT, "devices": COUNT}
        found = owner.rollout(begun["id"])
        assert (found["status"], found["outstanding"], found["restored_at"]) == ("rolled_back", COUNT, None)
