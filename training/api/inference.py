"""The addresses of federated inference: plans, what was released of them, and one's own organization's consent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from federations import permissions
from federations.permissions import Actor
from federations.selectors import find_federation
from fedportal.common.api import Door, Text, Truth, Whole, limit_offset
from fedwire import inference as wire
from fedwire.errors import FedportalError
from registry.selectors import find_model, find_version
from training import inferences
from training.api.audits import Number
from training.api.shapes import Reference
from training.models import InferencePlan
from training.services import consents, inference

ASKED = ("summary", "bins", "low", "high", "rows", "noise", "least_count")
BOUNDS = ("least_devices", "least_organizations", "seconds", "name")


class NewInference(serializers.Serializer[Any]):
    """POST /federations/{federation}/inference. Without `version` the latest; `seconds`: how long answers are awaited.
    `low` and `high` bound the scores of a histogram or a mean; `noise`: each device's σ over what one row changes."""

    model = Text()
    version = Text(required=False)
    name = Text(required=False, allow_blank=True, max_length=100)
    summary = serializers.ChoiceField(wire.SUMMARIES)
    bins = Whole(required=False)
    low = Number(required=False)
    high = Number(required=False)
    rows = serializers.ChoiceField(wire.ROWS, required=False)
    noise = Number(required=False)
    least_count = Whole(required=False, help_text="Cells of fewer rows are not shown (10).")
    least_devices = Whole(required=False, help_text="Nothing is shown of fewer answers (3).")
    least_organizations = Whole(required=False, help_text="Nothing is shown of fewer organizations (3).")
    seconds = Whole(required=False)
    start_immediately = Truth(required=False)


class NewInferenceConsent(serializers.Serializer[Any]):
    """PUT …/consent. What is left out is as it is by default: every summary, cells of 10 rows, no noise, 10 plans."""

    summaries = serializers.ListField(child=Text(), required=False, max_length=10)
    least_count = Whole(required=False)
    least_noise = Number(required=False)
    plans_a_month = Whole(required=False, help_text="Plans in 30 days; with a privacy budget, of those without noise.")


class InferenceConsentShape(serializers.Serializer[Any]):
    """One's own organization's consent; without one only `given`, which is false."""

    given = serializers.BooleanField()
    summaries = serializers.ListField(child=serializers.CharField(), required=False)
    least_count = serializers.IntegerField(required=False)
    least_noise = serializers.FloatField(required=False)
    plans_a_month = serializers.IntegerField(required=False)
    given_at = serializers.DateTimeField(required=False)


class InferenceShape(serializers.Serializer[Any]):
    """A plan. `result` is null until it is done: `cells` with null for those that are hidden, or `mean`, with `rows`,
    `devices`, `organizations`, `hidden` and the standard `deviation` of the noise."""

    id = serializers.CharField()
    name = serializers.CharField()
    federation = Reference()
    organization = Reference()
    model = Reference()
    version = serializers.CharField()
    features = serializers.ListField(
        child=serializers.CharField(), help_text="The model's columns, where it names any."
    )
    labels = serializers.ListField(child=serializers.CharField())
    asked = serializers.DictField()
    least_devices = serializers.IntegerField()
    least_organizations = serializers.IntegerField()
    epsilon = serializers.FloatField(allow_null=True, help_text="What it costs each organization, for one row.")
    delta = serializers.FloatField(allow_null=True)
    status = serializers.CharField()
    words = serializers.CharField()
    reason = serializers.CharField()
    devices = serializers.DictField(child=serializers.IntegerField(), help_text="State → how many devices.")
    left_out = serializers.DictField(child=serializers.CharField(), help_text="Member → why it is not asked.")
    result = serializers.DictField(allow_null=True)
    created_at = serializers.DateTimeField()
    deadline = serializers.DateTimeField(allow_null=True)
    ended_at = serializers.DateTimeField(allow_null=True)


class InferenceList(serializers.Serializer[Any]):
    plans = InferenceShape(many=True)
    total = serializers.IntegerField()


class Plans(Door):
    """/federations/{federation}/inference"""

    @extend_schema(operation_id="inference_list", responses=InferenceList)
    def get(self, request: Request, federation: str) -> Response:
        """The federation's plans of inference, newest first."""
        found: list[InferencePlan]
        rows = inferences.of_federation(self.actor, find_federation(self.actor, federation))
        found, total = limit_offset(request, rows)
        return Response({"plans": inferences.shown(found), "total": total})

    @extend_schema(request=NewInference, responses={201: InferenceShape})
    def post(self, request: Request, federation: str) -> Response:
        """Ask the devices of consenting members what a model says of their rows; only the summary comes back."""
        where = find_federation(self.actor, federation)
        permissions.require(self.actor, "federation.train", where)
        said = self.body(NewInference)
        model = find_model(self.actor, said["model"])
        made = inference.plan(
            self.actor,
            where,
            model,
            version=find_version(model, said.get("version") or "latest"),
            said={name: said[name] for name in ASKED if name in said},
            begin=said.get("start_immediately", True),
            **{name: said[name] for name in BOUNDS if name in said},
        )
        return Response(inferences.shown([made])[0], status=201)


class Consent(Door):
    """/federations/{federation}/inference/consent"""

    @extend_schema(responses=InferenceConsentShape)
    def get(self, request: Request, federation: str) -> Response:
        """Your organization's consent to this federation's plans."""
        found = find_federation(self.actor, federation)
        organization = self.actor.organization
        if organization is None:
            raise FedportalError("not_found", what="consent")
        return Response(inferences.consent_shown(consents.of(found, organization)))

    @extend_schema(request=NewInferenceConsent, responses=InferenceConsentShape)
    def put(self, request: Request, federation: str) -> Response:
        """Let this federation's plans run on your organization's devices, within these limits."""
        found = find_federation(self.actor, federation)
        return Response(inferences.consent_shown(consents.give(self.actor, found, **self.body(NewInferenceConsent))))

    @extend_schema(request=None, responses=InferenceConsentShape)
    def delete(self, request: Request, federation: str) -> Response:
        """Take it back, also of the plans that run."""
        inference.withdraw_consent(self.actor, find_federation(self.actor, federation))
        return Response({"given": False})


class OnePlan(Door):
    """/inference/{plan}"""

    @extend_schema(responses=InferenceShape)
    def get(self, request: Request, plan: str) -> Response:
        """A plan, and its summary once it is done."""
        return Response(inferences.shown([inferences.find_plan(self.actor, plan)])[0])


class _Act(Door):
    """POST /inference/{plan}/…: one act, the plan in the answer."""

    act: Callable[[Actor, InferencePlan], InferencePlan]

    def post(self, request: Request, plan: str) -> Response:
        found = type(self).act(self.actor, inferences.find_plan(self.actor, plan))
        return Response(inferences.shown([found])[0])


@extend_schema(request=None, responses=InferenceShape)
class Start(_Act):
    """Ask the devices of a plan that waits."""

    act = staticmethod(inference.start)


@extend_schema(request=None, responses=InferenceShape)
class Cancel(_Act):
    """Show nothing of it, and erase what devices answered."""

    act = staticmethod(inference.cancel)
