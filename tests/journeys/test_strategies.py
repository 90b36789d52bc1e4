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

from fedportal_sdk import FederatedClient, data
from fedportal_sdk.trainers import DenseTrainer, Plan
from fedwire import routes
from fedwire.architectures import Architecture
from fedwire.tensors import decode_model, flatten
from tests.journeys.story import FEDERATION, MEMBERS, Device, Story
from tests.running import Portal
from training.aggregation.strategies import find
from training.services.cohorts import seed_for
from training.wording import Party

SPEC: dict[str, Any] = {"kind": "logistic", "inputs": 4, "classes": 2}
ARCHITECTURE = Architecture.parse(SPEC)
ROUNDS, SEED = 3, 11
ROWS = {"acme": 60, "metro": 100, "valley": 150}
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


def rows_of(path: Path, number: int, count: int) -> Path:
    """The patients of one hospital: from place to place other columns speak for the disease."""
    random = np.random.default_rng(number)
    features = random.normal(size=(count, 4)) + 0.5 * number
    sick = features @ np.roll([2.0, -1.0, 0.5, 0.0], number) + 0.3 * random.normal(size=count) > 0.4
    lines = (",".join(f"{value:.6f}" for value in row) for row in features)
    text = "\n".join(f"{line},{'M' if is_sick else 'B'}" for line, is_sick in zip(lines, sick, strict=True))
    path.write_text(f"a,b,c,d,diagnosis\n{text}\n")
    return path


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


class Federation:
    """Three hospitals that take part in whatever comes."""

    def __init__(self, portal: Portal, folder: Path) -> None:
        self.story = Story(portal, SPEC)
        self.folder = folder
        self.files = [rows_of(folder / f"{name}.csv", n, ROWS[name]) for n, name in enumerate(MEMBERS)]
        self.devices = [self.device(number) for number in range(len(MEMBERS))]

    def device(self, number: int) -> Device:
        """Start a hospital's device, for the first time or again."""
        name, url = MEMBERS[number], self.story.portal.url
        client = FederatedClient(self.story.keys[name], identifier(number), url, self.folder / name)
        client.register()
        rows = self.files[number]
        act = partial(FederatedClient.train, model=None, data=rows, target_col="diagnosis", forever=True)
        return Device(client, act)

    def start(self, model: str, strategy: str, rounds: int = ROUNDS, **more: Any) -> str:
        """Start a run for a fresh model; its id."""
        self.story.shared_model(model, SPEC)
        config = {**LOCAL, **CHOSEN[strategy], "seed": SEED, "evaluate": False, **more}
        wish = {"model_id": model, "federation_id": FEDERATION, "strategy": strategy, "rounds": rounds}
        wish |= {"config": config, "min_devices": 3, "round_seconds": 60}
        return str(self.story.call("acme", "POST", routes.SESSIONS, wish)["session_id"])

    def result(self, model: str) -> np.ndarray:
        """The weights of the model's latest version."""
        version = self.story.versions(model)[0]["version"]
        content = self.story.doors["acme"].send("GET", routes.MODEL_DOWNLOAD.format(model=model, version=version)).data
        return flatten(ARCHITECTURE.manifest(), decode_model(content, ARCHITECTURE.manifest())[1])


def identifier(number: int) -> str:
    return f"hospital-{number + 1:03d}"


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """One portal for all."""
    with Portal() as portal:
        made = Federation(portal, tmp_path_factory.mktemp("hospitals"))
        try:
            yield made
        finally:
            for device in made.devices:
                device.client.close()


@pytest.mark.parametrize("strategy", CHOSEN)
def test_three_rounds_are_those_of_the_papers(federation: Federation, strategy: str) -> None:
    federation.story.completed(federation.start(f"by-{strategy}", strategy))
    found = federation.result(f"by-{strategy}")
    hospitals = [Hospital.of(name, identifier(number), federation.files[number]) for number, name in enumerate(MEMBERS)]
    expected = plain(strategy, hospitals, {**LOCAL, **CHOSEN[strategy]})
    assert np.abs(expected - flatten(ARCHITECTURE.manifest(), ARCHITECTURE.initial(0))).max() > 0.05
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)


def reached(number: int, snapshot: dict[str, Any]) -> bool:
    return bool(snapshot["run"]["current_round"] >= number)


@pytest.mark.slow
def test_neither_a_killed_portal_nor_restarted_devices_spoil_what_devices_keep(federation: Federation) -> None:
    story, digests = federation.story, []
    for disturbed in (False, True):
        model = f"disturbed-{disturbed}".lower()
        run = federation.start(model, "scaffold", rounds=6, codec="int8")
        for number in (1, 2) if disturbed else ():
            story.wait_for(run, partial(reached, number))
            story.portal.kill()
            federation.devices[number].client.close()
            story.portal.start()
            federation.devices[number] = federation.device(number)
        story.completed(run)
        digests.append(story.versions(model)[0]["digest"])
    assert digests[0] == digests[1]
