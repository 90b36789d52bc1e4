"""An edge aggregator: a server for an organization's devices, and one device at the portal.

    edge = Edge(FederatedClient(api_key="edg_…", device_identifier="edge-metro", url="https://portal.example"))
    key = edge.enrolment.make_key()
    edge.run()

Devices point their `url` at the edge's address and use this key; nothing else is different for them.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedportal_sdk._participation import Participation
from fedportal_sdk._retry import Patience, Stopped
from fedportal_sdk.client import FederatedClient
from fedportal_sdk.edge.connection import Server
from fedportal_sdk.edge.enrolment import Enrolment
from fedportal_sdk.edge.loop import EdgeLoop, EdgeWork
from fedportal_sdk.edge.parts import told
from fedportal_sdk.edge.rounds import Rounds
from fedportal_sdk.edge.server import doors
from fedportal_sdk.edge.store import Store, exists
from fedportal_sdk.edge.terms import Terms
from fedwire.errors import FedportalError

log = logging.getLogger("fedportal")

DEFAULT_PORT = 8100
# For so long the portal's word on a run is passed on to every device that asks.
REMEMBER_SECONDS = 2.0


class Edge:
    """The edge that is `client` at the portal; its state lies in the client's folder.

    `certificate`: a PEM file with certificate and private key; with it the edge speaks TLS. Raises `field_invalid` for
    a certificate that cannot be used.
    """

    def __init__(
        self,
        client: FederatedClient,
        terms: Terms | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        certificate: str | Path | None = None,
    ) -> None:
        self.client = client
        self.terms = terms or Terms()
        self._store = Store(folder_of(client))
        self.enrolment = Enrolment(self._store, lambda: client.organization)
        self.rounds = Rounds(self._store, self.enrolment, self.terms)
        self._host, self._port, self._context = host, port, _tls(certificate)
        self._states: dict[str, tuple[float, dict[str, Any]]] = {}

    def run(self, model: str | None = None, *, rounds: int | None = None) -> Participation:
        """Serve the devices and take part (in training `model` only, if one is named) for so many training rounds, or
        until `stop`.

        Raises `conflict` when another process is this edge already, `field_invalid` for an address that cannot be
        listened at, and what a person has to mend at the portal.
        """
        with self._alone(), self.serving():
            work: Any = EdgeWork(self.rounds, self.terms, self._tell_devices)
            return self.client._take_part(work, model, rounds, True, EdgeLoop)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The devices' server, running; its address."""
        handler = doors(self.enrolment, self.rounds, self.run_state)
        try:
            server = Server(self._host, self._port, handler, self._context)
        except OSError as error:
            reason = f"{self._host}:{self._port} cannot be listened at ({error.strerror or error})."
            raise FedportalError("field_invalid", field="host and port", reason=reason) from error
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        self.client._tell("serving", url=server.url)
        try:
            yield server.url
        finally:
            self.rounds.stop()
            server.end()
            thread.join()

    def stop(self) -> None:
        """End `run`, from any thread or a signal handler. A round in work is left for the next start."""
        self.client.stop()

    def close(self) -> None:
        """Stop, and close what is open."""
        self.client.close()
        self._store.close()

    def run_state(self, run: str) -> dict[str, Any]:
        """How the run stands, as the portal says. Raises `unavailable` while it cannot be asked."""
        at, known = self._states.get(run, (0.0, {}))
        if time.monotonic() - at < REMEMBER_SECONDS:
            return known
        # Asked once: a device that waits for the answer comes back by itself.
        door = self.client._door(Patience(self.client._stop, limit=0.0))
        try:
            found = door.run_state(run)
        except (FedportalError, Stopped) as error:
            log.debug("The portal does not say how %s stands: %s", run, error)
            raise FedportalError("unavailable") from error
        self._states = {**dict(list(self._states.items())[-20:]), run: (time.monotonic(), found)}
        return found

    def _tell_devices(self, count: int) -> None:
        """The portal's page of this device shows how many are behind it; if it cannot be told now, then later."""
        with contextlib.suppress(FedportalError):
            self.client.heartbeat(devices_behind=count)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process is the edge of a folder at a time; one that was killed is it no more."""
        held = _held(self._store.folder)
        if held is None:
            raise FedportalError("edge_runs", identifier=self.client.device_identifier)
        try:
            yield
        finally:
            held.close()


def folder_of(client: FederatedClient) -> Path:
    """Where the edge that is this device keeps what it knows."""
    return client.folder / "edge"


def status_of(client: FederatedClient) -> dict[str, Any]:
    """How the edge that is this device stands, also while it runs. Raises `edge_unknown` where there never was one."""
    with opened(client) as (store, enrolment):
        return {
            "device_identifier": client.device_identifier,
            "device_id": client.device_id,
            "portal": client.url,
            "running": is_running(client),
            "devices": enrolment.listed(),
            "round": told(store),
        }


@contextmanager
def opened(client: FederatedClient, *, make: bool = False) -> Iterator[tuple[Store, Enrolment]]:
    """The edge's store and devices, beside a running edge or without one. Raises `edge_unknown` unless `make`."""
    folder = folder_of(client)
    if not make and not exists(folder):
        raise FedportalError("edge_unknown", identifier=client.device_identifier)
    store = Store(folder)
    try:
        yield store, Enrolment(store, lambda: client.organization)
    finally:
        store.close()


def is_running(client: FederatedClient) -> bool:
    """Whether a process is this edge."""
    held = _held(folder_of(client))
    if held is not None:
        held.close()
    return held is None


def _held(folder: Path) -> sqlite3.Connection | None:
    """A lock on the folder that goes with the process, on every system; None when another has it."""
    connection = sqlite3.connect(folder / "lock.sqlite3", timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        connection.close()
        return None
    return connection


def _tls(certificate: str | Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate)
    except (OSError, ssl.SSLError) as error:
        reason = f"{certificate} is not a PEM file with a certificate and its private key ({error})."
        raise FedportalError("field_invalid", field="certificate", reason=reason) from error
    return context
