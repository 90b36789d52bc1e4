"""Differential privacy through the real portal and the SDK's own devices: runs end, and noise is where it belongs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.journeys.story import Story, devices
from tests.running import Portal

SMALL: dict[str, Any] = {"kind": "logistic", "inputs": 6, "classes": 2, "standardise": True}


@pytest.fixture
def story() -> Any:
    with Portal() as portal:
        yield Story(portal, SMALL)


@pytest.mark.parametrize("mechanism", ["central", "local"])
def test_three_hospitals_train_under_noise(story: Story, tmp_path: Path, mechanism: str) -> None:
    privacy = {"mechanism": mechanism, "noise": 0.01, "clip": 1.0}
    with devices(story, tmp_path) as taking_part:  # statistics are pooled where nothing is protected
        story.completed(story.start(rounds=1))
        [device.join() for device in taking_part]
    with devices(story, tmp_path) as taking_part:
        run = story.start(rounds=3, privacy=privacy, evaluate=True, standardise=False)
        ended = story.completed(run)
        results = [device.join() for device in taking_part]
    assert [result.rounds for result in results] == [3, 3, 3]
    assert ended["run"]["config"]["privacy"]["mechanism"] == mechanism
    assert ended["curves"][-1]["loss"] < ended["curves"][0]["loss"]
