"""What comes back of rows from what a portal holds: `python -m tests.bench.leakage` prints a line of JSON for each way.

A hundred of scikit-learn's digits, each alone on a device that takes one step of a 64-32-10 perceptron from its first
weights; the clip cuts half of the updates. In dB, as means: `best` attack, the blind `guess`, by how much the attack is
`above` it, and is where it is `told` the class. `recognised`: the share of digits that is nearer than 20 dB to
something that was extracted. `auc`: of the best of three attacks that tell rows that were trained on from others, and
its 95 % interval; four devices train on 124 digits each for 60 epochs.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fedportal_sdk.leakage import trials
from fedportal_sdk.leakage.canaries import Canaries
from fedportal_sdk.leakage.guards import Guard
from fedportal_sdk.leakage.trials import Bench
from fedportal_sdk.trainers import Plan
from tests.leakage.world import World

SECURE: dict[str, Any] = {"sums": "secure"}
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "float16": {"codec": {"name": "float16"}},
    "int8": {"codec": {"name": "int8"}},
    "masked vector": SECURE,
    "secure sum of 10": SECURE,
    "secure sum of 100": {**SECURE, "least_devices": 100},
    "local noise 0.1": {"mechanism": "local", "noise": 0.1},
    "local noise 0.3": {"mechanism": "local", "noise": 0.3},
    "local noise 0.5": {"mechanism": "local", "noise": 0.5},
    "local noise 1": {"mechanism": "local", "noise": 1.0},
    "secure sum of 10, noise 0.1": {**SECURE, "mechanism": "distributed", "noise": 0.1},
    "noise 1 by the portal": {"mechanism": "central", "noise": 1.0},
}


def main() -> None:
    """All ways."""
    world = World()
    rows = Canaries("digits", world.canaries.rows[:992], world.canaries.labels[:992])
    bench = Bench(world.bench.chain, world.bench.weights, Plan(epochs=60, learning_rate=0.2))
    for name, guard in WAYS.items():
        found = world.attacked(mask=name.startswith("masked"), **guard)
        line: dict[str, Any] = {"name": "leakage", "way": name, "attack": found.best}
        line |= {"best": found.attacks[found.best], "guess": found.floor, "above": found.above}
        line |= {"told": None if found.told is None else found.told - found.floor, "recognised": found.share}
        if not name.startswith("masked"):
            told = trials.tell_members(bench, Guard(**{"clip": 1.0, **guard}), rows, np.random.default_rng(1))
            best = max(told.values(), key=lambda one: one.auc)
            line |= {"auc": best.auc, "auc_low": best.auc_interval[0], "auc_high": best.auc_interval[1]}
        print(json.dumps({key: round(one, 2) if isinstance(one, float) else one for key, one in line.items()}))


if __name__ == "__main__":
    main()
