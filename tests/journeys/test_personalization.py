"""Personalization through the real portal: three hospitals with other diseases train models of their own, which are
those of a plain computation in float64, and nothing of them ever reaches the portal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import data
from fedportal_sdk.trainers import DenseTrainer, Plan
from fedwire import routes
from fedwire.architectures import Architecture
from fedwire.personal import norms, travelling
from fedwire.tensors import flatten, unflatten
from tests.journeys.hospitals import ROUNDS, SEED, Federation, federation_of, identifier, reached
from tests.journeys.story import MEMBERS
from training.aggregation.strategies import find
from training.services.cohorts import seed_for
from training.wording import Party

SPEC: dict[str, Any] = {"kind": "mlp", "inputs": 4, "hidden": [6], "classes": 2}
ARCHITECTURE = Architecture.parse(SPEC)
MANIFEST = ARCHITECTURE.manifest()
HEAD = ("layers.2.bias", "layers.2.weight")
SGD = {"epochs": 2, "batch_size": 24, "learning_rate": 0.3, "momentum": 0.4, "weight_decay": 0.01}
CHOSEN: dict[str, dict[str, float]] = {
    "fedper": {},
    "fedrep": {"head_epochs": 3},
    "ditto": {"lambda": 0.5, "personal_epochs": 2},
    "finetune": {"personal_epochs": 3},
}
PLACES = unflatten(MANIFEST, np.arange(MANIFEST.parameters))
IN_HEAD = np.concatenate([np.ravel(PLACES[name]) for name in HEAD])
IN_BODY = np.setdiff1d(np.arange(MANIFEST.parameters), IN_HEAD)


@dataclass
class Hospital:
    """What one device does, in float64. `own`: its own part as a whole vector, of which only that part counts."""

    name: str
    identifier: str
    rows: np.ndarray
    labels: np.ndarray
    own: np.ndarray | None = field(default=None)

    @classmethod
    def of(cls, number: int, path: Path) -> Hospital:
        table = data.load(path, "diagnosis")
        trained_on = ~data.held_out(table, 0)
        labels = data.labels_for(table, ARCHITECTURE, None)
        return cls(MEMBERS[number], identifier(number), table.features[trained_on], labels[trained_on])

    def plan(self, p: dict[str, Any], number: int, epochs: int) -> Plan:
        seed = seed_for(SEED, number, Party("", self.identifier, "", self.name))
        return replace(Plan.of({**p, "seed": seed}, number), epochs=epochs)

    def descend(self, start: np.ndarray, plan: Plan, still: Any = (), near: Any = None, pull: float = 0) -> np.ndarray:
        trainer, x, velocity = DenseTrainer(ARCHITECTURE), start.copy(), np.zeros_like(start)
        for batch in plan.batches(len(self.rows), lambda epoch, epochs: None):
            slope = trainer.gradient(x, self.rows[batch], self.labels[batch]) + plan.weight_decay * x
            slope += pull * (x - near) if near is not None else 0
            slope[np.asarray(still, int)] = 0
            velocity = plan.momentum * velocity + slope
            x = x - plan.learning_rate * velocity
        return x

    def merged(self, w: np.ndarray) -> np.ndarray:
        """The model with this hospital's head in it."""
        found = w.copy()
        if self.own is not None:
            found[IN_HEAD] = self.own[IN_HEAD]
        return found

    def train(self, strategy: str, w: np.ndarray, p: dict[str, Any], number: int) -> np.ndarray:
        """One round from the common model w: the weights after it; `own` moves on."""
        plan = self.plan(p, number, p["epochs"])
        if strategy == "fedper":
            self.own = self.descend(self.merged(w), plan)
            return self.own
        if strategy == "fedrep":
            head = self.descend(self.merged(w), replace(plan, epochs=p["head_epochs"]), still=IN_BODY)
            self.own = self.descend(head, plan, still=IN_HEAD)
            return self.own
        if strategy == "ditto":
            near = replace(plan, epochs=p["personal_epochs"])
            self.own = self.descend(w if self.own is None else self.own, near, near=w, pull=p["lambda"])
        return self.descend(w, plan)

    def model(self, strategy: str, w: np.ndarray, p: dict[str, Any]) -> np.ndarray:
        """This hospital's own model when the last common model has come."""
        if strategy == "finetune":
            return self.descend(w, self.plan(p, ROUNDS + 1, p["personal_epochs"]))
        return self.merged(w) if strategy != "ditto" or self.own is None else self.own


