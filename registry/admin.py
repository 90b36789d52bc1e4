"""The registry in the operators' admin site. Files and what names them are read-only: a version never changes."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from registry.models import Artifact, Model, ModelVersion, Share, StagedUpload


class ReadOnly(admin.ModelAdmin):
    """Rows that services write: to be searched and read."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Model)
class ModelAdmin(admin.ModelAdmin):
    list_display = ["name", "organization", "framework", "use_case", "public_id", "created_at"]
    list_filter = ["framework", "use_case", "created_at"]
    list_select_related = ["organization"]
    search_fields = ["name", "description", "public_id", "organization__name", "organization__public_id"]
    readonly_fields = ["public_id", "organization", "name", "architecture", "created_at", "created_by"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A model without its grants would be nobody's.
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(ModelVersion)
class ModelVersionAdmin(ReadOnly):
    list_display = ["model", "version", "origin", "organization", "size", "digest", "created_at"]
    list_filter = ["origin", "created_at"]
    list_select_related = ["model", "organization"]
    search_fields = ["model__name", "version", "public_id", "blob", "digest", "source", "organization__name"]


@admin.register(Share)
class ShareAdmin(ReadOnly):
    list_display = ["model", "federation", "organization", "created_by", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["model", "federation", "organization", "created_by"]
    search_fields = ["model__name", "model__public_id", "federation__name", "federation__public_id"]


@admin.register(StagedUpload)
class StagedUploadAdmin(ReadOnly):
    list_display = ["public_id", "model", "person", "size", "complete", "pushed_as", "created_at"]
    list_filter = ["complete", "created_at"]
    list_select_related = ["model", "person", "pushed_as", "pushed_as__model"]
    search_fields = ["public_id", "sha256", "model__name", "person__email"]


@admin.register(Artifact)
class ArtifactAdmin(ReadOnly):
    list_display = ["version", "format", "state", "size", "reason", "created_at"]
    list_filter = ["format", "state", "created_at"]
    list_select_related = ["version", "version__model"]
    search_fields = ["version__model__name", "version__version", "blob", "reason"]
