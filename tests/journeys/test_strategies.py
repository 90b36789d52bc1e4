"""Every strategy for which devices or the server do more than average, through the real portal: three hospitals train
three rounds, and the model is that of a plain computation in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import data
from fedportal_sdk.trainers import DenseTrainer, Plan
from fedwire.architectures import Architecture
from fedwire.tensors import flatten
from tests.journeys.hospitals import ROUNDS, SEED, Federation, federation_of, identifier, reached
from tests.journeys.story import MEMBERS
from training.aggregation.strategies import find
from training.services.cohorts import seed_for
from training.wording import Party

SPEC: dict[str, Any] = {"kind": "logistic", "inputs": 4, "classes": 2}
ARCHITECTURE = Architecture.parse(SPEC)
LOCAL = {"epochs": 2, "batch_size": 24, "learning_rate": 0.3}
# What is chosen beside the defaults, so that each formula matters.
CHOSEN: dict[str, dict[str, float]] = {
    "fedavgm": {"server_momentum": 0.7, "server_learning_rate": 0.8},
    "fedadam": {"tau": 0.05, "server_learning_rate": 0.3},
    "fedadagrad": {"tau": 0.05, "server_learning_rate": 0.3, "beta1": 0.5},
    "fedyogi": {"tau": 0.05, "server_learning_rate": 0.3},
    "fedprox": {"mu": 0.5},
    "fednova": {"momentum": 0.6},
    "qfedavg": {"q": 2.0},
    "scaffold": {"server_learning_rate": 0.9, "weight_decay": 0.01},
    "feddyn": {"alpha": 0.7, "momentum": 0.3},
}


@dataclass
class Hospital:
    """What one device does, in float64."""

    name: str
    identifier: str
    rows: np.ndarray
    labels: np.ndarray
    own: np.ndarray = field(default_factory=lambda: np.zeros(ARCHITECTURE.manifest().parameters))

    @classmethod
    def of(cls, name: str, identifier: str, path: Path) -> Hospital:
        table = data.load(path, "diagnosis")
        trained_on = ~data.held_out(table, 0)
        labels = data.labels_for(table, ARCHITECTURE, None)
        return cls(name, identifier, table.features[trained_on], labels[trained_on])

    def plan(self, p: dict[str, Any], number: int) -> Plan:
        seed = seed_for(SEED, number, Party("", self.identifier, "", self.name))
        return Plan.of({**p, "seed": seed}, number)

    def update(self, start: np.ndarray, p: dict[str, Any], number: int, shift: np.ndarray) -> np.ndarray:
        """Local training from `start`; its update."""
        trainer, x, velocity = DenseTrainer(ARCHITECTURE), start.copy(), np.zeros_like(start)
        pull = p.get("mu", 0) + p.get("alpha", 0)
        for batch in self.plan(p, number).batches(len(self.rows), lambda epoch, epochs: None):
            slope = trainer.gradient(x, self.rows[batch], self.labels[batch])
            slope += p["weight_decay"] * x + pull * (x - start) + shift
            velocity = p.get("momentum", 0) * velocity + slope
            x = x - p["learning_rate"] * velocity
        return x - start

    def loss(self, start: np.ndarray) -> float:
        return DenseTrainer(ARCHITECTURE).mean_loss(start, self.rows, self.labels)


def plain(strategy: str, hospitals: list[Hospital], chosen: dict[str, Any]) -> np.ndarray:
    """The model after all rounds, by the formulas of the papers."""
    p: dict[str, Any] = find(strategy).checked(chosen)
    w = flatten(ARCHITECTURE.manifest(), ARCHITECTURE.initial(0)).astype(np.float64)
    m, common = np.zeros_like(w), np.zeros_like(w)
    v = np.full_like(w, p.get("tau", 0) ** 2)
    shares = np.array([len(h.rows) for h in hospitals]) / sum(len(h.rows) for h in hospitals)
    for number in range(1, ROUNDS + 1):
        shifts = {"scaffold": lambda h, c=common: c - h.own, "feddyn": lambda h: -h.own}
        shift: Callable[[Hospital], np.ndarray] = shifts.get(strategy, lambda h: np.zeros_like(h.own))
        deltas = np.stack([h.update(w, p, number, shift(h)) for h in hospitals])
        mean = shares @ deltas
        if strategy in ("fedavgm", "fedadam", "fedadagrad", "fedyogi"):
            move, m, v = stepped(strategy, p, mean, m, v)
            w = w + move
        elif strategy == "fednova":
            a = np.array([h.plan(p, number).normaliser(len(h.rows)) for h in hospitals])
            w = w + (shares @ a) * ((shares / a) @ deltas)
        elif strategy == "qfedavg":
            q, lipschitz, losses = p["q"], 1 / p["learning_rate"], np.array([h.loss(w) for h in hospitals])
            squares = ((lipschitz * deltas) ** 2).sum(axis=1)
            h_all = q * losses ** (q - 1) * squares + lipschitz * losses**q
            w = w + (shares * losses**q * lipschitz) @ deltas / (shares @ h_all)
        elif strategy == "scaffold":
            for h, delta in zip(hospitals, deltas, strict=True):
                h.own = h.own - common - delta / (h.plan(p, number).steps(len(h.rows)) * p["learning_rate"])
            w = w + p["server_learning_rate"] * deltas.mean(axis=0)
            common = np.mean([h.own for h in hospitals], axis=0)
        elif strategy == "feddyn":
            for h, delta in zip(hospitals, deltas, strict=True):
                h.own = h.own - p["alpha"] * delta
            common = common - p["alpha"] * deltas.mean(axis=0)
            w = w + deltas.mean(axis=0) - common / p["alpha"]
        else:
            w = w + mean
    return w


def stepped(
    strategy: str, p: dict[str, Any], mean: np.ndarray, m: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One step of a server optimizer: the move, m and v."""
    rate = p["server_learning_rate"]
    if strategy == "fedavgm":
        m = p["server_momentum"] * m + mean
        return rate * m, m, v
    m, square = p["beta1"] * m + (1 - p["beta1"]) * mean, mean**2
    if strategy == "fedadagrad":
        v = v + square
    elif strategy == "fedadam":
        v = p["beta2"] * v + (1 - p["beta2"]) * square
    else:
        v = v - (1 - p["beta2"]) * square * np.sign(v - square)
    return rate * m / (np.sqrt(v) + p["tau"]), m, v


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """One portal for all."""
    with federation_of(SPEC, tmp_path_factory.mktemp("hospitals")) as made:
        yield made


