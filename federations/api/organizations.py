"""Who am I, my colleagues, my keys, what was done."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from federations import log_book, permissions, selectors
from federations.api import shapes
from federations.api.parts import PAGE
from federations.models import ApiKey, AuditEntry, Membership, Role
from federations.services import invitations, keys, organizations, policies
from fedportal.common.api import Door, limit_offset


class Whoami(Door):
    """/whoami"""

    @extend_schema(responses=shapes.WhoamiShape)
    def get(self, request: Request) -> Response:
        """Who you are for the portal."""
        own = list(selectors.memberships_of(self.actor))
        acting = next((m for m in own if m.organization == self.actor.organization), None)
        answer = {"person": self.actor.person, "organization": acting, "organizations": own, "key": self.actor.key}
        return Response(shapes.WhoamiShape(answer).data)


class Team(Door):
    """/orgs/{org}/members"""

    @extend_schema(parameters=PAGE, responses=shapes.TeamShape)
    def get(self, request: Request, org: str) -> Response:
        """The people of your organization and their roles."""
        organization = selectors.find_organization(self.actor, org)
        permissions.require(self.actor, "organization.view", organization)
        rows: list[Membership]
        rows, total = limit_offset(request, selectors.people(organization))
        invited = selectors.open_invitations(organization)[:200]
        if not permissions.can(self.actor, "organization.manage_people", organization):
            invited = []
        return Response(shapes.TeamShape({"members": rows, "invitations": invited, "total": total}).data)

    @extend_schema(request=shapes.NewColleague, responses={201: shapes.WrittenShape})
    def post(self, request: Request, org: str) -> Response:
        """Invite a colleague; they get a letter with a link."""
        organization = selectors.find_organization(self.actor, org)
        said = self.body(shapes.NewColleague)
        written = invitations.invite_colleague(self.actor, organization, email=said["email"], role=Role(said["role"]))
        return Response(written_json(written), status=201)


class Colleague(Door):
    """/orgs/{org}/members/{person}"""

    @extend_schema(request=shapes.RoleChange, responses=shapes.ColleagueShape)
    def patch(self, request: Request, org: str, person: str) -> Response:
        """Give a person another role."""
        organization = selectors.find_organization(self.actor, org)
        membership = selectors.find_membership(organization, person)
        role = Role(self.body(shapes.RoleChange)["role"])
        return Response(shapes.ColleagueShape(organizations.set_role(self.actor, membership, role)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, org: str, person: str) -> Response:
        """Let a person go, or leave yourself; their keys end."""
        organization = selectors.find_organization(self.actor, org)
        organizations.remove(self.actor, selectors.find_membership(organization, person))
        return Response(status=204)


class OrganizationPolicy(Door):
    """/orgs/{org}/policy"""

    @extend_schema(responses=shapes.PolicyShape)
    def get(self, request: Request, org: str) -> Response:
        """Your organization's policy: the limits that bind every run its devices are asked to join."""
        organization = selectors.find_organization(self.actor, org)
        permissions.require(self.actor, "organization.view", organization)
        return Response(shapes.PolicyShape(policies.of(organization)).data)

    @extend_schema(request=shapes.PolicyChange, responses=shapes.PolicyShape)
    def patch(self, request: Request, org: str) -> Response:
        """Set the limits that are sent; the others stay. null takes a budget or a lifetime away."""
        organization = selectors.find_organization(self.actor, org)
        limits = self.body(shapes.PolicyChange)
        return Response(shapes.PolicyShape(policies.change(self.actor, organization, **limits)).data)


class AuditLog(Door):
    """/orgs/{org}/audit"""

    @extend_schema(parameters=PAGE, responses=shapes.AuditList)
    def get(self, request: Request, org: str) -> Response:
        """Your organization's audit log, newest first; filtered by who, action, subject, since, until and text."""
        organization = selectors.find_organization(self.actor, org)
        permissions.require(self.actor, "organization.view_audit", organization)
        rows: list[AuditEntry]
        rows, total = limit_offset(request, log_book.entries(organization, log_book.parse(request.query_params)))
        return Response(shapes.AuditList({"entries": rows, "total": total}).data)


class Keys(Door):
    """/api-keys"""

    @extend_schema(parameters=PAGE, responses=shapes.KeyList)
    def get(self, request: Request) -> Response:
        """Your keys; with the right to manage keys those of the whole organization."""
        rows: list[ApiKey]
        rows, total = limit_offset(request, selectors.keys(self.actor))
        return Response(shapes.KeyList({"keys": rows, "total": total}).data)

    @extend_schema(request=shapes.NewKey, responses={201: shapes.NewKeyShape})
    def post(self, request: Request) -> Response:
        """Make a key for yourself. Its text is shown this once."""
        key, text = keys.create(self.actor, **self.body(shapes.NewKey))
        return Response(shapes.NewKeyShape(key, context={"text": text}).data, status=201)


class KeyRevoke(Door):
    """/api-keys/{key}/revoke"""

    @extend_schema(request=None, responses=shapes.KeyShape)
    def post(self, request: Request, key: str) -> Response:
        """End a key at once."""
        return Response(shapes.KeyShape(keys.revoke(self.actor, selectors.find_key(self.actor, key))).data)


def written_json(written: invitations.Written) -> dict[str, object]:
    """A fresh invitation, with its link where it may be shown."""
    links = {written.invitation.pk: written.link_to_copy}
    return dict(shapes.WrittenShape(written.invitation, context={"links": links}).data)
