"""A round of secure aggregation through the real portal, with the SDK's own devices, measured; see `secagg`."""

from __future__ import annotations

import json
import logging
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from fedportal_sdk import FederatedClient, _loop, _masking
from fedportal_sdk.local import Refusal
from fedportal_sdk.portal import Portal as Owner
from fedwire import routes
from fedwire.messages import Task
from tests.bench.rounds import MODEL, gather, wait
from tests.running import Portal

PEOPLE = (("acme", "olga@acme.example"), ("metro", "mia@metro.example"), ("valley", "vera@valley.example"))
# All devices share this process, so a step takes each of them as long as it takes all.
STEP_SECONDS = 600
PATIENCE_SECONDS = 3600
# More devices are added up in groups of so many at most.
GROUP = 100
# So many of them work at a time, and the others wait: a device has a machine of its own, and is not kept from sending.
AWAKE = 8
# By how much each device moves each number.
MOVE = 0.0005


@dataclass
class Meter:
    """What each device's steps took and sent. Devices of `gone` decline when they are asked for their vector."""

    gone: frozenset[str]
    seconds: dict[str, float] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    began: float = 0.0  # kB of the portal's process when the first vector was asked for
    portal: Portal | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self, name: str, phase: str) -> None:
        if phase == "mask":
            with self.lock:
                if not self.began and self.portal is not None:
                    self.portal.forget_peak()
                    self.began = self.portal.rss_kib()
            if name in self.gone:
                raise Refusal("this device goes away")

    def took(self, name: str, seconds: float, said: _masking.Said) -> None:
        answer, content = said
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        sent = len(json.dumps(answer)) + (len(content) if content is not None else 0)
        self.sent[name] = self.sent.get(name, 0) + sent


@contextmanager
def metered(meter: Meter) -> Iterator[None]:
    """Measure the steps of all devices of this process meanwhile: their threads are named after them."""
    plain, whole = _masking.Masking.step, _loop.Loop._do
    awake = threading.Semaphore(AWAKE)

    def do(self: _loop.Loop, task: Task) -> None:
        with awake:
            whole(self, task)

    def step(self: _masking.Masking, task: Task, document: Mapping[str, Any]) -> _masking.Said:
        name = threading.current_thread().name
        meter.step(name, str((task.get("masking") or {}).get("phase")))
        begun = time.thread_time()
        said = plain(self, task, document)
        meter.took(name, time.thread_time() - begun, said)
        return said

    _masking.Masking.step, _loop.Loop._do = step, do  # type: ignore[method-assign]
    try:
        yield
    finally:
        _masking.Masking.step, _loop.Loop._do = plain, whole  # type: ignore[method-assign]


def measure(devices: int, parameters: int, drop: float) -> dict[str, object]:
    """One line: a round in which a share of the devices goes away after it shared its keys."""
    logging.getLogger("fedportal").setLevel(logging.ERROR)  # a thousand devices wait for a portal on the same machine
    names = [f"device-{number:03d}" for number in range(devices)]
    gone = names[:: round(1 / drop)][: round(devices * drop)] if drop else []
    meter = Meter(frozenset(gone))
    with ExitStack() as stack:
        stack.enter_context(metered(meter))
        portal = stack.enter_context(Portal(MASKING_SECONDS=str(STEP_SECONDS)))
        meter.portal = portal
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedportal-bench-")))
        founded = [portal.found(name, email) for name, email in PEOPLE]
        keys = [one["api_key"] for one in founded]
        owner = federation(portal, founded, folder, parameters)
        stack.enter_context(taking_part(portal, keys, names, folder))
        gather(owner, -(-devices // len(PEOPLE)))  # its own; the round waits for the others
        wish = {
            "model_id": MODEL,
            "rounds": 1,
            "min_devices": devices,
            "config": {"seed": 1, "evaluate": False, "privacy": {"sums": "secure", "clip": 1.0, "group": GROUP}},
        }
        run = owner._post(routes.SESSIONS, **wish)["id"]
        wait(owner, run, portal, PATIENCE_SECONDS)
        grown = (portal.peak_rss_kib() - meter.began) / 1024
        server = _unmasked_in(owner, run)
    stayed = [name for name in names if name not in meter.gone]
    return {
        "name": "secagg",
        "mode": "portal",
        "n": devices,
        "params": parameters,
        "drop": drop,
        "device_s": round(statistics.median(meter.seconds[name] for name in stayed), 3),
        "upload_bytes": max(meter.sent[name] for name in stayed),
        "server_s": round(server, 3),
        "server_rss_growth_mb": round(grown, 1),
    }


def federation(portal: Portal, founded: list[dict[str, Any]], folder: Path, parameters: int) -> Owner:
    """Three organizations and a model that they share; the owner."""
    owner, *others = [
        Owner(portal.url, one["api_key"], home=folder / str(number)) for number, one in enumerate(founded)
    ]
    owner.found_federation("benchmark")
    owner.invite("benchmark", org_ids=[one["org_id"] for one in founded[1:]])
    for other in others:
        other.join("benchmark")
    owner.create_model(MODEL, architecture={"kind": "linear", "inputs": parameters - 1})
    owner.push_initial(MODEL)
    owner.share(MODEL, "benchmark")
    return owner


@contextmanager
def taking_part(portal: Portal, keys: list[str], names: list[str], folder: Path) -> Iterator[None]:
    clients = [
        FederatedClient(keys[number % len(keys)], name, portal.url, folder / name) for number, name in enumerate(names)
    ]

    def take_part(client: FederatedClient) -> None:
        client.register()
        client.train_from_remote(MODEL, _moved, rounds=None, forever=True)

    threads = [
        threading.Thread(target=take_part, args=[client], daemon=True, name=name)
        for name, client in zip(names, clients, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for client in clients:
            client.stop()
        for thread in threads:
            thread.join(30)


def _moved(state: dict[str, Any]) -> tuple[dict[str, Any], int, None]:
    for array in state.values():
        array += np.float32(MOVE)
    return state, 100, None


def _unmasked_in(owner: Owner, run: str) -> float:
    """Seconds from the last step of the devices to the new model."""
    at: dict[str, datetime] = {}
    after, more = 0, True
    while more:
        page = owner._get(f"{routes.SESSION_EVENTS.format(run=run)}?after={after}")
        for event in page["events"]:
            after, at[event["kind"]] = event["sequence"], datetime.fromisoformat(event["at"])
        more = page["more"]
    return (at["round.done"] - at["round.aggregating"]).total_seconds()
