"""What smaller updates cost: `python -m tests.bench.compression` prints one JSON line per codec.

scikit-learn's digits, 70 % to train on, spread evenly over the devices, 30 % to test the last model on. The whole
portal runs in its own process; each device is the public SDK in a thread of this one. `ratio`: what the updates would
have taken as float32, over the bytes that the door received; `points_lost`: of accuracy in per cent, against plain
updates of the same seed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # twenty devices share the cores

import numpy as np
from sklearn.datasets import load_digits

from fedportal_sdk.portal import Portal as Owner
from fedportal_sdk.trainers import trainer_for
from fedwire import routes
from fedwire.architectures import Architecture
from fedwire.tensors import decode_model
from tests.bench import _jobs
from tests.bench._fleet import federation
from tests.bench.rounds import MODEL, wait
from tests.running import Portal

ARCHITECTURE: dict[str, Any] = {"kind": "mlp", "inputs": 64, "hidden": [420, 420], "classes": 10}
CODECS: dict[str, dict[str, Any]] = {
    "none": {},
    "float16": {"codec": "float16"},
    "int8": {"codec": "int8"},
    "topk": {"codec": "topk", "codec_fraction": 0.01},
    "topk without feedback": {"codec": "topk", "codec_fraction": 0.01, "error_feedback": False},
    "sketch": {"codec": "sketch", "codec_fraction": 0.01},
}
LEARNING = {"learning_rate": 0.1, "epochs": 1, "batch_size": 16, "evaluate": False}
TRAINED_ON = 0.7


class Digits:
    """The rows of each device, and those the last model is tested on."""

    def __init__(self, devices: int, seed: int) -> None:
        features, labels = load_digits(return_X_y=True)
        features = (features / 16).astype(np.float32)
        order = np.random.default_rng(seed).permutation(len(features))
        cut = int(TRAINED_ON * len(features))
        self.parts = [(features[rows], labels[rows]) for rows in np.array_split(order[:cut], devices)]
        self.test = features[order[cut:]], labels[order[cut:]]

    def accuracy(self, file: Path) -> float:
        """The share of test rows that the model in `file` names rightly."""
        _, arrays = decode_model(file)
        report = trainer_for(Architecture.parse(ARCHITECTURE)).evaluate(arrays, *self.test)
        return report["correct"] / report["samples"]


def measure(owner: Owner, portal: Portal, digits: Digits, config: dict[str, Any], rounds: int, seed: int) -> Any:
    """Accuracy of the last model, and plain and received bytes of one run."""
    wish = {
        "model_id": MODEL,
        "version": "1.0.0",
        "rounds": rounds,
        "min_devices": len(digits.parts),
        "config": {**LEARNING, **config, "seed": seed},
    }
    run = owner._post(routes.SESSIONS, **wish)["id"]
    wait(owner, run, portal)
    rows = [row for row in owner._rows(routes.SESSION_ROUNDS.format(run=run), "rounds") if row["kind"] == "train"]
    version = owner._get(routes.SESSION.format(run=run))["result_version"]
    with tempfile.TemporaryDirectory() as folder:
        file = owner.pull(MODEL, Path(folder) / "model.safetensors", version=version)
        accuracy = digits.accuracy(file)
    return accuracy, sum(row["bytes_plain"] for row in rows), sum(row["bytes_up"] for row in rows)


class Job(NamedTuple):
    """Runs with these codecs on the same devices."""

    names: list[str]
    devices: int
    rounds: int
    seed: int

    def __str__(self) -> str:
        return f"{', '.join(self.names)}, seed {self.seed}"


def measured(job: Job) -> list[Any]:
    """What `measure` finds for each of the codecs."""
    digits = Digits(job.devices, job.seed)
    with federation(ARCHITECTURE, digits.parts) as (owner, portal):
        return [measure(owner, portal, digits, CODECS[name], job.rounds, job.seed) for name in job.names]


def lines(found: dict[str, list[Any]], count: int, rounds: int) -> Iterator[dict[str, object]]:
    """One line per codec, over all seeds."""
    plain = np.mean([row[0] for row in found["none"]])
    for name, rows in found.items():
        accuracy = float(np.mean([row[0] for row in rows]))
        yield {
            "name": "compression",
            "codec": name,
            "devices": count,
            "rounds": rounds,
            "seeds": len(rows),
            "accuracy": round(accuracy, 4),
            "points_lost": round(100 * float(plain - accuracy), 2),
            "ratio": round(sum(row[1] for row in rows) / sum(row[2] for row in rows), 2),
            "bytes_per_device_and_round": round(sum(row[2] for row in rows) / (len(rows) * rounds * count)),
        }


def main(arguments: list[str] | None = None) -> None:
    """Print one line per codec, and on standard error one per job: a codec and a seed where processes are several,
    else all codecs of a seed, which have the same devices."""
    parser = argparse.ArgumentParser(prog="compression", description=__doc__)
    parser.add_argument("--only", choices=CODECS)
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, action="append", help="only this one; repeatable")
    _jobs.add_option(parser)
    options = parser.parse_args(arguments)
    names = list(dict.fromkeys(["none", options.only])) if options.only else list(CODECS)
    lots = [[name] for name in names] if options.jobs > 1 else [names]
    seeds = options.seed or range(1, options.seeds + 1)
    jobs = [Job(lot, options.devices, options.rounds, seed) for seed in seeds for lot in lots]
    found: dict[str, list[Any]] = {name: [] for name in names}
    done = _jobs.done(measured, jobs, options.jobs, lambda job, rows: f"{job}: accuracy {[row[0] for row in rows]}")
    for job, rows in zip(jobs, done, strict=True):
        for name, row in zip(job.names, rows, strict=True):
            found[name].append(row)
    for line in lines(found, options.devices, options.rounds):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
