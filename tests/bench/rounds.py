"""How long a round takes: `python -m tests.bench.rounds` prints one JSON line per setting.

The whole portal runs in its own process, each device is the public SDK in a process of its own, over HTTP. A round's
time runs from the close of the one before it (of the first: from its opening) to its own close, so it holds
everything: offering, waking, downloading, training, uploading, answering, aggregating, publishing.

A round of a small model is Python from end to end, so each line also says how fast this machine's Python was in those
minutes: `ns_per_step`, the time of one turn of an empty counting loop, which machines of one kind are found to differ
in by a factor of three from one hour to the next.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fedportal_sdk import FederatedClient
from fedportal_sdk.portal import Portal as Owner
from fedwire import routes
from tests.running import ROOT, Portal

MODEL = "bench"
GIVE_UP_SECONDS = 600.0
STEPS = 2_000_000


@dataclass(frozen=True)
class Setting:
    """A line of the benchmark. `inputs` of a logistic or linear model: one weight each, and a bias."""

    devices: int
    rounds: int
    architecture: dict[str, Any]

    @property
    def params(self) -> int:
        return int(self.architecture["inputs"]) + 1


SETTINGS = {
    "small": Setting(10, 50, {"kind": "logistic", "inputs": 30, "classes": 2}),
    "large": Setting(4, 5, {"kind": "linear", "inputs": 9_999_999}),
}


def take_part(url: str, key: str, identifier: str, home: str, inputs: int) -> None:
    """What a device process does: small models are trained on rows, large ones only moved a little."""
    client = FederatedClient(key, identifier, url, home)
    client.register()
    if inputs <= 1000:
        random = np.random.default_rng(abs(hash(identifier)) % 1000)
        features = random.normal(size=(60, inputs))
        client.train(MODEL, (features, features[:, 0] > 0), forever=True)
    else:
        client.train_from_remote(MODEL, _moved, rounds=None, forever=True)


def _moved(state: dict[str, Any]) -> tuple[dict[str, Any], int, None]:
    for array in state.values():
        array += np.float32(0.001)
    return state, 100, None


@contextmanager
def device(portal: Portal, key: str, number: int, folder: Path, inputs: int) -> Iterator[None]:
    """A device in a process of its own."""
    arguments = [portal.url, key, f"device-{number:03d}", str(folder / str(number)), str(inputs)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.rounds", "--device", *arguments], env=environment)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(name: str, setting: Setting, env: dict[str, str]) -> dict[str, object]:
    """One line of the benchmark."""
    with ExitStack() as stack:
        portal = stack.enter_context(Portal(**env))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedportal-bench-")))
        key = portal.found("acme", "olga@acme.example")["api_key"]
        owner = Owner(portal.url, key, home=folder)
        owner.found_federation("benchmark")
        owner.create_model(MODEL, architecture=setting.architecture)
        owner.push_initial(MODEL)
        owner.share(MODEL, "benchmark")
        for number in range(setting.devices):
            stack.enter_context(device(portal, key, number, folder, setting.params - 1))
        gather(owner, setting.devices)
        steps = [ns_per_step()]
        wish = {
            "model_id": MODEL,
            "rounds": setting.rounds,
            "min_devices": setting.devices,
            "config": {"seed": 1, "evaluate": setting.params < 1000},
        }
        run = owner._post(routes.SESSIONS, **wish)["id"]
        wait(owner, run, portal)
        times = times_of(owner, run)
        steps.append(ns_per_step())
    return {
        "name": name,
        "mode": env.get("MODE", "embedded"),
        "devices": setting.devices,
        "params": setting.params,
        "rounds": len(times),
        "ms_per_round_p50": round(statistics.median(times), 1),
        "ms_per_round_p95": round(float(np.percentile(times, 95)), 1),
        "ns_per_step": round(statistics.mean(steps), 1),
    }


def ns_per_step() -> float:
    """How long this machine's Python takes for one turn of a counting loop, now."""
    begun, count = time.perf_counter_ns(), 0
    for step in range(STEPS):
        count += step
    return (time.perf_counter_ns() - begun) / STEPS


def gather(owner: Owner, devices: int) -> None:
    """Until so many devices wait for work; starting their processes is no part of a round."""
    give_up = time.monotonic() + GIVE_UP_SECONDS
    while sum(row["last_seen_at"] is not None for row in owner.devices()) < devices:
        if time.monotonic() > give_up:
            raise RuntimeError("the devices did not come")
        time.sleep(0.2)
    time.sleep(1.0)


def wait(owner: Owner, run: str, portal: Portal, seconds: float = GIVE_UP_SECONDS) -> None:
    """Until the run is completed; asks rarely, so as not to be in the way."""
    give_up = time.monotonic() + seconds
    while (found := owner._get(routes.SESSION.format(run=run)))["state"] != "completed":
        if found["state"] != "running" or time.monotonic() > give_up:
            raise RuntimeError(f"{found}\n{portal.tail()}")
        time.sleep(1.0)


def times_of(owner: Owner, run: str) -> list[float]:
    """The milliseconds of each training round, in order."""
    rows = list(owner._rows(routes.SESSION_ROUNDS.format(run=run), "rounds"))
    trained = [row for row in rows if row["kind"] == "train" and row["state"] == "done"]
    moments = [trained[0]["opened_at"], *(row["closed_at"] for row in trained)]
    return [
        (datetime.fromisoformat(after) - datetime.fromisoformat(before)).total_seconds() * 1000
        for before, after in pairwise(moments)
    ]


def main(arguments: list[str] | None = None) -> None:
    """Print one line per setting, or be a device."""
    parser = argparse.ArgumentParser(prog="rounds", description=__doc__)
    parser.add_argument("--device", nargs=5)
    parser.add_argument("--only", choices=SETTINGS)
    options = parser.parse_args(arguments)
    if options.device:
        *texts, inputs = options.device
        take_part(*texts, int(inputs))
        return
    for name, setting in SETTINGS.items():
        if options.only in (None, name):
            print(json.dumps(measure("rounds", setting, {})), flush=True)


if __name__ == "__main__":
    main()
