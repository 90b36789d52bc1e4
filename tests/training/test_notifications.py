"""Who is told that a run began, ended or waits: the starter's people and those of every active member, in its unit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from federations.services import notifications
from fedportal.common import clock
from fedwire.errors import FedportalError
from tests.federations.helpers import letters_to
from tests.training.conftest import Stage, current, rewind
from training.models import Run
from training.services import healing, runs, stalls

Told = list[tuple[str, str, str, dict[str, Any]]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What was told so far: (organization, kind, sentence, data)."""
    heard: Told = []
    tell = notifications.tell

    def listen(organization: Any, kind: str, **more: Any) -> None:
        heard.append((organization.name, kind, more["sentence"], more["data"]))
        tell(organization, kind, **more)

    monkeypatch.setattr(notifications, "tell", listen)
    return heard


def of_kind(told: Told, kind: str) -> dict[str, str]:
    """Organization → sentence."""
    return {name: sentence for name, what, sentence, _ in told if what == kind}


def test_start_is_told_to_active_members_and_to_nobody_else(stage: Stage, told: Told) -> None:
    run = stage.start()
    heard = of_kind(told, "run.started")
    assert sorted(heard) == ["acme", "metro"]  # valley is invited only, rival a stranger
    assert heard["metro"] == f"acme started training radiology-v1 in {stage.cast.federation.name}: 3 rounds."
    assert told[0][3] == {
        "run": run.public_id,
        "model": stage.model.public_id,
        "federation": stage.cast.federation.public_id,
        "rounds": 3,
    }


def test_result_is_told_with_its_version(stage: Stage, told: Told) -> None:
    (site, *_) = sites = stage.three()
    stage.start(rounds=1)
    while site.tasks():
        for one in sites:
            one.answer()
    heard = of_kind(told, "run.finished")
    assert sorted(heard) == ["acme", "metro"]
    assert heard["metro"].endswith("is complete; the result is version 2.0.0.")
    assert told[-1][3]["state"] == "completed"
    assert told[-1][3]["version"] == "2.0.0"


def test_stop_is_told_with_its_reason_and_by_letter(stage: Stage, told: Told) -> None:
    run = stage.start()
    runs.stop(stage.olga, run)
    run.refresh_from_db()
    assert of_kind(told, "run.finished")["metro"].endswith(f"was stopped: {run.reason}")
    assert ["was stopped" in letter.subject for letter in letters_to("mia@metro.example")].count(True) == 1


def test_failure_is_told_with_its_reason(stage: Stage, told: Told) -> None:
    run = stage.start()
    Run.objects.filter(pk=run.pk).update(organization=stage.cast.rival)  # a starter who is not in the federation
    healing.end_the_forsaken()
    heard = of_kind(told, "run.finished")
    assert sorted(heard) == ["acme", "metro", "rival"]
    assert "failed: rival, which started the run, is not in the federation" in heard["metro"]


def test_round_that_waits_longer_than_a_minute_is_told_once_however_often_it_is_tried(stage: Stage, told: Told) -> None:
    run = stage.start(min_participants=2)
    healing.sweep()
    assert of_kind(told, "run.waiting") == {}
    with clock.shifted(stalls.STALL + timedelta(seconds=1)):
        healing.sweep()
        healing.sweep()
        heard = of_kind(told, "run.waiting")
        assert sorted(heard) == ["acme", "metro"]
        assert "waits for acme and metro: round 1 of 3" in heard["acme"]
        rewind(run, 10)
        healing.sweep()
    assert current(run).attempt == 2
    with clock.shifted(3 * stalls.STALL):
        healing.sweep()
    assert sum(kind == "run.waiting" for _, kind, _, _ in told) == 2
    assert ["waits for" in letter.subject for letter in letters_to("mia@metro.example")].count(True) == 1


def test_round_whose_devices_are_at_work_does_not_wait(stage: Stage, told: Told) -> None:
    sites = stage.three()
    stage.start(min_participants=3)
    for site in sites:
        site.take()
    with clock.shifted(2 * stalls.STALL):
        for site in sites:
            site.seen()
        assert stalls.untold() == []


def test_round_whose_devices_do_not_come_for_their_work_is_told_with_their_names(stage: Stage, told: Told) -> None:
    stage.three()
    stage.start(min_participants=3)
    with clock.shifted(stalls.STALL + timedelta(seconds=1)):
        for pk in stalls.untold():
            stalls.tell(pk)
    assert "acme-1 of acme, acme-2 of acme and metro-1 of metro" in of_kind(told, "run.waiting")["metro"]


def test_stop_that_is_refused_is_not_told(stage: Stage, told: Told) -> None:
    run = stage.start()
    runs.stop(stage.olga, run)
    before = len(told)
    with pytest.raises(FedportalError):
        runs.stop(stage.olga, run)
    assert len(told) == before
