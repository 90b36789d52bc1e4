"""Federated inference, as Python calls: plans, what was shown of them, and one's own organization's consent."""

from __future__ import annotations

from typing import Any

from fedportal_sdk._paths import path_of as _path
from fedportal_sdk.portal import Json, Portal
from fedwire import routes


class Planner(Portal):
    """A portal for whoever asks devices for summaries, or lets theirs be asked."""

    def plan_inference(self, federation: str, model: str, summary: str, **more: Any) -> Json:
        """Ask the devices of a federation what `model` says of their rows; `more` by the API's names, None left out."""
        path = _path(routes.FEDERATION_INFERENCES, federation=federation)
        return dict(self._post(path, model=model, summary=summary, **more))

    def inferences(self, federation: str) -> list[Json]:
        """The plans of the federation, newest first."""
        return list(self._rows(_path(routes.FEDERATION_INFERENCES, federation=federation), "plans"))

    def inference(self, plan: str) -> Json:
        """A plan by its id, with its summary once it is done."""
        return dict(self._get(_path(routes.INFERENCE, plan=plan)))

    def act_on_inference(self, plan: str, act: str) -> Json:
        """start or cancel a plan, given by its id."""
        return dict(self._post(_path(routes.INFERENCE, plan=plan) + f"/{act}"))

    def inference_consent(self, federation: str) -> Json:
        """One's own organization's consent to the federation's plans."""
        return dict(self._get(_path(routes.FEDERATION_CONSENT, federation=federation)))

    def consent_to_inference(self, federation: str, **limits: Any) -> Json:
        """Give it, within these limits; those left out are as they are by default."""
        said = {name: value for name, value in limits.items() if value is not None}
        return dict(self._call("PUT", _path(routes.FEDERATION_CONSENT, federation=federation), said))

    def withdraw_inference_consent(self, federation: str) -> Json:
        """Take it back."""
        return dict(self._call("DELETE", _path(routes.FEDERATION_CONSENT, federation=federation)))
