"""Devices: their registration, their signs of life, and what their organization does with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from federations import selectors
from federations.api import shapes
from federations.api.parts import PAGE, check_organization
from federations.authentication import DeviceAuthentication
from federations.models import Device
from federations.permissions import Actor
from federations.services import devices
from fedportal.common import clock
from fedportal.common.api import Door, limit_offset
from fedwire.errors import FedportalError

FILTERS = [OpenApiParameter(name, OpenApiTypes.STR) for name in ("group", "status")]


class Devices(Door):
    """/devices"""

    @extend_schema(operation_id="devices_list", parameters=[*FILTERS, *PAGE], responses=shapes.DeviceList)
    def get(self, request: Request) -> Response:
        """The devices of your organization."""
        states = list(filter(None, request.query_params.get("status", "").split(",")))
        found = selectors.devices(self.actor, group=request.query_params.get("group", ""), states=states)
        rows: list[Device]
        rows, total = limit_offset(request, found)
        context = {"present": selectors.is_present}
        return Response(shapes.DeviceList({"devices": rows, "total": total}, context=context).data)


class Register(Door):
    """/devices/register"""

    @extend_schema(request=shapes.RegistrationShape, responses={201: shapes.RegisteredShape})
    def post(self, request: Request) -> Response:
        """Register a device, or give a registered one a fresh key. Needs an API key with `devices:enroll`."""
        actor: Actor = self.actor
        if actor.key is None:
            who = "A device registers with an API key that has the scope devices:enroll."
            raise FedportalError("forbidden", action="register a device from a browser session", who=who)
        said = self.body(shapes.RegistrationShape)
        check_organization(actor, said.pop("org_id", None))
        return Response(dict(devices.register(actor.key, said)), status=201)


class OneDevice(Door):
    """/devices/{device}"""

    @extend_schema(responses=shapes.DeviceShape)
    def get(self, request: Request, device: str) -> Response:
        """A device, by id or identifier."""
        return Response(_device(selectors.find_device(self.actor, device)))


class _Act(Door):
    """POST /devices/{device}/…: one act, the device in the answer."""

    act: Callable[[Actor, Device], Device]

    def post(self, request: Request, device: str) -> Response:
        return Response(_device(type(self).act(self.actor, selectors.find_device(self.actor, device))))


@extend_schema(request=None, responses=shapes.DeviceShape)
class Revoke(_Act):
    """Lock the device out at once and for good."""

    act = staticmethod(devices.revoke)


@extend_schema(request=None, responses=shapes.DeviceShape)
class Retire(_Act):
    """The device has done its service."""

    act = staticmethod(devices.retire)


@extend_schema(request=None, responses=shapes.DeviceShape)
class Reset(_Act):
    """Let its identifier be registered with another key pair."""

    act = staticmethod(devices.reset)


@extend_schema(request=None, responses=shapes.DeviceShape)
class Renew(_Act):
    """End the device's keys, so that it has to get a fresh one."""

    act = staticmethod(devices.renew)


@extend_schema(request=None, responses=shapes.DeviceShape)
class Quarantine(_Act):
    """Give the device no more work until it is restored."""

    act = staticmethod(devices.quarantine)


@extend_schema(request=None, responses=shapes.DeviceShape)
class Restore(_Act):
    """Let a quarantined device work again."""

    act = staticmethod(devices.restore)


class Groups(Door):
    """/devices/{device}/groups"""

    @extend_schema(request=shapes.GroupsShape, responses=shapes.DeviceShape)
    def put(self, request: Request, device: str) -> Response:
        """Put the device into exactly these groups."""
        found = selectors.find_device(self.actor, device)
        devices.set_groups(self.actor, found, self.body(shapes.GroupsShape)["groups"])
        return Response(_device(selectors.find_device(self.actor, found.public_id)))


class Certificate(Door):
    """/devices/{device}/certificate"""

    @extend_schema(request=shapes.CertificateShape, responses=shapes.DeviceShape)
    def put(self, request: Request, device: str) -> Response:
        """Keep your organization's signature over the device's public key with the device."""
        found = selectors.find_device(self.actor, device)
        certificate = self.body(shapes.CertificateShape)["certificate"]
        return Response(_device(devices.set_certificate(self.actor, found, certificate)))


class IsDevice(BasePermission):
    """The key is a device's."""

    def has_permission(self, request: Request, view: Any) -> bool:
        return isinstance(request.auth, Device)


class Heartbeat(Door):
    """/devices/{device}/heartbeat"""

    authentication_classes = [DeviceAuthentication]
    permission_classes = [IsDevice]

    @extend_schema(request=shapes.HeartbeatShape, responses=shapes.AliveShape)
    def post(self, request: Request, device: str) -> Response:
        """The device itself says that it is there, and how it is."""
        own: Device = self.actor
        if device not in (own.public_id, own.identifier):
            raise FedportalError("not_found", what="device")
        devices.heartbeat(own, self.body(shapes.HeartbeatShape))
        answer = {"id": own.public_id, "status": str(own.state), "server_time": clock.now()}
        return Response(shapes.AliveShape(answer).data)


def _device(device: Device) -> dict[str, Any]:
    return dict(shapes.DeviceShape(device, context={"present": selectors.is_present}).data)
