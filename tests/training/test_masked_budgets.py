"""Budgets and labels of runs whose updates are added up under masks."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fedportal.common import clock
from tests.training.conftest import ARCHITECTURE, Stage
from tests.training.summing import Sitter, play, secure, sitters
from tests.training.test_budgets import states
from training.models import Ledger, MaskedSum, Run
from training.privacy import accounting, ledgers
from training.privacy.accounting import Mechanism
from training.privacy.protection import DEFAULT_DELTA, DISTRIBUTED
from training.services import budgets, healing, labelling

NOISE = 4.0
NOISY = {"mechanism": DISTRIBUTED, "noise": NOISE, "most_weight": 1}


@pytest.fixture
def twelve(stage: Stage) -> list[Sitter]:
    """Four devices of each of three organizations, each of the weight 1."""
    stage.valley_joins()
    devices = sitters(stage, ARCHITECTURE.manifest().parameters)
    for device in devices:
        device.rows = 1
    return devices


def overdue(run: Run) -> None:
    """Let the present step's deadline be past, and look."""
    MaskedSum.objects.filter(round__run=run).update(deadline=clock.now() - timedelta(seconds=1))
    healing.sweep()


def cost(run: Run) -> Mechanism:
    """What a round costs: a little more than the noise says, for updates are rounded to the ring."""
    found = budgets.mechanism_of(run)
    assert found is not None
    assert 0.999 * NOISE < found.noise < NOISE
    return found


def die(devices: list[Sitter], step: str, count: int) -> list[Sitter]:
    """So many of them die in the step; the others."""
    for device in devices[:count]:
        device.until = step
    return devices[count:]


def test_rounds_that_end_in_a_sum_are_charged(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=2, privacy=NOISY)
    assert states(stage.cast.valley) == ["reserved"]
    play(twelve)
    run.refresh_from_db()
    assert run.state == "completed", run.reason
    twice = replace(cost(run), rounds=2)
    for owner in (stage.cast.acme, stage.cast.metro, stage.cast.valley):
        assert states(owner) == ["charged", "charged"]
        assert Ledger.objects.get(organization=owner).counts == ledgers.added({}, "device", twice)


@pytest.mark.parametrize(
    ("step", "settled"),
    [
        ("advertise", "refunded"),
        ("share", "refunded"),
        ("mask", "refunded"),
        ("agree", "charged"),
        ("unmask", "charged"),
    ],
)
def test_a_session_that_breaks_costs_something_once_vectors_are_in(
    stage: Stage, twelve: list[Sitter], step: str, settled: str
) -> None:
    run = secure(stage, rounds=1, privacy=NOISY)
    die(twelve, step, 12)
    play(twelve)
    overdue(run)
    assert run.rounds.get(number=1, attempt=1).state == "failed"
    for owner in (stage.cast.acme, stage.cast.metro, stage.cast.valley):
        assert states(owner)[0] == settled


def test_the_label_says_that_the_portal_saw_sums_only(stage: Stage, twelve: list[Sitter]) -> None:
    run = secure(stage, rounds=1, privacy=NOISY)
    play(twelve)
    run.refresh_from_db()
    sums = labelling.of(run)["sums"]
    assert (sums["sees"], sums["updates"], sums["hidden"], sums["coverage"]) == ("sums only", 12, 12, 1.0)
    assert "only sums over at least 10 devices of 3 organizations" in sums["sentence"]
    assert "curious and keeps to the protocol" in sums["sentence"]
    found = labelling.of(run)
    assert found["noise"]["towards"] == ["the portal", "members and whoever gets the model"]
    assert found["noise"]["epsilon"] == accounting.epsilon([cost(run)], DEFAULT_DELTA)
    assert "rests on devices that add their share" in found["noise"]["sentence"]
