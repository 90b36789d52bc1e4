"""Study agreements of a federation."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from federations import permissions, selectors
from federations.api.parts import PAGE, TOTAL
from federations.models import Acceptance, Agreement, Federation
from federations.permissions import Actor
from federations.services import agreements
from federations.services.agreements import Draft
from fedportal.common.api import Door, Text, limit_offset


class NewAgreement(serializers.Serializer[Any]):
    """POST /federations/{federation}/agreements. Without `expires_at` it holds until the next one is published."""

    title = Text(max_length=agreements.MOST_TITLE)
    text = Text(max_length=agreements.MOST_TEXT, trim_whitespace=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class AcceptanceShape(serializers.Serializer[Acceptance]):
    """Who accepted, and when."""

    org_id = serializers.CharField(source="organization.public_id")
    name = serializers.CharField(source="organization.name")
    accepted_at = serializers.DateTimeField()


class AgreementShape(serializers.Serializer[Agreement]):
    """A version of the study agreement. `accepted_at`: when your organization accepted it; `accepted_by`: all that
    did, if you may see who is in the federation."""

    id = serializers.CharField(source="public_id")
    federation_id = serializers.CharField(source="federation.public_id")
    version = serializers.IntegerField()
    current = serializers.SerializerMethodField()
    title = serializers.CharField()
    text = serializers.CharField()
    sha256 = serializers.CharField(source="digest")
    published_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    expired = serializers.SerializerMethodField()
    accepted_at = serializers.SerializerMethodField()
    accepted_by = serializers.SerializerMethodField()

    def get_current(self, agreement: Agreement) -> bool:
        return bool(agreement.version == self.context["current"])

    def get_expired(self, agreement: Agreement) -> bool:
        return agreements.has_expired(agreement)

    def get_accepted_at(self, agreement: Agreement) -> str | None:
        own = self.context["actor"].organization
        return next((a.accepted_at.isoformat() for a in agreement.acceptances.all() if a.organization == own), None)

    def get_accepted_by(self, agreement: Agreement) -> list[dict[str, Any]] | None:
        if not self.context["sees_roster"]:
            return None
        return list(AcceptanceShape(agreement.acceptances.all(), many=True).data)


class Agreements(Door):
    """/federations/{federation}/agreements"""

    @extend_schema(parameters=PAGE, responses=AgreementShape(many=True))
    def get(self, request: Request, federation: str) -> Response:
        """The versions of the study agreement, the current one first."""
        found = selectors.find_federation(self.actor, federation)
        rows: list[Agreement]
        rows, total = limit_offset(request, selectors.agreements(found))
        return Response(_shown(self.actor, found, rows), headers={TOTAL: str(total)})

    @extend_schema(request=NewAgreement, responses={201: AgreementShape})
    def post(self, request: Request, federation: str) -> Response:
        """Publish a version; your organization thereby accepts it, the members are asked to."""
        found = selectors.find_federation(self.actor, federation)
        made = agreements.publish(self.actor, found, Draft(**self.body(NewAgreement)))
        return Response(_shown(self.actor, found, [made])[0], status=201)


class AgreementAccept(Door):
    """/federations/{federation}/agreements/{agreement}/accept"""

    @extend_schema(request=None, responses=AgreementShape)
    def post(self, request: Request, federation: str, agreement: str) -> Response:
        """Your organization, a member, accepts the current version."""
        found = selectors.find_own_place(self.actor, federation)
        version = agreements.find(found, agreement)
        agreements.accept(self.actor, version)
        return Response(_shown(self.actor, found, [selectors.agreements(found).get(pk=version.pk)])[0])


def _shown(actor: Actor, federation: Federation, rows: list[Agreement]) -> list[dict[str, Any]]:
    holds = agreements.current(federation)
    context = {
        "actor": actor,
        "current": holds.version if holds else None,
        "sees_roster": permissions.can(actor, "federation.view_roster", federation),
    }
    return list(AgreementShape(rows, many=True, context=context).data)
