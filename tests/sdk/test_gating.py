"""Gates from a program: limits are changed one at a time, and who checks a version waits for the worker that judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedportal_sdk.gating import Gates
from tests.sdk.server import Reply, Seen, found, serving

LIMITS = {"quality": 0.8, "gap": None, "drift": None, "cosine": None, "size": 100, "latency": None}


class Portal:
    """Answers as a portal does whose worker needs `looks` looks to judge."""

    def __init__(self, looks: int = 0) -> None:
        self.looks = looks
        self.said: list[tuple[str, str, Any]] = []

    def __call__(self, number: int, seen: Seen) -> Reply:
        self.said.append((seen.method, seen.path, json.loads(seen.body) if seen.body else None))
        if seen.path.endswith("/models/m/gate"):
            return found({"model_id": "mdl_1", "revision": 3, "metric": "auc", **LIMITS, **(self.said[-1][2] or {})})
        self.looks -= 1
        return found({"state": "pending" if self.looks >= 0 else "passed", "open": self.looks < 0})


@pytest.fixture
def portal() -> Portal:
    return Portal()


def gates_of(url: str, folder: Path) -> Gates:
    return Gates(url, "edg_abcd1234_" + "x" * 43 + "_zzzzzz", home=folder, patience=0)


def test_what_is_not_said_of_the_limits_stays(portal: Portal, tmp_path: Path) -> None:
    with serving(portal) as server:
        changed = gates_of(server.url, tmp_path).set_gate("m", gap=0.1, size=None)
    method, path, body = portal.said[-1]
    assert (method, path) == ("PUT", "/api/v1/models/m/gate")
    assert body == {"metric": "auc", **LIMITS, "gap": 0.1, "size": None}
    assert changed["gap"] == 0.1


def test_a_check_waits_for_the_worker_and_not_for_ever(tmp_path: Path) -> None:
    slept: list[float] = []
    portal = Portal(looks=3)
    with serving(portal) as server:
        found = gates_of(server.url, tmp_path).check_gate("m", "2.0.0", sleep=slept.append)
    assert (found["state"], len(slept)) == ("passed", 3)
    assert [method for method, *_ in portal.said] == ["POST", "GET", "GET", "GET"]
    with serving(Portal(looks=99)) as server:
        found = gates_of(server.url, tmp_path).check_gate("m", "2.0.0", patience=2.0, sleep=slept.append)
    assert (found["state"], len(slept)) == ("pending", 5)


def test_an_override_names_its_version_and_says_why(portal: Portal, tmp_path: Path) -> None:
    with serving(portal) as server:
        gates = gates_of(server.url, tmp_path)
        gates.override_gate("m", "2.0.0", "the ward cannot wait")
        gates.withdraw_override("m", "2.0.0")
    base = "/api/v1/models/m/versions/2.0.0/gate/override"
    assert portal.said == [("POST", base, {"reason": "the ward cannot wait"}), ("POST", f"{base}/withdraw", {})]
