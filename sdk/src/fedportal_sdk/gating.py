"""Gates of models: what versions must pass before they go to devices, and how a version stands with that."""

from __future__ import annotations

import time
from collections.abc import Callable

from fedportal_sdk._paths import path_of as _path
from fedportal_sdk.portal import Json, Portal
from fedwire import routes

LIMITS = ("quality", "gap", "drift", "cosine", "size", "latency")
# Seconds between two looks at a version that a worker judges.
LOOK = 1.0


class Gates(Portal):
    """A portal for whoever decides what goes to devices."""

    def gate(self, model: str) -> Json:
        """The limits of a model; None where nothing is looked at."""
        return dict(self._get(_path(routes.MODEL_GATE, model=model)))

    def set_gate(self, model: str, **limits: str | float | None) -> Json:
        """Change these limits, `metric` among them, and leave the others as they are; None takes one away."""
        before = self.gate(model)
        wanted = {name: before[name] for name in ("metric", *LIMITS)} | limits
        return dict(self._call("PUT", _path(routes.MODEL_GATE, model=model), wanted))

    def gate_report(self, model: str, version: str = "latest") -> Json:
        """How a version stands: `open` says whether it may go to devices."""
        return dict(self._get(_path(routes.VERSION_GATE, model=model, version=version)))

    def check_gate(
        self,
        model: str,
        version: str = "latest",
        *,
        remeasure: bool = False,
        patience: float = 600.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Json:
        """Have a version judged, and wait up to `patience` seconds for it; `state` stays pending beyond that."""
        path = _path(routes.VERSION_GATE, model=model, version=version)
        found = dict(self._post(path, remeasure=remeasure))
        for _ in range(int(patience / LOOK)):
            if found["state"] != "pending":
                break
            sleep(LOOK)
            found = self.gate_report(model, version)
        return found

    def override_gate(self, model: str, version: str, reason: str) -> Json:
        """Let one version that did not pass go to devices; `reason` stands in the audit log."""
        return dict(self._post(_path(routes.VERSION_GATE, model=model, version=version) + "/override", reason=reason))

    def withdraw_override(self, model: str, version: str) -> Json:
        """Take that back: what is on its way is called back, devices that hold the version keep it."""
        return dict(self._post(_path(routes.VERSION_GATE, model=model, version=version) + "/override/withdraw"))
