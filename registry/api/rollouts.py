"""Rollouts' addresses, and the one at which devices say how a version fares: parse, call one service, render."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from federations.api.devices import IsDevice
from federations.authentication import DeviceAuthentication
from federations.models import Device
from federations.permissions import Actor
from fedportal.common.api import Door, limit_offset
from fedwire.errors import FedportalError
from registry import selectors
from registry.api import rollout_shapes as shapes
from registry.api.percentages import group, share
from registry.api.views import PAGE
from registry.models import Rollout
from registry.models.rollouts import ALIVE
from registry.services import health, rollouts

LIMITS = ("window_seconds", "least", "error_rate", "latency_ms", "accuracy", "auto_rollback")


class Rollouts(Door):
    """/models/{model}/rollouts"""

    @extend_schema(operation_id="rollouts_list", parameters=PAGE, responses=shapes.RolloutList)
    def get(self, request: Request, model: str) -> Response:
        """The rollouts of this model to your organization's devices, newest first."""
        found = selectors.rollouts_of(self.actor, selectors.find_model(self.actor, model))
        rows: list[Rollout]
        rows, total = limit_offset(request, found)
        return Response({"rollouts": _shown(rows), "total": total})

    @extend_schema(request=shapes.NewRollout, responses={201: shapes.RolloutShape})
    def post(self, request: Request, model: str) -> Response:
        """Send a version to your devices. With a higher percentage for what is on its way, that grows."""
        said = self.body(shapes.NewRollout)
        found = selectors.find_model(self.actor, model)
        version = selectors.find_version(found, said.get("version") or "latest")
        rollout = rollouts.deploy(
            self.actor,
            version,
            share=share(said.get("rollout_percentage", 100.0)),
            group=group(self.actor, said.get("group", "")),
            steps=[(share(step["percentage"]), step["wait_seconds"]) for step in said.get("schedule", ())],
            start=said.get("start_immediately", True),
            target=share(said.get("target_percentage", 100.0)),
            increment=share(said.get("increment_step", 10.0)),
            **{name: said[name] for name in LIMITS if name in said},
        )
        return Response(_one(rollout), status=201)


class AllRollouts(Door):
    """/rollouts"""

    @extend_schema(operation_id="rollouts_of_all_models", parameters=PAGE, responses=shapes.RolloutList)
    def get(self, request: Request) -> Response:
        """The rollouts of all models to your organization's devices, newest first."""
        rows: list[Rollout]
        rows, total = limit_offset(request, selectors.rollouts_of(self.actor))
        return Response({"rollouts": _shown(rows), "total": total})


class ActiveRollouts(Door):
    """/models/{model}/rollouts/active"""

    @extend_schema(operation_id="rollouts_active", responses=shapes.RolloutShape(many=True))
    def get(self, request: Request, model: str) -> Response:
        """What is on its way to your devices: a list of none or one."""
        found = selectors.rollouts_of(self.actor, selectors.find_model(self.actor, model))
        return Response(_shown(list(found.filter(state__in=ALIVE))))


class ModelRollback(Door):
    """/models/{model}/rollback"""

    @extend_schema(request=shapes.Back, responses={201: shapes.RolloutShape})
    def post(self, request: Request, model: str) -> Response:
        """Send all your devices back to `version`; without one, every device to what it had before the last rollout."""
        said = self.body(shapes.Back)
        found = selectors.find_model(self.actor, model)
        if version := said.get("version"):
            return Response(_one(rollouts.roll_back_to(self.actor, selectors.find_version(found, version))), status=201)
        last = selectors.rollouts_of(self.actor, found).first()
        if last is None:
            raise FedportalError("no_rollout", model=found.name)
        return Response(_one(rollouts.roll_back(self.actor, last, said.get("reason", ""))), status=201)


class OneRollout(Door):
    """/rollouts/{rollout}"""

    @extend_schema(responses=shapes.RolloutShape)
    def get(self, request: Request, rollout: str) -> Response:
        """A rollout: how many devices hold the version, and how it fares there."""
        return Response(_one(selectors.find_rollout(self.actor, rollout)))


class _Act(Door):
    """POST /rollouts/{rollout}/…: one act, the rollout in the answer."""

    act: Callable[[Actor, Rollout], Rollout]

    def post(self, request: Request, rollout: str) -> Response:
        return Response(_one(type(self).act(self.actor, selectors.find_rollout(self.actor, rollout))))


@extend_schema(request=None, responses=shapes.RolloutShape)
class Advance(_Act):
    """Go to the next step of the schedule, or one increment further; one that waits begins."""

    act = staticmethod(rollouts.advance)


@extend_schema(request=None, responses=shapes.RolloutShape)
class Pause(_Act):
    """Give the version to nobody new."""

    act = staticmethod(rollouts.pause)


@extend_schema(request=None, responses=shapes.RolloutShape)
class Resume(_Act):
    """Go on where it was paused."""

    act = staticmethod(rollouts.resume)


@extend_schema(request=None, responses=shapes.RolloutShape)
class Complete(_Act):
    """Nothing more is to come: devices keep what they have."""

    act = staticmethod(rollouts.complete)


class SetShare(Door):
    """/rollouts/{rollout}/set"""

    @extend_schema(request=shapes.Share, responses=shapes.RolloutShape)
    def post(self, request: Request, rollout: str) -> Response:
        """Widen it to this percentage of the devices."""
        found = selectors.find_rollout(self.actor, rollout)
        wanted = share(self.body(shapes.Share)["rollout_percentage"])
        return Response(_one(rollouts.set_share(self.actor, found, wanted)))


class RollBack(Door):
    """/rollouts/{rollout}/rollback"""

    @extend_schema(request=shapes.Back, responses=shapes.RolloutShape)
    def post(self, request: Request, rollout: str) -> Response:
        """Return every device to what it had before; once, however often it is asked for."""
        found = selectors.find_rollout(self.actor, rollout)
        return Response(_one(rollouts.roll_back(self.actor, found, self.body(shapes.Back).get("reason", ""))))


class Health(Door):
    """/devices/{device}/health"""

    authentication_classes = [DeviceAuthentication]
    permission_classes = [IsDevice]

    @extend_schema(request=shapes.Reports, responses=shapes.Taken)
    def post(self, request: Request, device: str) -> Response:
        """The device itself says how the versions fare that it holds. The same batch again counts once."""
        own: Device = self.actor
        if device not in (own.public_id, own.identifier):
            raise FedportalError("not_found", what="device")
        return Response({"new": health.take(own, self.body(shapes.Reports)["reports"])})


def _one(rollout: Rollout) -> Any:
    return _shown([rollout])[0]


def _shown(rows: list[Rollout]) -> Any:
    return shapes.RolloutShape(rows, many=True).data
