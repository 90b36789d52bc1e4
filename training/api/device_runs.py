"""What a device may know of a run: how it stands. So it can leave when the run is over."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from federations.api.devices import IsDevice
from federations.authentication import DeviceAuthentication
from fedportal.common.api import Door
from fedwire.errors import FedportalError
from training.models import Run


class DeviceRunShape(serializers.Serializer[Any]):
    """A run as its devices see it."""

    id = serializers.CharField()
    state = serializers.CharField()
    current_round = serializers.IntegerField()
    total_rounds = serializers.IntegerField()
    result_version = serializers.CharField(allow_null=True)


class DeviceRun(Door):
    """/device/runs/{run}"""

    authentication_classes = [DeviceAuthentication]
    permission_classes = [IsDevice]

    @extend_schema(responses=DeviceRunShape)
    def get(self, request: Request, run: str) -> Response:
        """How a run stands that this device had a part in."""
        own = Run.objects.filter(public_id=run, rounds__assignments__device=self.actor)
        found = own.select_related("result_version").first()
        if found is None:
            raise FedportalError("not_found", what="run")
        version = found.result_version
        shown = {
            "id": found.public_id,
            "state": found.state,
            "current_round": found.current_round,
            "total_rounds": found.total_rounds,
            "result_version": version.version if version else None,
        }
        return Response(shown)
