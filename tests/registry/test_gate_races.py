"""Gates that close while versions go out, on a real database file and on a real PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from tests import services

TIMES = 4


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def races(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every race, by name."""
    return dict(services.raced("tests.registry.gate_racing", request.param, tmp_path_factory.mktemp("gates")))


def test_no_device_is_asked_to_install_what_was_sent_while_the_gate_closed(races: dict[str, Any]) -> None:
    assert races["closing"] == {"unforeseen": {}, "closed": TIMES, "left": 0}


def test_a_version_is_judged_once_and_let_through_once(races: dict[str, Any]) -> None:
    found = races["letting_through"]
    assert (found["judged"], found["through"], found["overrides"]) == ({"ok": 10}, {"ok": 10}, 1)
    assert found["told"] == ["gate.judged", "gate.overridden"]
