"""Updates in fewer bytes, through the real portal: chosen at the start, sent by the SDK, measured at the door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedportal_sdk.portal import Portal as Owner
from fedwire import routes
from tests.journeys.story import MODEL, Story, devices
from tests.running import Portal

WIDE: dict[str, Any] = {"kind": "mlp", "inputs": 6, "hidden": [200, 100], "classes": 2, "standardise": True}
CODECS: dict[str, tuple[dict[str, Any], float]] = {
    "int8": ({"codec": "int8"}, 3.8),
    "topk": ({"codec": "topk", "codec_fraction": 0.01}, 45),
}


@pytest.fixture
def story() -> Any:
    with Portal() as portal:
        yield Story(portal, WIDE)


@pytest.mark.parametrize("name", CODECS)
def test_three_hospitals_train_with_smaller_updates(story: Story, tmp_path: Path, name: str) -> None:
    config, least = CODECS[name]
    with devices(story, tmp_path) as taking_part:
        run = story.start(rounds=6, **config)
        ended = story.completed(run)
        results = [device.join() for device in taking_part]
    assert [result.rounds for result in results] == [6, 6, 6]
    assert ended["run"]["config"]["codec"]["name"] == name
    owner = Owner(story.portal.url, story.keys["acme"], home=tmp_path)
    trained = [row for row in owner._rows(routes.SESSION_ROUNDS.format(run=run), "rounds") if row["kind"] == "train"]
    ratios = [row["ratio"] for row in trained]
    assert len(ratios) == 6
    assert min(ratios) == max(ratios) == pytest.approx(trained[0]["bytes_plain"] / trained[0]["bytes_up"], abs=1e-3)
    assert ended["curves"][-1]["ratio"] == ratios[-1]
    assert ended["curves"][-1]["loss"] < ended["curves"][0]["loss"]
    kept = list(tmp_path.rglob("after-6.f32"))
    assert len(kept) == (3 if name == "topk" else 0)
    assert ratios[0] >= least


def test_a_codec_above_the_cap_is_refused_with_one_that_fits(story: Story, tmp_path: Path) -> None:
    owner = Owner(story.portal.url, story.keys["acme"], home=tmp_path)
    preview = owner.start(MODEL, config={"codec": "float16", "most_update_bytes": 30_000}, dry_run=True)
    assert not preview["ok"]
    (problem,) = [row for row in preview["problems"] if row["level"] == "error"]
    assert problem["code"] == "codec_too_large"
    assert "int8" in problem["next_step"]
