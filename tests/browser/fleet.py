"""Devices that train only as far as the test lets them, so that a browser has time to look."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.journeys.story import Device, Story, devices


class Gate:
    """Holds every training round back until the test lets it pass."""

    def __init__(self) -> None:
        self._allowed = 0
        self._moved = threading.Condition()

    def open_to(self, number: int) -> None:
        """Let the rounds up to this one be trained."""
        with self._moved:
            self._allowed = number
            self._moved.notify_all()

    def hear(self, organization: str, event: dict[str, Any]) -> None:
        """Called by the devices; blocks the one that is about to train too early."""
        if event["event"] == "task" and event["kind"] == "train":
            with self._moved:
                self._moved.wait_for(lambda: self._allowed >= event["round"])


@contextmanager
def held_back(story: Story, folder: Path) -> Iterator[tuple[Gate, list[Device]]]:
    """The devices of all three organizations, and the gate before them."""
    gate = Gate()
    with devices(story, folder, on_event=gate.hear) as taking_part:
        try:
            yield gate, taking_part
        finally:
            gate.open_to(1_000_000)
