"""The description of the HTTP API, made once in a process: it is the same for all, and takes a third of a second."""

from __future__ import annotations

from functools import cache
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.views import SpectacularAPIView
from rest_framework.request import Request
from rest_framework.response import Response


class Description(SpectacularAPIView):
    """GET /api/schema"""

    def _get_schema_response(self, request: Request) -> Response:
        inline = f'inline; filename="{self._get_filename(request, None)}"'
        return Response(_described(), headers={"Content-Disposition": inline})


@cache
def _described() -> Any:
    return SchemaGenerator().get_schema(public=True)
