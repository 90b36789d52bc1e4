"""Three hospitals with four devices each, the real SDK and the real portal: a model from sums, whatever happens."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk import FederatedClient, data
from fedportal_sdk.trainers import DenseTrainer
from fedwire import routes
from fedwire.architectures import Architecture
from fedwire.tensors import decode_model
from tests.journeys.network import Wire
from tests.journeys.story import FEDERATION, MEMBERS, Device, Story
from tests.protocol.wire import eventually
from tests.running import Portal

SPEC: dict[str, Any] = {"kind": "logistic", "inputs": 4, "classes": 2}
ARCHITECTURE = Architecture.parse(SPEC)
SITES = [(organization, number) for organization in MEMBERS for number in range(4)]
VICTIM = 11
# A step waits so long for those who are silent.
MASKING_SECONDS = 15


def patients_of(path: Path, number: int) -> Path:
    """Sixty rows; every hospital's patients are a little different, the disease is not."""
    random = np.random.default_rng(number)
    features = random.normal(size=(60, 4)) + 0.3 * (number // 4)
    sick = features @ [2.0, -1.0, 0.5, 0.0] + 0.3 * random.normal(size=60) > 0.4
    lines = (",".join(f"{value:.6f}" for value in row) for row in features)
    text = "\n".join(f"{line},{'M' if is_sick else 'B'}" for line, is_sick in zip(lines, sick, strict=True))
    path.write_text(f"a,b,c,d,diagnosis\n{text}\n")
    return path


class Ward:
    """The portal, its story, and the twelve devices' homes and rows."""

    def __init__(self, portal: Portal, folder: Path) -> None:
        self.portal, self.folder, self.story = portal, folder, Story(portal, SPEC)
        self.files = [patients_of(folder / f"site-{number}.csv", number) for number in range(len(SITES))]
        self.hear: Callable[[int, dict[str, Any]], None] = lambda number, event: None

    def name(self, number: int) -> str:
        organization, place = SITES[number]
        return f"{organization}-{place}"

    def device(self, number: int, url: str = "") -> Device:
        """Start a device, for the first time or again."""
        client = FederatedClient(
            self.story.keys[SITES[number][0]],
            self.name(number),
            url or self.portal.url,
            self.folder / self.name(number),
            on_event=lambda event: self.hear(number, event),
        )
        client.register()
        return Device(client, lambda one: one.train(None, self.files[number], "diagnosis", forever=True))

    @contextmanager
    def devices(self, but: tuple[int, ...] = ()) -> Iterator[list[Device]]:
        """All of them at work, but these."""
        with ExitStack() as stack:
            started = [self.device(number) for number in range(len(SITES)) if number not in but]
            for device in started:
                stack.callback(device.client.close)
            yield started

    def start(self, model: str, rounds: int, **privacy: Any) -> str:
        """Start a run for a fresh model; its id. Devices refuse two sums of one model by almost the same devices, and a
        logistic model begins with zeros, with whatever signs; so all sums of a ward are of the same devices."""
        made = self.story.call("acme", "POST", routes.MODELS, {"name": model, "architecture": SPEC})
        first = {"initial": True, "seed": zlib.crc32(model.partition("-")[2].encode())}
        self.story.call("acme", "POST", routes.MODEL_VERSIONS.format(model=model), first)
        path = routes.FEDERATION_MODELS.format(federation=FEDERATION)
        self.story.call("acme", "POST", path, {"model_id": made["id"]})
        config: dict[str, Any] = {"epochs": 1, "learning_rate": 0.5, "batch_size": 16, "seed": 3}
        # The last model is not measured: that would wait for a device that was killed.
        config |= {"privacy": privacy, "evaluate": False} if privacy else {}
        wish = {"model_id": model, "federation_id": FEDERATION, "strategy": "fedavg", "rounds": rounds}
        wish |= {"min_devices": 10, "round_seconds": 60, "config": config}
        eventually(lambda: self.present() == len(SITES), 60)
        return str(self.story.call("acme", "POST", routes.SESSIONS, wish)["session_id"])

    def arrays(self, model: str) -> dict[str, np.ndarray]:
        """Those of the model's latest version."""
        version = self.story.versions(model)[0]["version"]
        path = routes.MODEL_DOWNLOAD.format(model=model, version=version)
        return dict(decode_model(self.story.doors["acme"].send("GET", path).data)[1])

    def accuracy(self, model: str) -> float:
        """Over the held-out rows of all devices."""
        right, count, arrays = 0, 0, self.arrays(model)
        for path in self.files:
            table = data.load(path, "diagnosis")
            aside = data.held_out(table, 0)
            labels = data.labels_for(table, ARCHITECTURE, None)[aside]
            report = DenseTrainer(ARCHITECTURE).evaluate(arrays, table.features[aside].astype(np.float32), labels)
            right, count = right + report["correct"], count + report["samples"]
        return right / count

    def present(self) -> int:
        """How many devices are there."""
        found = [self.story.call(name, "GET", routes.DEVICES)["devices"] for name in MEMBERS]
        return sum(row["present"] for rows in found for row in rows)

    def counted(self, run: str) -> int:
        """How many updates the closed rounds of the run are made of."""
        return sum(row["updates"] for row in self.story.snapshot(run)["contributions"])


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with Portal(MASKING_SECONDS=MASKING_SECONDS) as portal:
        yield Ward(portal, tmp_path_factory.mktemp("ward"))


def test_model_from_sums_is_as_good_as_the_one_from_updates(ward: Ward) -> None:
    with ward.devices():
        ward.story.completed(ward.start("plain", 5))
        run = ward.start("masked", 5, sums="secure", most_weight=1024)
        ward.story.completed(run, 60)
    assert ward.counted(run) == 60
    assert abs(ward.accuracy("masked") - ward.accuracy("plain")) <= 0.005
    for name, weights in ward.arrays("plain").items():
        np.testing.assert_allclose(ward.arrays("masked")[name], weights, atol=1e-3)


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ward, Wire]]:
    """A ward whose steps have as much time as they have by themselves; to one device, the wire's end is its portal."""
    with Portal() as portal, Wire(portal.port) as wire:
        yield Ward(portal, tmp_path_factory.mktemp("wired")), wire


