"""A federation's list of members by their own keys."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from federations import permissions, selectors
from federations.services import roots
from fedportal.common.api import Door, Text, Whole


class Proposal(serializers.Serializer[Any]):
    """POST /federations/{federation}/roots. All but `op` is hexadecimal."""

    op = Text(required=False, default="", max_length=8)  # add | rotate
    key = Text(required=False, default="", max_length=64)
    by_organization = Text(required=False, default="", max_length=128)


class EntryShape(serializers.Serializer[Any]):
    """A line of the list, see `fedwire.masking.roots.Entry`. `seq` is 0 while the owner has not signed it."""

    federation = serializers.CharField()
    seq = serializers.IntegerField()
    prev = serializers.CharField()
    op = serializers.CharField()
    organization = serializers.CharField()
    key = serializers.CharField()
    by_organization = serializers.CharField()
    by_owner = serializers.CharField()


class Placed(Proposal):
    """POST /federations/{federation}/roots/accept: what was proposed, with its place and the owner's signature."""

    seq = Whole(required=False, default=0, min_value=0, max_value=1_000_000)
    prev = Text(required=False, default="", max_length=64, allow_blank=True)
    organization = Text(required=False, default="", max_length=32)
    key = Text(required=False, default="", max_length=64, allow_blank=True)
    by_organization = Text(required=False, default="", max_length=128, allow_blank=True)
    by_owner = Text(required=False, default="", max_length=128)


class RootsShape(serializers.Serializer[Any]):
    """The list. `head`: the digest of its last line, which devices remember. `waiting`: what the owner did not sign."""

    federation = serializers.CharField()
    owner = serializers.CharField()
    head = serializers.CharField()
    entries = EntryShape(many=True)
    waiting = EntryShape(many=True)


class Roots(Door):
    """/federations/{federation}/roots"""

    @extend_schema(responses=RootsShape)
    def get(self, request: Request, federation: str) -> Response:
        """The members by their own keys, as they and the owner signed it."""
        found = selectors.find_federation(self.actor, federation)
        permissions.require(self.actor, "federation.view_roster", found)
        return Response(roots.shown(found))

    @extend_schema(request=Proposal, responses={201: RootsShape})
    def post(self, request: Request, federation: str) -> Response:
        """Ask for your organization's place in the list, or to change its key there."""
        found = selectors.find_own_place(self.actor, federation)
        roots.propose(self.actor, found, **self.body(Proposal))
        return Response(roots.shown(found), status=201)


class RootsAccept(Door):
    """/federations/{federation}/roots/accept"""

    @extend_schema(request=Placed, responses={201: RootsShape})
    def post(self, request: Request, federation: str) -> Response:
        """Put a line at the end of the list, signed with the owner's key."""
        found = selectors.find_federation(self.actor, federation)
        roots.accept(self.actor, found, **self.body(Placed))
        return Response(roots.shown(found), status=201)
