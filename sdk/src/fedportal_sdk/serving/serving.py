"""`Serving`: a model of this machine, for programs of this machine.

from fedportal_sdk.serving import Serving, find

with Serving(find("radiology-v1"), port=8080) as serving:
    print(serving.url)  # http://127.0.0.1:8080
    serving.wait()
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import threading
from collections.abc import Callable
from typing import Any, Protocol, Self, Unpack

from fedportal_sdk._retry import Stop
from fedportal_sdk.installed import HealthCounts, InstalledModel
from fedportal_sdk.serving.desk import Desk
from fedportal_sdk.serving.doors import LocalServer, listening
from fedportal_sdk.serving.limits import Limits
from fedportal_sdk.serving.sources import Found, Source
from fedwire.errors import FedportalError

log = logging.getLogger("fedportal")

DEFAULT_PORT = 8080
# So often it is looked whether another version is there, and the portal hears how this one does, if it is to hear it.
LOOK_SECONDS = 0.5
REPORT_SECONDS = 60.0
Event = dict[str, Any]


class Reporter(Protocol):
    """A `FederatedClient`, as far as it is needed."""

    @property
    def device_id(self) -> str | None:
        """None before the device's first registration."""

    def installed(self, model: str | None = None) -> InstalledModel:
        """The version that its organization gave it."""

    def report_health(self, model: str | None = None, **counts: Unpack[HealthCounts]) -> None:
        """Tell the portal how it fared."""


class Serving:
    """Serves what `source` gives on 127.0.0.1 until `close`; nothing of a request leaves the machine.

    `port`: 0 for any that is free. `reporter`: a registered device in whose name the portal is told counts of
    predictions, failures and latencies of an installed version, nothing else; without one nobody is told anything.
    `on_event` is called with a dict when a version comes into use or cannot be used. `brightest`: what a PNG's 255
    stands for in the model's inputs.
    """

    def __init__(
        self,
        source: Source,
        *,
        port: int = DEFAULT_PORT,
        limits: Limits | None = None,
        reporter: Reporter | None = None,
        on_event: Callable[[Event], None] | None = None,
        brightest: float = 1.0,
    ) -> None:
        self.limits = limits or Limits()
        self._port, self._reporter, self._on_event = port, reporter, on_event
        self._desk = Desk(source, self.limits, brightest=brightest, tell=self._tell)
        self._server: LocalServer | None = None
        self._threads: list[threading.Thread] = []
        self._stop = Stop()  # no event: a signal handler sets it
        self._telling = threading.Lock()
        self._untold: tuple[Found, HealthCounts] | None = None

    @property
    def url(self) -> str:
        """Where it is served; "" while it is not."""
        return self._server.url if self._server is not None else ""

    @property
    def found(self) -> Found:
        """The version in use. Raises not_installed after it was taken away."""
        return self._desk.found

    def start(self) -> Self:
        """Load the model and answer from now on. Raises port_taken, and what is wrong with the model."""
        self._desk.load()
        self._server = listening(self._desk, self._port)
        serve = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        look = threading.Thread(target=self._look, name="fedportal-look", daemon=True)
        self._threads = [serve, look]
        if self._reporter is not None:
            self._threads.append(threading.Thread(target=self._report, name="fedportal-report", daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def wait(self, seconds: float | None = None) -> None:
        """Until `stop`, or for so long."""
        self._stop.wait(math.inf if seconds is None else seconds)

    def stop(self) -> None:
        """End `wait`, from any thread or a signal handler."""
        self._stop.set()

    def close(self) -> None:
        """Answer no more; what is being answered is finished first."""
        self.stop()
        if self._server is not None:
            self._server.end()
            for thread in self._threads:
                thread.join(5)
            self._server = None

    def look(self) -> None:
        """Change over now, where another version is there."""
        self._desk.refresh()

    def report(self) -> None:
        """Tell the portal the counts since the last report, if they are of the version that the device holds.

        What cannot be told now is told the next time as it was, for the portal may have it already.
        """
        if self._reporter is None or self._reporter.device_id is None:
            return
        with self._telling, contextlib.suppress(FedportalError):
            if self._untold is not None:
                self._send(self._reporter, *self._untold)
            model = self._desk.in_use()
            counts = model.unreported.take()
            if counts is not None:
                counts["batch"], counts["version"] = secrets.token_hex(16), model.found.version
                self._send(self._reporter, model.found, counts)

    def __enter__(self) -> Self:
        return self if self._server is not None else self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self._desk.refresh()
            except Exception:
                log.exception("It could not be looked for another version.")

    def _report(self) -> None:
        while not self._stop.wait(REPORT_SECONDS):
            self.report()
        self.report()

    def _send(self, reporter: Reporter, found: Found, counts: HealthCounts) -> None:
        """Raises what keeps it from being told; then it is kept, unless the portal never wants it."""
        self._untold = (found, counts)
        try:
            held = reporter.installed(found.model)
            if (held.version, held.sha256) == (found.version, found.sha256):
                reporter.report_health(found.model, **counts)
        except FedportalError as error:
            log.debug("The portal was not told how %s does: %s", found.name, error.message)
            if error.code not in ("not_installed", "field_invalid"):
                raise
        self._untold = None

    def _tell(self, event: str, **values: Any) -> None:
        if self._on_event is not None:
            self._on_event({"event": event, **values})
