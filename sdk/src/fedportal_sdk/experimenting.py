"""Comparing two versions on one's own devices: plan, begin, look, end, give the better one to all."""

from __future__ import annotations

from typing import Any

from fedportal_sdk._paths import path_of as _path
from fedportal_sdk.portal import Json, Portal
from fedwire import routes
from fedwire.errors import FedportalError


class Experimenter(Portal):
    """A portal for whoever compares versions. An experiment is named by its id, or by its model: the newest one."""

    def create_experiment(
        self,
        model: str,
        treatment: str,
        control: str | None = None,
        *,
        percentage: float | None = None,
        start: bool = False,
        **more: Any,
    ) -> Json:
        """Plan to give `treatment` to this percentage (50) of one's devices and `control` to the others.

        `control` is the version of the last completed rollout if it is left out. `more`: name, group, federation,
        metric ("accuracy" or "error_rate"), planned, window_seconds, least, error_rate, latency_ms, accuracy,
        auto_stop.
        """
        said: dict[str, Any] = {"model_id": model, "treatment_version": treatment, "control_version": control}
        said |= {"treatment_percentage": percentage, "start_immediately": start}
        return dict(self._post(routes.EXPERIMENTS, **said, **more))

    def experiments(self, model: str | None = None) -> list[Json]:
        """The experiments on one's devices, newest first; with one model, or with any."""
        return list(self._rows(routes.EXPERIMENTS, "experiments", **({"model": model} if model else {})))

    def offered_experiments(self) -> list[Json]:
        """The experiments of one's federations that one may join with one's own devices."""
        return list(self._rows(routes.EXPERIMENTS_OFFERED, "experiments"))

    def join_experiment(self, experiment: str, group: str | None = None) -> Json:
        """Take part with one's own devices, all or those of a group; one's own experiment, which has begun."""
        return dict(self._post(_path(routes.EXPERIMENT, experiment=experiment) + "/join", group=group))

    def experiment(self, reference: str) -> Json:
        """An experiment. Raises `not_found`, and `no_experiment` for a model that has none."""
        if reference.startswith("exp_"):
            return dict(self._get(_path(routes.EXPERIMENT, experiment=reference)))
        newest = next(iter(self._rows(routes.EXPERIMENTS, "experiments", model=reference)), None)
        if newest is None:
            raise FedportalError("no_experiment", model=reference)
        return newest

    def results(self, experiment: str) -> Json:
        """What may be concluded now; looking often does no harm."""
        return dict(self._get(f"{self._address(experiment)}/results"))

    def start_experiment(self, experiment: str) -> Json:
        """Give every device its arm, and the arm's version."""
        return dict(self._post(f"{self._address(experiment)}/start"))

    def stop_experiment(self, experiment: str, reason: str | None = None) -> Json:
        """Return every device to what it had before."""
        return dict(self._post(f"{self._address(experiment)}/stop", reason=reason))

    def promote(self, experiment: str, arm: str | None = None, *, percentage: float | None = None) -> Json:
        """Begin a rollout of the better version, or of that of `arm`; the rollout. Again: it is the same one."""
        return dict(self._post(f"{self._address(experiment)}/promote", arm=arm, rollout_percentage=percentage))

    def _address(self, reference: str) -> str:
        return _path(routes.EXPERIMENT, experiment=str(self.experiment(reference)["id"]))
