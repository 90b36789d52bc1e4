"""What differential privacy costs in accuracy, on real rows and through the real portal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.terminal import Terminal
from tests.running import Portal
from training.privacy.accounting import Mechanism, epsilon

DATA = ("--data", "breast-cancer", "--devices", "20", "--seed", "1")


@pytest.fixture
def acme(tmp_path: Path) -> Iterator[Terminal]:
    """acme's terminal at a portal of its own."""
    with Portal() as portal:
        terminal = Terminal(tmp_path)
        key = portal.found("acme", "olga@acme.example")["api_key"]
        terminal.run("login", "--url", portal.url, "--api-key", key)
        yield terminal


def test_twenty_devices_learn_from_breast_cancer_under_noise(acme: Terminal) -> None:
    """Six rounds of noise 1 and clip ½: ε 12.87 for δ 1e-5, with and without one device.

    Standardisation is pooled before, in the open, for its statistics have no noise; that run moves no weight.
    """
    before = acme.json("simulate", *DATA, "--rounds", "1", "--learning-rate", "1e-60")
    start = ("train", "start", before["model"], "--federation", "simulation", "--rounds", "6", "--min-devices", "20")
    noise = ("--dp", "central", "--noise", "1", "--clip", "0.5")
    run = acme.json(*start, *noise, "--epochs", "5", "--learning-rate", "0.5", "--round-seconds", "60")["id"]
    told = acme.json("simulate", *DATA, "--run", run)
    assert told["state"] == "completed"
    assert told["start_accuracy"] < 0.8
    # Of the model that the sixth round began with; the last is handed to nobody, for nothing is measured under noise.
    assert told["rounds"][4]["accuracy"] >= 0.90
    private = acme.json("train", "status", run)["run"]["config"]["privacy"]
    assert (private["mechanism"], private["noise"], private["clip"]) == ("central", 1.0, 0.5)
    assert epsilon([Mechanism(1.0, rounds=6)], private["delta"]) == pytest.approx(12.87, abs=0.01)
