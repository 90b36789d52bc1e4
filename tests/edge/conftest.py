"""An edge in this process: its clock, its store, its server, a scripted portal and real devices in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from fedportal_sdk import FederatedClient, Participation
from fedportal_sdk.edge import Edge, Terms
from tests.sdk.server import serving
from tests.sdk.test_client import KEY, Portal

SECONDS = 30.0


class Clock:
    """The time, which a test moves."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "API_KEY", "HOME", "DEVICE", "LEAST_RECORDS", "CA_FILE"):
        monkeypatch.delenv(f"FEDPORTAL_{name}", raising=False)


class Running:
    """An edge at work in a thread of its own, and devices that point at it."""

    def __init__(self, edge: Edge, events: list[dict[str, Any]], stack: ExitStack, folder: Path) -> None:
        self.edge, self.events, self._stack, self._folder = edge, events, stack, folder
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.url = str(self.wait_for("serving")["url"])
        self.key = edge.enrolment.make_key()

    def _run(self) -> None:
        try:
            self.edge.run()
        except BaseException as error:
            self.error = error

    def wait_for(self, name: str, count: int = 1) -> dict[str, Any]:
        """The event of this name that comes as the `count`th."""
        give_up = time.monotonic() + SECONDS
        while True:
            found = [event for event in list(self.events) if event["event"] == name]
            if len(found) >= count:
                return found[count - 1]
            assert self.error is None, self.error
            assert time.monotonic() < give_up, f"no {name} among {self.events}"
            time.sleep(0.01)

    def client(self, identifier: str, **options: Any) -> FederatedClient:
        """A device that is enrolled here; it ends with the test."""
        client = FederatedClient(self.key, identifier, self.url, self._folder / identifier, **options)
        self._stack.callback(client.close)
        return client

    def device(self, identifier: str, csv_file: Path, **options: Any) -> Taking:
        """A device that takes part."""
        return Taking(self.client(identifier, **options), lambda c: c.train(None, csv_file, "diagnosis", forever=True))

    def stop(self) -> None:
        """End the edge's process, so to speak."""
        self.edge.stop()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        self.edge.close()


class Taking:
    """A device at work in a thread."""

    def __init__(self, client: FederatedClient, act: Callable[[FederatedClient], Participation]) -> None:
        self.client = client
        self.result: Participation | None = None
        self.error: BaseException | None = None

        def run() -> None:
            try:
                self.result = act(client)
            except BaseException as error:
                self.error = error

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def join(self) -> Participation:
        """What came of it."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


Starter = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    """Start an edge against a scripted portal; both end with the test, the devices first."""
    with ExitStack() as servers, ExitStack() as edges, ExitStack() as devices:
        urls: dict[int, str] = {}

        def begin(portal: Portal, terms: Terms | None = None, port: int = 0, **options: Any) -> Running:
            url = urls.setdefault(id(portal), "") or servers.enter_context(serving(portal)).url
            urls[id(portal)] = url
            events: list[dict[str, Any]] = []
            client = FederatedClient(KEY, "edge-metro", url, tmp_path / "edge", on_event=events.append)
            running = Running(Edge(client, terms, port=port, **options), events, devices, tmp_path)
            edges.enter_context(_ended(running))
            return running

        yield begin


@contextmanager
def _ended(running: Running) -> Iterator[None]:
    try:
        yield
    finally:
        running.stop()
