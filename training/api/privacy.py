"""The addresses of an organization's privacy budget and of a run's privacy label."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from federations import permissions
from federations.selectors import find_organization
from fedportal.common.api import Door, limit_offset
from training import selectors, spending
from training.api.shapes import Reference
from training.models import Run
from training.services import labelling

PAGE = [
    OpenApiParameter("limit", OpenApiTypes.INT, description="At most this many runs (50, at most 200)."),
    OpenApiParameter("offset", OpenApiTypes.INT, description="Leave out this many."),
]


class FederationSpending(serializers.Serializer[Any]):
    """What was charged in one federation, as if it were all: these do not add up."""

    federation = Reference()
    rounds = serializers.IntegerField()
    epsilon = serializers.FloatField()
    unit = serializers.CharField()


class RunSpending(serializers.Serializer[Any]):
    """What one run cost. `rounds_left`: how many more of its rounds the budget is enough for; null without a limit."""

    run = Reference()
    model = Reference()
    federation = Reference()
    state = serializers.CharField()
    word = serializers.CharField()
    unit = serializers.CharField()
    noise = serializers.FloatField(help_text="σ over the clip.")
    delta = serializers.FloatField(help_text="For which the run states its ε.")
    epsilon = serializers.FloatField(allow_null=True, help_text="Of its charged rounds alone, tight.")
    charged = serializers.IntegerField()
    reserved = serializers.IntegerField()
    refunded = serializers.IntegerField()
    rounds_left = serializers.IntegerField(allow_null=True)
    needed = serializers.IntegerField(allow_null=True, help_text="How many rounds the run has yet to open.")


class BudgetShape(serializers.Serializer[Any]):
    """An organization's privacy budget over all runs of all federations. Without a limit `epsilon` is null."""

    organization = Reference()
    epsilon = serializers.FloatField(allow_null=True)
    delta = serializers.FloatField()
    unit = serializers.CharField(help_text="Whose presence ε is about: device or record.")
    adjacency = serializers.CharField()
    sampling = serializers.CharField()
    accountant = serializers.CharField()
    spent = serializers.FloatField()
    reserved = serializers.FloatField(help_text="What open rounds add to it.")
    left = serializers.FloatField(allow_null=True)
    used = serializers.FloatField(allow_null=True, help_text="Spent and reserved, from 0 to 1.")
    federations = FederationSpending(many=True)
    runs = RunSpending(many=True)
    total = serializers.IntegerField()


class OrganizationSpending(serializers.Serializer[Any]):
    """What the rounds of a run amount to for one organization, open ones too."""

    organization = Reference()
    rounds = serializers.IntegerField()
    epsilon = serializers.FloatField(allow_null=True)
    delta = serializers.FloatField()
    unit = serializers.CharField()
    adjacency = serializers.CharField()
    sampling = serializers.CharField()
    accountant = serializers.CharField()


class SumsShape(serializers.Serializer[Any]):
    """Whether the portal sees updates by themselves. `hidden` of `updates` it never did."""

    setting = serializers.CharField(help_text="plain, secure or grouped.")
    sees = serializers.CharField(help_text="each update, some updates, sums only or nothing yet.")
    updates = serializers.IntegerField()
    hidden = serializers.IntegerField()
    coverage = serializers.FloatField(allow_null=True)
    certified = serializers.BooleanField(help_text="Whether organizations certified the keys behind it.")
    sentence = serializers.CharField()


class NoiseShape(serializers.Serializer[Any]):
    """The noise, and the largest ε of any organization. Without a claim it is null, with all that belongs to it."""

    mechanism = serializers.CharField()
    by = serializers.CharField()
    noise = serializers.FloatField(allow_null=True)
    clip = serializers.FloatField(allow_null=True)
    towards = serializers.ListField(child=serializers.CharField())
    epsilon = serializers.FloatField(allow_null=True)
    delta = serializers.FloatField(allow_null=True)
    unit = serializers.CharField(allow_null=True)
    adjacency = serializers.CharField(allow_null=True)
    sampling = serializers.CharField(allow_null=True)
    accountant = serializers.CharField(allow_null=True)
    sentence = serializers.CharField()


class LabelShape(serializers.Serializer[Any]):
    """What is protected from whom in a run, by what happened so far."""

    sums = SumsShape()
    noise = NoiseShape()
    unprotected = serializers.ListField(child=serializers.CharField())
    sentences = serializers.ListField(child=serializers.CharField())
    organizations = OrganizationSpending(many=True)


class Budget(Door):
    """/orgs/{org}/budget"""

    @extend_schema(parameters=PAGE, responses=BudgetShape)
    def get(self, request: Request, org: str) -> Response:
        """Your organization's privacy budget: what was spent, on which runs, and how far the rest goes."""
        organization = find_organization(self.actor, org)
        permissions.require(self.actor, "organization.view", organization)
        found: list[Run]
        found, total = limit_offset(request, spending.runs(organization))
        return Response({**spending.of(organization), "runs": spending.told(organization, found), "total": total})


class Label(Door):
    """/training/sessions/{run}/label"""

    @extend_schema(responses=LabelShape)
    def get(self, request: Request, run: str) -> Response:
        """The run's privacy label: what is protected from whom, and what is not."""
        return Response(labelling.of(selectors.find_run(self.actor, run)))
