"""An edge with real devices behind it, against a scripted portal: what the portal gets to see, and what it does not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import FederatedClient, FedportalError
from fedportal_sdk.edge import Terms
from fedportal_sdk.edge.parts import seed_for
from fedwire.tensors import decode_update
from tests.edge.conftest import Starter
from tests.sdk.server import serving
from tests.sdk.test_client import KEY, MANIFEST, Portal
from tests.sdk.test_client import task as device_task


def task(kind: str = "train", number: int = 1, **changes: Any) -> dict[str, Any]:
    """A task with the time that a portal gives."""
    return device_task(kind, number, **{"deadline": "2026-01-01T00:02:00+00:00", "seconds_left": 120.0, **changes})


def rows(path: Path, number: int, count: int = 40) -> Path:
    """A hospital's rows."""
    draw = np.random.default_rng(number)
    features = draw.normal(size=(count, 2)) + number
    sick = features.sum(axis=1) > 2 * number
    lines = [f"{a:.4f},{b:.4f},{'M' if is_sick else 'B'}" for (a, b), is_sick in zip(features, sick, strict=True)]
    path.write_text("a,b,diagnosis\n" + "\n".join(lines) + "\n")
    return path


def test_the_portal_sees_one_device_and_the_mean_of_three(start: Starter, tmp_path: Path) -> None:
    """Statistics, a round of training and a last evaluation come out as if the three had taken part one by one."""
    tasks = (task("statistics", 0), task(), task("evaluate", 2))
    files = [rows(tmp_path / f"{number}.csv", number, 40 + 10 * number) for number in range(3)]
    portal = Portal(*tasks)
    edge = start(portal, Terms(least_devices=3))
    for number, path in enumerate(files):
        edge.device(f"hospital-{number}", path)
    edge.wait_for("answered", 3)

    flat = [by_itself(number, path, tmp_path, *tasks) for number, path in enumerate(files)]
    samples = [alone.answers[1]["samples"] for alone in flat]
    assert [answer["samples"] for answer in portal.answers] == [sum(samples)] * 3
    assert [answer["devices"] for answer in portal.answers] == [3, 3, 3]
    assert len(portal.registrations) == 1
    (update,) = portal.updates
    assert portal.answers[1]["sha256"] == hashlib.sha256(update).hexdigest()
    weighted = [
        n * decode_update(alone.updates[0], MANIFEST).astype("f8") for n, alone in zip(samples, flat, strict=True)
    ]
    np.testing.assert_allclose(decode_update(update, MANIFEST), sum(weighted) / sum(samples), rtol=1e-6, atol=1e-7)
    for index in (1, 2):
        reports = [alone.answers[index]["evaluation"] for alone in flat]
        merged = portal.answers[index]["evaluation"]
        assert merged["samples"] == sum(report["samples"] for report in reports)
        assert merged["correct"] == sum(report["correct"] for report in reports)
        assert merged["loss_sum"] == pytest.approx(sum(report["loss_sum"] for report in reports))


def by_itself(number: int, path: Path, folder: Path, *tasks: dict[str, Any]) -> Portal:
    """What a portal gets of this device when it takes part without an edge, with the seed it has behind one."""
    own = [json.loads(json.dumps(one)) for one in tasks]
    for one in own:
        one["training"]["seed"] = seed_for(one["training"]["seed"], f"hospital-{number}")
    portal = Portal(*own)
    with serving(portal) as server:
        client = FederatedClient(KEY, f"hospital-{number}", server.url, folder / f"flat-{number}")
        client.train(None, path, "diagnosis")
    return portal
