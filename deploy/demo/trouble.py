"""Devices that make a run interesting: `python -m deploy.demo.trouble KIND CSV`, the rest in the environment.

straggler   answers slowly, and every third time after the deadline
dropout     takes a task and vanishes, comes back, takes part, vanishes again
poisoner    sends NaN, or tensors of another shape, by the bare protocol; the portal refuses both
inverter    sends its honest update times −4
"""

from __future__ import annotations

import hashlib
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from deploy.demo.patients import TARGET
from fedportal_sdk import FederatedClient
from fedportal_sdk._http import Http
from fedportal_sdk.data import load
from fedportal_sdk.local import Arrays, TableWork, Trained
from fedportal_sdk.trainers import Tick
from fedwire import routes
from fedwire.errors import FedportalError
from fedwire.messages import Task
from fedwire.tensors import Float32, Manifest

ROUND_SECONDS = 5  # the deadline of the rounds these devices are made for
SLOW_SECONDS = 1.5
LATE_SECONDS = ROUND_SECONDS + 4  # by then the portal has noticed the deadline
AWAY_SECONDS = 12.0
GROUP = "field"


def straggler(client: FederatedClient, csv_file: str) -> None:
    """Honest and slow."""

    class Slow(TableWork):
        def train(
            self, task: Task, arrays: Arrays, tick: Tick, shift: Float32 | None = None, own: Arrays | None = None
        ) -> Trained:
            time.sleep(LATE_SECONDS if task["round"] % 3 == 2 else SLOW_SECONDS)
            return super().train(task, arrays, tick, shift, own)

    client._take_part(Slow(load(csv_file, TARGET)), None, None, True)


def dropout(client: FederatedClient, csv_file: str) -> None:
    """Honest, but its line is bad."""
    while True:
        if client.wait_for_task(60) is not None:
            time.sleep(AWAY_SECONDS)
            client.train(data=csv_file, target_col=TARGET, rounds=2)


def poisoner(client: FederatedClient, csv_file: str) -> None:
    """What it sends must not get in."""
    http = Http(client.url, client.register([GROUP]).device_key)
    while True:
        task = http.json("GET", f"{routes.TASK_NEXT}?wait=25", timeout=40)
        if task is None:
            continue
        try:
            if task["kind"] != "train":
                http.json("POST", routes.TASK_DECLINE.format(task=task["id"]), {"reason": "only trains"})
                continue
            body = poison(task)
            digest = {"Upload-Digest": hashlib.sha256(body).hexdigest()}
            http.send("PUT", routes.TASK_UPDATE.format(task=task["id"]), body=body, headers=digest)
        except FedportalError as error:
            time.sleep(1.0)
            if error.status == 400 and task["round"] % 2:
                http.json("POST", routes.TASK_DECLINE.format(task=task["id"]), {"reason": error.code})


def poison(task: Any) -> bytes:
    """An update of the right length: full of NaN, or under another tensor's name."""
    manifest = Manifest.from_json(task["manifest"])
    header = manifest.update_header()
    if task["round"] % 2:
        return header + np.full(manifest.parameters, np.nan, "<f4").tobytes()
    return header.replace(b"layers", b"layerz") + bytes(4 * manifest.parameters)


def inverter(client: FederatedClient, csv_file: str) -> None:
    """Every number is fine, the direction is not."""

    class Inverted(TableWork):
        def train(
            self, task: Task, arrays: Arrays, tick: Tick, shift: Float32 | None = None, own: Arrays | None = None
        ) -> Trained:
            trained = super().train(task, arrays, tick, shift, own)
            turned = {name: arrays[name] - 4 * (value - arrays[name]) for name, value in trained.arrays.items()}
            return replace(trained, arrays=turned)

    client._take_part(Inverted(load(csv_file, TARGET)), None, None, True)


KINDS: dict[str, Callable[[FederatedClient, str], None]] = {
    act.__name__: act for act in (straggler, dropout, poisoner, inverter)
}


def main(kind: str, csv_file: str) -> None:
    """Be that device until told to stop."""
    client = FederatedClient()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the demonstration ends its devices itself
    client.register(groups=[GROUP])
    KINDS[kind](client, csv_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
