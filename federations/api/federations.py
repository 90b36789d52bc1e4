"""Federations, their members, their invitations."""

from __future__ import annotations

from functools import partial
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from federations import permissions, selectors
from federations.api import shapes
from federations.api.organizations import written_json
from federations.api.parts import PAGE, TOTAL, check_organization
from federations.models import Federation, Invitation, Member, Organization
from federations.permissions import Actor
from federations.services import federations, invitations
from fedportal.common.api import Door, limit_offset

FILTERS = [OpenApiParameter(name, OpenApiTypes.STR) for name in ("org_id", "name")]


class Federations(Door):
    """/federations"""

    @extend_schema(parameters=[*FILTERS, *PAGE], responses=shapes.FederationShape(many=True))
    def get(self, request: Request) -> Response:
        """The federations you own, are a member of, or are invited to."""
        check_organization(self.actor, request.query_params.get("org_id"))
        rows: list[Federation]
        rows, total = limit_offset(request, selectors.federations(self.actor, request.query_params.get("name", "")))
        answer = shapes.FederationShape(rows, many=True, context={"actor": self.actor}).data
        return Response(answer, headers={TOTAL: str(total)})

    @extend_schema(request=shapes.NewFederation, responses={201: shapes.FederationShape})
    def post(self, request: Request) -> Response:
        """Found a federation; your organization owns it."""
        said = self.body(shapes.NewFederation)
        check_organization(self.actor, said.pop("org_id", None))
        federation = federations.found(self.actor, **said)
        return Response(_federation(self.actor, federation), status=201)


class OneFederation(Door):
    """/federations/{federation}"""

    @extend_schema(responses=shapes.FederationShape)
    def get(self, request: Request, federation: str) -> Response:
        """A federation, by id or name."""
        return Response(_federation(self.actor, selectors.find_federation(self.actor, federation)))

    @extend_schema(request=shapes.FederationChange, responses=shapes.FederationShape)
    def patch(self, request: Request, federation: str) -> Response:
        """Change name, description, or whether members may start runs."""
        found = selectors.find_federation(self.actor, federation)
        changed = federations.change(self.actor, found, **self.body(shapes.FederationChange))
        return Response(_federation(self.actor, changed))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, federation: str) -> Response:
        """Dissolve the federation; models and past runs stay."""
        federations.dissolve(self.actor, selectors.find_federation(self.actor, federation))
        return Response(status=204)


class Invite(Door):
    """/federations/{federation}/invite"""

    @extend_schema(request=shapes.NewInvitations, responses={201: shapes.InvitedShape})
    def post(self, request: Request, federation: str) -> Response:
        """Invite organizations by id and people by email."""
        found = selectors.find_federation(self.actor, federation)
        done = federations.invite(self.actor, found, **self.body(shapes.NewInvitations))
        invited = [_invited_organization(member) for member in done.members]
        invited += [_invited_address(written) for written in done.letters]
        return Response(shapes.InvitedShape({"invited": invited}).data, status=201)


class Join(Door):
    """/federations/{federation}/join"""

    @extend_schema(request=shapes.Joining, responses=shapes.MemberShape)
    def post(self, request: Request, federation: str) -> Response:
        """Your organization, which is invited, joins, and accepts the study agreement if it names it."""
        accepted = self.body(shapes.Joining).get("accept_agreement") or ""
        return _answer(self, federation, partial(federations.join, accept_agreement=accepted))


class Decline(Door):
    """/federations/{federation}/decline"""

    @extend_schema(request=shapes.Answer, responses=shapes.MemberShape)
    def post(self, request: Request, federation: str) -> Response:
        """Your organization, which is invited, does not join."""
        return _answer(self, federation, federations.decline)


class Leave(Door):
    """/federations/{federation}/leave"""

    @extend_schema(request=shapes.Answer, responses=shapes.MemberShape)
    def post(self, request: Request, federation: str) -> Response:
        """Your organization leaves."""
        return _answer(self, federation, federations.leave)


