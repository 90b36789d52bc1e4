"""A hundred digits on a device each, a small multi-layer perceptron with its first weights, and an attacker."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from fedportal_sdk.leakage import trials
from fedportal_sdk.leakage.canaries import Canaries
from fedportal_sdk.leakage.chains import Chain
from fedportal_sdk.leakage.guards import Guard
from fedportal_sdk.leakage.trials import Bench, Inverted
from fedportal_sdk.trainers import Plan
from fedwire.architectures import Architecture
from fedwire.tensors import flatten

MLP = Architecture.parse({"kind": "mlp", "inputs": 64, "hidden": [32], "classes": 10})
IMAGES = 100


class World:
    """The model with its first weights, all digits, and a hundred of them that lie on a device each."""

    def __init__(self) -> None:
        pixels, labels = load_digits(return_X_y=True)
        self.random = np.random.default_rng(20)
        self.canaries = Canaries("digits", pixels / 16, labels, 8)
        self.bench = Bench(Chain(MLP), flatten(MLP.manifest(), MLP.initial(1)), Plan(learning_rate=0.1))
        self.places = self.random.permutation(len(labels))[:IMAGES]
        updates = self.bench.updates(self.canaries.rows[self.places], labels[self.places])
        # So tight that it cuts half of the updates: a wider one has more noise on the same update.
        self.clip = float(np.median(np.linalg.norm(updates, axis=1)))

    def attacked(self, mask: bool = False, **guard: Any) -> Inverted:
        found = Guard(**{"clip": self.clip, **guard})
        return trials.invert(self.bench, found, self.canaries, self.places, self.random, mask=mask)
