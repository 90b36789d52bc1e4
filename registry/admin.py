"""The registry in the operators' admin site, to be searched and read: models change through their owners only."""

from __future__ import annotations

from django.contrib import admin

from federations.admin import LookingOnly
from registry.models import (
    Artifact,
    Experiment,
    GateOverride,
    GatePolicy,
    GateReport,
    HealthReport,
    Installation,
    Model,
    ModelVersion,
    Participant,
    Rollout,
    Share,
    StagedUpload,
)


@admin.register(Model)
class ModelAdmin(LookingOnly):
    list_display = ("name", "organization", "framework", "use_case", "public_id", "created_at")
    list_filter = ("framework", "use_case", "created_at")
    list_select_related = ("organization",)
    search_fields = ("name", "description", "public_id", "organization__name", "organization__public_id")


@admin.register(ModelVersion)
class ModelVersionAdmin(LookingOnly):
    list_display = ["model", "version", "origin", "organization", "size", "digest", "created_at"]
    list_filter = ["origin", "created_at"]
    list_select_related = ["model", "organization"]
    search_fields = ["model__name", "version", "public_id", "blob", "digest", "source", "organization__name"]


@admin.register(Share)
class ShareAdmin(LookingOnly):
    list_display = ["model", "federation", "organization", "created_by", "created_at"]
    list_filter = ["created_at"]
    list_select_related = ["model", "federation", "organization", "created_by"]
    search_fields = ["model__name", "model__public_id", "federation__name", "federation__public_id"]


@admin.register(StagedUpload)
class StagedUploadAdmin(LookingOnly):
    list_display = ["public_id", "model", "person", "size", "complete", "pushed_as", "created_at"]
    list_filter = ["complete", "created_at"]
    list_select_related = ["model", "person", "pushed_as", "pushed_as__model"]
    search_fields = ["public_id", "sha256", "model__name", "person__email"]


@admin.register(Artifact)
class ArtifactAdmin(LookingOnly):
    list_display = ["version", "format", "state", "size", "reason", "created_at"]
    list_filter = ["format", "state", "created_at"]
    list_select_related = ["version", "version__model"]
    search_fields = ["version__model__name", "version__version", "blob", "reason"]


@admin.register(Rollout)
class RolloutAdmin(LookingOnly):
    list_display = ["public_id", "version", "organization", "share", "state", "reason", "created_at"]
    list_filter = ["state", "created_at"]
    list_select_related = ["version", "version__model", "organization"]
    search_fields = ["public_id", "model__name", "organization__name"]


@admin.register(Installation)
class InstallationAdmin(LookingOnly):
    list_display = ["device", "model", "wanted", "installed", "state", "error", "changed_at"]
    list_filter = ["state", "changed_at"]
    list_select_related = ["device", "model", "wanted", "wanted__model", "installed", "installed__model"]
    search_fields = ["device__identifier", "device__public_id", "model__name", "rollout__public_id"]


@admin.register(HealthReport)
class HealthReportAdmin(LookingOnly):
    list_display = ["device", "version", "count", "errors", "judged", "right", "at"]
    list_filter = ["at"]
    list_select_related = ["device", "version", "version__model"]
    search_fields = ["device__identifier", "batch", "rollout__public_id"]


@admin.register(Experiment)
class ExperimentAdmin(LookingOnly):
    list_display = ["public_id", "name", "model", "organization", "state", "winner", "created_at"]
    list_filter = ["state", "created_at"]
    list_select_related = ["model", "organization"]
    search_fields = ["public_id", "name", "model__name", "organization__name"]


@admin.register(Participant)
class ParticipantAdmin(LookingOnly):
    list_display = ["device", "experiment", "arm", "count", "errors", "judged", "right"]
    list_filter = ["arm"]
    list_select_related = ["device", "experiment", "experiment__organization"]
    search_fields = ["device__identifier", "experiment__public_id"]


@admin.register(GatePolicy)
class GatePolicyAdmin(LookingOnly):
    list_display = ["model", "organization", "revision", "metric", "changed_by", "changed_at"]
    list_filter = ["changed_at"]
    list_select_related = ["model", "organization", "changed_by"]
    search_fields = ["model__name", "model__public_id", "organization__name"]


@admin.register(GateReport)
class GateReportAdmin(LookingOnly):
    list_display = ["version", "revision", "state", "against", "organization", "judged_at"]
    list_filter = ["state", "judged_at"]
    list_select_related = ["version", "version__model", "against", "against__model", "organization"]
    search_fields = ["version__model__name", "version__version", "version__public_id", "organization__name"]


@admin.register(GateOverride)
class GateOverrideAdmin(LookingOnly):
    list_display = ["version", "revision", "reason", "by", "at", "withdrawn_at"]
    list_filter = ["at", "withdrawn_at"]
    list_select_related = ["version", "version__model", "by"]
    search_fields = ["version__model__name", "version__version", "version__public_id", "reason"]
