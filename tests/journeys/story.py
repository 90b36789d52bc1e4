"""The story that the journeys share, told through the public doors only: acme founds, metro and valley join, a model is
shared, a run starts, devices of all three take part."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fedportal_sdk import FederatedClient, Participation
from fedportal_sdk._http import Http
from fedwire import routes
from tests.running import Portal

FEDERATION = "healthcare-consortium"
MODEL = "radiology-v1"
ARCHITECTURE: dict[str, Any] = {"kind": "logistic", "inputs": 6, "classes": 2, "standardise": True}
MEMBERS = ("acme", "metro", "valley")


class Story:
    """Organizations, federation and model on a running portal. `call` speaks for one of the organizations."""

    def __init__(self, portal: Portal, architecture: dict[str, Any] | None = None, password: str = "") -> None:
        self.portal = portal
        self.keys: dict[str, str] = {}
        self.ids: dict[str, str] = {}
        self.doors: dict[str, Http] = {}
        owners = {"acme": "olga", "metro": "mia", "valley": "vera"}
        with ThreadPoolExecutor() as pool:  # each is founded by a process of its own
            founding = {
                name: pool.submit(portal.found, name, f"{person}@{name}.example", password)
                for name, person in owners.items()
            }
        for name, future in founding.items():
            founded = future.result()
            self.keys[name], self.ids[name] = founded["api_key"], founded["org_id"]
            self.doors[name] = Http(portal.url, founded["api_key"])
        self.federation = self.call("acme", "POST", routes.FEDERATIONS, {"name": FEDERATION, "description": "Three."})
        others = [self.ids["metro"], self.ids["valley"]]
        self.call("acme", "POST", routes.FEDERATION_INVITE.format(federation=FEDERATION), {"org_ids": others})
        for name in ("metro", "valley"):
            self.call(name, "POST", routes.FEDERATION_JOIN.format(federation=FEDERATION), {})
        self.model = self.shared_model(MODEL, architecture or ARCHITECTURE)

    def shared_model(self, name: str, architecture: dict[str, Any] = ARCHITECTURE) -> str:
        """The id of a new model of acme with the same initial weights every time, shared with the federation."""
        made = self.call("acme", "POST", routes.MODELS, {"name": name, "architecture": architecture})
        self.call("acme", "POST", routes.MODEL_VERSIONS.format(model=name), {"initial": True, "seed": 0})
        self.call("acme", "POST", routes.FEDERATION_MODELS.format(federation=FEDERATION), {"model_id": made["id"]})
        return str(made["id"])

    def call(self, name: str, method: str, path: str, body: Any = None) -> Any:
        """What the portal answers to this organization's key."""
        return self.doors[name].json(method, path, body)

    def start(
        self, rounds: int = 5, devices: int = 3, round_seconds: int = 60, model: str = MODEL, **config: Any
    ) -> str:
        """Start a run; its id."""
        plan = {"epochs": 1, "learning_rate": 0.5, "batch_size": 16, "seed": 3, "standardise": True, **config}
        wish = {"model_id": model, "federation_id": FEDERATION, "strategy": "fedavg", "rounds": rounds}
        wish |= {"min_devices": devices, "round_seconds": round_seconds, "config": plan}
        return str(self.call("acme", "POST", routes.SESSIONS, wish)["session_id"])

    def snapshot(self, run: str) -> dict[str, Any]:
        """How the run stands."""
        found: dict[str, Any] = self.call("acme", "GET", routes.SESSION.format(run=run) + "/snapshot")
        return found

    def wait_for(self, run: str, what: Callable[[dict[str, Any]], bool], seconds: float = 180.0) -> dict[str, Any]:
        """The first snapshot for which `what` holds."""
        give_up = time.monotonic() + seconds
        while True:
            snapshot = self.snapshot(run)
            if what(snapshot):
                return snapshot
            assert time.monotonic() < give_up, f"{snapshot['run']}\n{snapshot['round']}\n{self.portal.tail()}"
            time.sleep(0.05)

    def completed(self, run: str, seconds: float = 180.0) -> dict[str, Any]:
        """The snapshot after the run completed. Fails when it ends otherwise."""
        ended = self.wait_for(run, lambda s: s["run"]["state"] in ("completed", "failed", "stopped"), seconds)
        assert ended["run"]["state"] == "completed", f"{ended['run']}\n{self.portal.tail()}"
        return ended

    def versions(self, model: str = MODEL) -> list[dict[str, Any]]:
        """The model's versions, newest first."""
        found = self.call("acme", "GET", routes.MODEL_VERSIONS.format(model=model))
        rows: list[dict[str, Any]] = found["versions"] if isinstance(found, dict) else found
        return rows


class Device:
    """A device in a thread of its own."""

    def __init__(self, client: FederatedClient, act: Callable[[FederatedClient], Participation]) -> None:
        self.client = client
        self.result: Participation | None = None
        self.error: BaseException | None = None
        self._act = act
        self._thread = threading.Thread(target=self._run, name=client.device_identifier, daemon=True)
        self._thread.start()

    def join(self, seconds: float = 180.0) -> Participation:
        """What came of it. Raises what the device raised."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"{self.client.device_identifier} is still at work"
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result

    def _run(self) -> None:
        try:
            self.result = self._act(self.client)
        except BaseException as error:
            self.error = error


@contextmanager
def devices(
    story: Story,
    folder: Path,
    act: Callable[[FederatedClient], Participation] | None = None,
    url: str | None = None,
    model: str = MODEL,
    on_event: Callable[[str, dict[str, Any]], None] = lambda name, event: None,
) -> Iterator[list[Device]]:
    """A device in each organization; by default each trains on its own patients until the run ends.

    With the same `folder` they are the same devices again. `on_event(organization, event)` hears what they hear.
    """
    clients: list[Device] = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(MEMBERS):
        csv_file = patients(folder / f"{name}.csv", number)
        client = FederatedClient(
            story.keys[name],
            f"hospital-{number + 1:03d}",
            url or story.portal.url,
            folder / f"home-{name}",
            on_event=partial(on_event, name),
        )
        client.register()
        clients.append(Device(client, act or partial(_train, model, csv_file)))
    try:
        yield clients
    finally:
        for device in clients:
            device.client.close()


def _train(model: str, csv_file: Path, client: FederatedClient) -> Participation:
    return client.train(model, csv_file, "diagnosis")


def patients(path: Path, number: int, rows: int = 120) -> Path:
    """A CSV of one hospital: its patients differ from those of the others, the disease does not."""
    random = np.random.default_rng(number)
    features = random.normal(size=(rows, 6)) * [1, 10, 0.1, 5, 2, 1] + [number, 50, 1, -20, 0, 3]
    score = (features - [1, 50, 1, -20, 0, 3]) / [1, 10, 0.1, 5, 2, 1] @ [2, -1, 1, 0, 0.5, 0]
    sick = score + random.normal(size=rows) > 0
    lines = [",".join(f"{value:.5f}" for value in row) for row in features]
    text = "\n".join(f"{line},{'M' if is_sick else 'B'}" for line, is_sick in zip(lines, sick, strict=True))
    path.write_text("radius,texture,area,smoothness,symmetry,age,diagnosis\n" + text + "\n")
    return path