class Members(Door):
    """/federations/{federation}/members"""

    @extend_schema(responses=shapes.PlaceShape(many=True))
    def get(self, request: Request, federation: str) -> Response:
        """The roster: who is in, who is invited, with devices and when they were last seen."""
        found = selectors.find_federation(self.actor, federation)
        permissions.require(self.actor, "federation.view_roster", found)
        letters = permissions.can(self.actor, "federation.invite", found)
        return Response(shapes.PlaceShape(selectors.roster(found, letters=letters), many=True).data)


class MemberSuspend(Door):
    """/federations/{federation}/members/{org}/suspend"""

    @extend_schema(request=None, responses=shapes.MemberShape)
    def post(self, request: Request, federation: str, org: str) -> Response:
        """Stop a member for a while."""
        return _manage(self, federation, org, federations.suspend)


class MemberReinstate(Door):
    """/federations/{federation}/members/{org}/reinstate"""

    @extend_schema(request=None, responses=shapes.MemberShape)
    def post(self, request: Request, federation: str, org: str) -> Response:
        """Let a suspended member go on."""
        return _manage(self, federation, org, federations.reinstate)


class MemberRemove(Door):
    """/federations/{federation}/members/{org}/remove"""

    @extend_schema(request=None, responses=shapes.MemberShape)
    def post(self, request: Request, federation: str, org: str) -> Response:
        """Send a member away, or take an invitation back."""
        return _manage(self, federation, org, federations.remove)


class Invitations(Door):
    """/federations/{federation}/invitations"""

    @extend_schema(parameters=PAGE, responses=shapes.InvitationShape(many=True))
    def get(self, request: Request, federation: str) -> Response:
        """The invitations by letter, newest first."""
        found = selectors.find_federation(self.actor, federation)
        permissions.require(self.actor, "federation.invite", found)
        rows: list[Invitation]
        rows, total = limit_offset(request, selectors.invitations(found))
        return Response(shapes.InvitationShape(rows, many=True).data, headers={TOTAL: str(total)})


class InvitationResend(Door):
    """/invitations/{invitation}/resend"""

    @extend_schema(request=None, responses=shapes.WrittenShape)
    def post(self, request: Request, invitation: str) -> Response:
        """Send a new letter with a new link; the old link ends."""
        found = selectors.find_invitation(self.actor, invitation)
        return Response(written_json(invitations.resend(self.actor, found)))


class InvitationRevoke(Door):
    """/invitations/{invitation}/revoke"""

    @extend_schema(request=None, responses=shapes.InvitationShape)
    def post(self, request: Request, invitation: str) -> Response:
        """Take an invitation back."""
        found = selectors.find_invitation(self.actor, invitation)
        return Response(shapes.InvitationShape(invitations.revoke(self.actor, found)).data)


def _federation(actor: Actor, federation: Federation) -> dict[str, Any]:
    selectors.annotate_own(actor, federation)
    return dict(shapes.FederationShape(federation, context={"actor": actor}).data)


def _answer(door: Door, reference: str, act: Any) -> Response:
    said = door.body(shapes.Answer)
    check_organization(door.actor, said.get("org_id"))
    member: Member = act(door.actor, selectors.find_own_place(door.actor, reference))
    return Response(shapes.MemberShape(member).data)


def _manage(door: Door, reference: str, org: str, act: Any) -> Response:
    federation = selectors.find_federation(door.actor, reference)
    permissions.require(door.actor, "federation.manage", federation)
    organization: Organization = selectors.find_member_organization(federation, org)
    return Response(shapes.MemberShape(act(door.actor, federation, organization)).data)


def _invited_organization(member: Member) -> dict[str, Any]:
    return {
        "org_id": member.organization.public_id,
        "name": member.organization.name,
        "status": str(member.state),
        "email": None,
        "invitation_id": None,
        "link": None,
    }


def _invited_address(written: invitations.Written) -> dict[str, Any]:
    return {
        "org_id": None,
        "name": written.invitation.email,
        "status": str(written.invitation.state),
        "email": written.invitation.email,
        "invitation_id": written.invitation.public_id,
        "link": written.link_to_copy,
    }