def start(federation: Federation, model: str, strategy: str, **more: Any) -> str:
    return federation.start(model, strategy, **{**LOCAL, **CHOSEN[strategy], "evaluate": False, **more})


def weights(federation: Federation, model: str) -> np.ndarray:
    return flatten(ARCHITECTURE.manifest(), federation.result(model))


@pytest.mark.parametrize("strategy", CHOSEN)
def test_three_rounds_are_those_of_the_papers(federation: Federation, strategy: str) -> None:
    federation.story.completed(start(federation, f"by-{strategy}", strategy))
    found = weights(federation, f"by-{strategy}")
    hospitals = [Hospital.of(name, identifier(number), federation.files[number]) for number, name in enumerate(MEMBERS)]
    expected = plain(strategy, hospitals, {**LOCAL, **CHOSEN[strategy]})
    assert np.abs(expected - flatten(ARCHITECTURE.manifest(), ARCHITECTURE.initial(0))).max() > 0.05
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.slow
def test_neither_a_killed_portal_nor_restarted_devices_spoil_what_devices_keep(federation: Federation) -> None:
    story, digests = federation.story, []
    for disturbed in (False, True):
        model = f"disturbed-{disturbed}".lower()
        run = start(federation, model, "scaffold", rounds=6, codec="int8")
        for number in (1, 2) if disturbed else ():
            story.wait_for(run, partial(reached, number))
            story.portal.kill()
            federation.devices[number].client.close()
            story.portal.start()
            federation.devices[number] = federation.device(number)
        story.completed(run)
        digests.append(story.versions(model)[0]["digest"])
    assert digests[0] == digests[1]
