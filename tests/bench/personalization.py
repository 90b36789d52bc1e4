"""What personalization is worth: `python -m tests.bench.personalization` prints one JSON line per strategy.

scikit-learn's digits on devices with two classes each: device i holds classes i and i + 1 (modulo ten), and the rows of
a class are shared out among the devices that hold it. The whole portal runs in its own process; each device is the
public SDK in a thread of this one, and holds out a fifth of its rows. All figures come from the portal: the accuracy of
the common model and of devices' own models, the mean over the devices on their own held-out rows, and the worst device.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # twenty devices share the cores

import numpy as np
from sklearn.datasets import load_digits

from fedportal_sdk.portal import Portal as Owner
from fedwire import routes
from tests.bench._fleet import federation
from tests.bench.rounds import MODEL, wait
from tests.running import Portal

CLASSES = 10
ARCHITECTURE: dict[str, Any] = {"kind": "mlp", "inputs": 64, "hidden": [64, 32], "classes": CLASSES}
LEARNING = {"learning_rate": 0.1, "epochs": 2, "batch_size": 16}
STRATEGIES: dict[str, dict[str, Any]] = {
    "fedper": {},
    "fedrep": {"head_epochs": 2},
    "ditto": {"lambda": 0.1, "personal_epochs": 2},
    "finetune": {"personal_epochs": 2},
}
ASKED = ("fedper", "ditto")  # those that must reach LEAST
LEAST = 0.975


def rows_of(devices: int, seed: int) -> list[tuple[Any, Any]]:
    """The rows of each device: two classes, no row twice."""
    features, labels = load_digits(return_X_y=True)
    features = (features / 16).astype(np.float32)
    held = [((number % CLASSES), (number + 1) % CLASSES) for number in range(devices)]
    generator, mine = np.random.default_rng(seed), [list[int]() for _ in range(devices)]
    for label in range(CLASSES):
        owners = [number for number, classes in enumerate(held) if label in classes]
        order = generator.permutation(np.flatnonzero(labels == label))
        for owner, part in zip(owners, np.array_split(order, len(owners)), strict=True):
            mine[owner].extend(part.tolist())
    return [(features[rows], labels[rows]) for rows in mine]


def measure(owner: Owner, portal: Portal, devices: int, strategy: str, rounds: int, seed: int) -> dict[str, Any]:
    """The last point of the curves of one run."""
    wish = {
        "model_id": MODEL,
        "version": "1.0.0",
        "strategy": strategy,
        "rounds": rounds,
        "min_devices": devices,
        "config": {**LEARNING, **STRATEGIES[strategy], "seed": seed},
    }
    run = owner._post(routes.SESSIONS, **wish)["id"]
    wait(owner, run, portal)
    point: dict[str, Any] = owner.status(run)["curves"][-1]
    return point


def lines(names: list[str], count: int, rounds: int, seed: int) -> Iterator[dict[str, object]]:
    """One line per strategy."""
    with federation(ARCHITECTURE, rows_of(count, seed)) as (owner, portal):
        for name in names:
            point = measure(owner, portal, count, name, rounds, seed)
            common, own = (point["devices"][which]["accuracy"] for which in ("common", "personal"))
            yield {
                "name": "personalization",
                "strategy": name,
                "devices": own["count"],
                "rounds": rounds,
                "personal_mean": round(own["mean"], 4),
                "personal_worst": round(own["least"], 4),
                "global_mean": round(common["mean"], 4),
                "global_worst": round(common["least"], 4),
                "least_asked": LEAST if name in ASKED else None,
                "reached": own["mean"] >= LEAST,
            }


def main(arguments: list[str] | None = None) -> None:
    """Print one line per strategy."""
    parser = argparse.ArgumentParser(prog="personalization", description=__doc__)
    parser.add_argument("--only", choices=STRATEGIES)
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    for line in lines(
        [options.only] if options.only else list(STRATEGIES), options.devices, options.rounds, options.seed
    ):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