def plain(strategy: str, hospitals: list[Hospital]) -> np.ndarray:
    """The common model after all rounds; of what stays, that which the run began with."""
    p: dict[str, Any] = find(strategy).checked({**SGD, **CHOSEN[strategy]})
    w = flatten(MANIFEST, ARCHITECTURE.initial(0)).astype(np.float64)
    shares = np.array([len(h.rows) for h in hospitals]) / sum(len(h.rows) for h in hospitals)
    for number in range(1, ROUNDS + 1):
        mean = shares @ np.stack([h.train(strategy, w, p, number) - w for h in hospitals])
        if find(strategy).staying is not None:
            mean[IN_HEAD] = 0
        w = w + mean
    return w


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """One portal for all."""
    with federation_of(SPEC, tmp_path_factory.mktemp("hospitals")) as made:
        yield made


def start(federation: Federation, model: str, strategy: str, **more: Any) -> str:
    return federation.start(model, strategy, **{**SGD, **CHOSEN.get(strategy, {}), **more})


def own_models(federation: Federation, model: str) -> list[np.ndarray]:
    """The hospitals' own models, as they lie on their disks."""
    return [flatten(MANIFEST, device.client.personal_model(model).arrays) for device in federation.devices]


@pytest.mark.parametrize("strategy", CHOSEN)
def test_three_rounds_and_every_own_model_are_those_of_the_papers(federation: Federation, strategy: str) -> None:
    model = f"by-{strategy}"
    run = start(federation, model, strategy)
    snapshot = federation.story.completed(run)
    hospitals = [Hospital.of(number, federation.files[number]) for number in range(len(MEMBERS))]
    expected, found = plain(strategy, hospitals), federation.result(model)
    np.testing.assert_allclose(flatten(MANIFEST, found), expected, atol=2e-5, rtol=2e-5)
    p = find(strategy).checked({**SGD, **CHOSEN[strategy]})
    for hospital, own in zip(hospitals, own_models(federation, model), strict=True):
        np.testing.assert_allclose(own, hospital.model(strategy, expected, p), atol=5e-5, rtol=5e-5)
        assert np.abs(own - expected).max() > 0.01
    stays = HEAD if find(strategy).staying is not None else ()
    assert all(found[name].tobytes() == ARCHITECTURE.initial(0)[name].tobytes() for name in stays)
    rounds = federation.story.call("acme", "GET", routes.SESSION_ROUNDS.format(run=run))["rounds"]
    sent = {row["bytes_up"] for row in rounds if row["kind"] == "train"}
    assert sent == {3 * travelling(MANIFEST, stays).update_bytes}  # the door takes nothing of another length or header
    point = snapshot["curves"][-1]
    assert set(point["personal"]["organizations"]) == set(point["organizations"])
    assert point["personal"]["samples"] == point["samples"]
    assert point["personal"]["accuracy"] > point["accuracy"]
    assert point["devices"]["personal"]["accuracy"]["count"] == 3
    assert point["devices"]["common"]["accuracy"]["worst"] in {identifier(number) for number in range(3)}


def test_a_restarted_device_goes_on_with_its_own_part(federation: Federation) -> None:
    story, digests, own = federation.story, [], []
    for disturbed in (False, True):
        model = f"restarted-{disturbed}".lower()
        run = start(federation, model, "fedper", rounds=4, codec="int8")
        if disturbed:
            story.wait_for(run, partial(reached, 2))
            federation.devices[1].client.close()
            federation.devices[1] = federation.device(1)
        story.completed(run)
        digests.append(story.versions(model)[0]["digest"])
        own.append([vector.tobytes() for vector in own_models(federation, model)])
    assert digests[0] == digests[1]
    assert own[0] == own[1]


def test_batch_normalisation_stays_with_fedbn_and_is_averaged_without(federation: Federation) -> None:
    spec = {**SPEC, "batch_norm": True}
    normed = Architecture.parse(spec)
    base, stays = normed.initial(0), norms(normed.manifest())
    assert len(stays) == 4
    for strategy in ("fedbn", "fedavg"):
        run = start(federation, f"normed-{strategy}", strategy, spec=spec)
        snapshot, found = federation.story.completed(run), federation.result(f"normed-{strategy}")
        same = {name for name in base if found[name].tobytes() == base[name].tobytes()}
        assert same == (set(stays) if strategy == "fedbn" else set())
        rounds = federation.story.call("acme", "GET", routes.SESSION_ROUNDS.format(run=run))["rounds"]
        sent = {row["bytes_up"] for row in rounds if row["kind"] == "train"}
        travels = travelling(normed.manifest(), stays if strategy == "fedbn" else ())
        assert sent == {3 * travels.update_bytes}
        assert ("personal" in snapshot["curves"][-1]) == (strategy == "fedbn")
    own = [device.client.personal_model("normed-fedbn").arrays for device in federation.devices]
    for name in base:  # the body is everybody's, the normalisation each one's
        assert len({arrays[name].tobytes() for arrays in own}) == (3 if name in stays else 1)
    result = federation.result("normed-fedbn")
    assert all(own[0][name].tobytes() == result[name].tobytes() for name in base if name not in stays)
