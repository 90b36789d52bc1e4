"""The files of a version: in which forms there are any, and links to them."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from fedportal.common.api import Door
from fedwire.formats import NAMES, SAFETENSORS
from registry import deliverables, selectors

FORM = OpenApiParameter("format", OpenApiTypes.STR, enum=sorted(NAMES), description="safetensors without it.")


class FileShape(serializers.Serializer[selectors.File]):
    """A form of a version. `state`: `ready`, `pending`, `failed`, or `unmade` while nobody asked for it."""

    format = serializers.CharField(source="form")
    state = serializers.SerializerMethodField()
    size = serializers.IntegerField(allow_null=True)
    sha256 = serializers.CharField(allow_null=True)
    reason = serializers.CharField(help_text="Why it could not be made.")

    def get_state(self, file: selectors.File) -> str:
        return file.state or "unmade"


class LinkShape(serializers.Serializer[deliverables.Link]):
    """Where to fetch the file without a key, until when, and what it must be."""

    url = serializers.CharField()
    format = serializers.CharField()
    version = serializers.CharField()
    sha256 = serializers.CharField()
    size = serializers.IntegerField()
    expires_at = serializers.DateTimeField()


class Files(Door):
    """/models/{model}/versions/{version}/formats"""

    @extend_schema(operation_id="versions_formats", responses=FileShape(many=True))
    def get(self, request: Request, model: str, version: str) -> Response:
        """The forms of a version: which are made, on their way, failed, or could be made."""
        found: list[Any] = deliverables.states(self.actor, model, version)
        return Response(FileShape(found, many=True).data)


class FileLink(Door):
    """/models/{model}/versions/{version}/download-url"""

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        """Always JSON: here `?format=` is the form of a model, not that of the answer."""
        renderer = self.get_renderers()[0]
        return renderer, renderer.media_type

    @extend_schema(
        operation_id="versions_download_url",
        parameters=[FORM],
        responses={200: LinkShape, 202: OpenApiResponse(description="It is being made (`format_pending`); ask again.")},
    )
    def get(self, request: Request, model: str, version: str) -> Response:
        """A link to the version's file in a form, good for a few minutes. A form that is not there is ordered."""
        form = request.query_params.get("format", SAFETENSORS)
        return Response(LinkShape(deliverables.link(self.actor, model, version, form)).data)