@contextmanager
def by_wire(ward: Ward, wire: Wire) -> Iterator[None]:
    """All devices at work, one of them behind the wire."""
    with ward.devices(but=(VICTIM,)):
        victim = ward.device(VICTIM, wire.url)
        yield
        victim.client.close()


def test_cut_of_the_network_costs_nothing(wired: tuple[Ward, Wire]) -> None:
    """As a device is about to send its masked vector."""
    (ward, wire), cut = wired, threading.Event()

    def hear(number: int, event: dict[str, Any]) -> None:
        if number == VICTIM and event.get("phase") == "mask" and not cut.is_set():
            cut.set()
            wire.cut()
            threading.Timer(0.5, wire.mend).start()

    ward.hear = hear
    with by_wire(ward, wire):
        run = ward.start("wire-cut", 1, sums="secure")
        ward.story.completed(run, 60)
    assert cut.is_set()
    assert ward.counted(run) == 12


def test_portal_that_is_killed_in_a_session_goes_on_where_it_was(wired: tuple[Ward, Wire]) -> None:
    (ward, wire), seen = wired, threading.Event()
    ward.hear = lambda number, event: seen.set() if event.get("phase") == "share" else None
    with by_wire(ward, wire):
        run = ward.start("portal-killed", 1, sums="secure")
        assert seen.wait(60)
        ward.portal.kill()
        ward.portal.start()
        ward.story.completed(run, 60)
    assert ward.counted(run) == 12


def test_round_goes_on_without_a_device_that_dies_in_its_session(tmp_path: Path) -> None:
    """Nothing is heard of it when it has the task of sending its vector; these devices were in no sum before."""
    with Portal(MASKING_SECONDS=5, SWEEP_SECONDS=0.5) as portal:
        ward = Ward(portal, tmp_path)

        def hear(number: int, event: dict[str, Any]) -> None:
            if number == VICTIM and event.get("phase") == "mask":
                victim.client.stop()

        ward.hear = hear
        with ward.devices(but=(VICTIM,)):
            victim = ward.device(VICTIM)
            run = ward.start("device-dies", 1, sums="secure")
            ward.story.completed(run, 60)
        assert ward.counted(run) == 11
