"""Giving versions to the devices of one's own organization: begin, widen, halt, go back, and follow how it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from fedportal_sdk._paths import path_of as _path
from fedportal_sdk.portal import Json, Portal
from fedwire import routes
from fedwire.errors import FedportalError
from fedwire.states import InstallationState, RolloutState

# A device in one of these holds what the rollout wants of it: a version, or nothing any more.
THERE = (InstallationState.INSTALLED, InstallationState.REMOVED)
# What one may do with a rollout by a word alone.
ACTS = ("advance", "pause", "resume", "complete")


class Deliverer(Portal):
    """A portal for whoever gives versions to devices. A rollout is named by its id, or by its model: the newest one."""

    def deploy(
        self,
        model: str,
        version: str | None = None,
        *,
        percentage: float | None = None,
        group: str | None = None,
        schedule: Sequence[tuple[float, int]] = (),
        **limits: Any,
    ) -> Json:
        """Send the version (the latest) to this percentage (100) of one's devices, of all or of a group.

        The same with a higher percentage widens what is on its way. `schedule` is [(percentage, seconds), …].
        `limits`: increment_step, window_seconds, least, error_rate, latency_ms, accuracy, auto_rollback.
        """
        steps = [{"percentage": share, "wait_seconds": wait} for share, wait in schedule]
        said = {"version": version, "rollout_percentage": percentage, "group": group, "schedule": steps or None}
        return dict(self._post(_path(routes.MODEL_ROLLOUTS, model=model), **said, **limits))

    def rollouts(self, model: str | None = None) -> list[Json]:
        """The rollouts to one's devices, newest first; of one model, or of all."""
        path = _path(routes.MODEL_ROLLOUTS, model=model) if model else routes.ROLLOUTS
        return list(self._rows(path, "rollouts"))

    def rollout(self, reference: str) -> Json:
        """A rollout. Raises `not_found`, and `no_rollout` for a model that has none."""
        if reference.startswith("rol_"):
            return dict(self._get(_path(routes.ROLLOUT, rollout=reference)))
        newest = self._get(_path(routes.MODEL_ROLLOUTS, model=reference) + "?limit=1")["rollouts"]
        if not newest:
            raise FedportalError("no_rollout", model=reference)
        return dict(newest[0])

    def act_on_rollout(self, reference: str, act: str) -> Json:
        """One of `ACTS`."""
        return dict(self._post(f"{self._address(reference)}/{act}"))

    def set_percentage(self, reference: str, percentage: float) -> Json:
        """Widen it to this percentage."""
        return dict(self._post(f"{self._address(reference)}/set", rollout_percentage=percentage))

    def roll_back(self, reference: str, to_version: str | None = None, reason: str | None = None) -> Json:
        """Send all devices of a model to an earlier version, or those of its newest rollout to what each had before."""
        if to_version is None:
            return dict(self._post(f"{self._address(reference)}/rollback", reason=reason))
        return dict(self._post(_path(routes.MODEL_ROLLBACK, model=reference), version=to_version))

    def follow(self, rollout: str, seconds: float = 1.0) -> Iterator[Json]:
        """The rollout again and again, until no device of its present share is waited for, or it is rolled back.

        Of one that was rolled back already: until every device has gone back.
        """
        path, before = _path(routes.ROLLOUT, rollout=rollout), None
        while True:
            found = dict(self._get(path))
            yield found
            turned = before not in (None, found["status"]) and found["status"] == RolloutState.ROLLED_BACK
            if not found["outstanding"] or turned:
                return
            before = found["status"]
            time.sleep(seconds)

    def _address(self, reference: str) -> str:
        return _path(routes.ROLLOUT, rollout=str(self.rollout(reference)["id"]))


def there(rollout: Json) -> int:
    """How many devices of the rollout hold what it wants of them."""
    return sum(rollout["devices"].get(state, 0) for state in THERE)


def members(rollout: Json) -> int:
    """How many devices are in the rollout, or are about to be."""
    return there(rollout) + failed(rollout) + int(rollout["outstanding"])


def failed(rollout: Json) -> int:
    """How many devices could not do what the rollout wants; each is asked again after a while."""
    return int(rollout["devices"].get(InstallationState.FAILED, 0))
