"""The addresses of gates: what versions must pass before they go to devices. Parse, call one service, render."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from fedportal.common.api import Door
from registry import gate_reports, selectors, tasks
from registry.api import gate_shapes as shapes
from registry.models import ModelVersion
from registry.services import gates


class Gate(Door):
    """/models/{model}/gate"""

    @extend_schema(operation_id="gate_policy", responses=shapes.GatePolicyShape)
    def get(self, request: Request, model: str) -> Response:
        """The limits that versions of the model have to keep to before they go to devices."""
        return Response(shapes.GatePolicyShape(gates.policy_of(selectors.find_model(self.actor, model))).data)

    @extend_schema(operation_id="gate_set", request=shapes.NewLimits, responses=shapes.GatePolicyShape)
    def put(self, request: Request, model: str) -> Response:
        """Set exactly these limits; every version is judged anew. Without any limit there is no gate."""
        found = selectors.find_model(self.actor, model)
        return Response(shapes.GatePolicyShape(gates.set_policy(self.actor, found, **self.body(shapes.NewLimits))).data)


class VersionGate(Door):
    """/models/{model}/versions/{version}/gate"""

    @extend_schema(operation_id="gate_report", responses=shapes.GateReportShape)
    def get(self, request: Request, model: str, version: str) -> Response:
        """How the version stands with the gate of its model."""
        return self.report(self.version(model, version))

    @extend_schema(operation_id="gate_check", request=shapes.Again, responses=shapes.GateReportShape)
    def post(self, request: Request, model: str, version: str) -> Response:
        """Have it judged; pending in the answer means that a worker is at it. What is known stays as it is."""
        found = self.version(model, version)
        tasks.check_gate(self.actor, found, remeasure=self.body(shapes.Again).get("remeasure", False))
        return self.report(found)

    def version(self, model: str, version: str) -> ModelVersion:
        """The version that the address names."""
        return selectors.find_version(selectors.find_model(self.actor, model), version)

    def report(self, version: ModelVersion) -> Response:
        """The version's report as this actor may read it."""
        shown: Any = shapes.GateReportShape(gate_reports.shown(self.actor, version)).data
        return Response(shown)


class Override(VersionGate):
    """/models/{model}/versions/{version}/gate/override"""

    http_method_names = ["post", "options"]

    @extend_schema(operation_id="gate_override", request=shapes.Reason, responses=shapes.GateReportShape)
    def post(self, request: Request, model: str, version: str) -> Response:
        """Let this version, which did not pass, go to devices; it holds for the present limits and nothing else."""
        found = self.version(model, version)
        gates.override(self.actor, found, self.body(shapes.Reason)["reason"])
        return self.report(found)


class Withdrawal(VersionGate):
    """/models/{model}/versions/{version}/gate/override/withdraw"""

    http_method_names = ["post", "options"]

    @extend_schema(operation_id="gate_withdraw", request=None, responses=shapes.GateReportShape)
    def post(self, request: Request, model: str, version: str) -> Response:
        """Take that back. Devices that hold the version keep it; what is on its way is called back."""
        found = self.version(model, version)
        gates.withdraw(self.actor, found)
        return self.report(found)
