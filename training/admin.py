"""Runs in the operators' admin site: every table searchable; a run can be stopped, a round rung for again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from federations.admin import Looking, LookingOnly, asked
from training import models
from training.services import healing, runs


@admin.register(models.Run)
class RunAdmin(Looking):
    list_display = (
        *("public_id", "state", "model", "federation", "organization", "created_at"),
        *("current_round", "total_rounds", "strategy"),
    )
    list_filter = ("state", "strategy", "created_at")
    list_select_related = ("model", "federation", "organization")
    search_fields = (
        *("public_id", "name", "model__name", "model__public_id", "federation__name", "organization__name", "group"),
    )
    actions = ("cancel", "go_on")

    @asked(
        "Cancel runs",
        consequence=(
            "The runs end as stopped and call off what is going on; no version is published. Their models so "
            "far are kept with them. This cannot be undone."
        ),
        done="cancelled",
    )
    def cancel(self, request: HttpRequest, row: Any) -> None:
        runs.stop_by_staff(request.user, row)

    @asked(
        "Let runs go on",
        consequence=(
            "A worker looks at each run and opens its next round, if that was not done. Nothing happens to a "
            "run that goes on."
        ),
        done="rung for",
    )
    def go_on(self, request: HttpRequest, row: Any) -> None:
        healing.go_on_by_staff(request.user, row)


@admin.register(models.Round)
class RoundAdmin(Looking):
    list_display = ("run", "number", "state", "attempt", "kind", "opened_at", "deadline", "closed_at", "fence")
    list_filter = ("state", "kind", "opened_at")
    list_select_related = ("run", "run__model", "run__federation")
    search_fields = ("run__public_id", "run__model__name", "base_blob", "result_blob", "digest", "reason")
    actions = ("requeue",)

    @asked(
        "Requeue rounds",
        consequence=(
            "A worker looks at each round again. If another has claimed it, its claim is void: what it "
            "computed is thrown away and computed anew."
        ),
        done="requeued",
    )
    def requeue(self, request: HttpRequest, row: Any) -> None:
        healing.requeue_by_staff(request.user, row)


@admin.register(models.Assignment)
class AssignmentAdmin(LookingOnly):
    list_display = ("device", "state", "organization", "round", "reason", "offered_at", "changed_at")
    list_filter = ("state", "offered_at")
    list_select_related = ("device", "organization", "round", "round__run")
    search_fields = ("device__identifier", "device__public_id", "organization__name", "round__run__public_id")


@admin.register(models.Update)
class UpdateAdmin(LookingOnly):
    list_display = ("device", "organization", "round", "samples", "size", "norm", "blob", "received_at")
    list_filter = ("received_at",)
    list_select_related = ("device", "organization", "round", "round__run")
    search_fields = ("device__identifier", "device__public_id", "organization__name", "round__run__public_id", "blob")


@admin.register(models.RunEvent)
class RunEventAdmin(LookingOnly):
    list_display = ("run", "sequence", "kind", "at", "organization")
    list_filter = ("kind", "at")
    list_select_related = ("run", "run__model", "run__federation", "organization")
    search_fields = ("run__public_id", "run__model__name", "kind")


@admin.register(models.Pulse)
class PulseAdmin(LookingOnly):
    list_display = ("beat_at", "back_at", "down_seconds")
    search_fields = ("pk",)


@admin.register(models.LeakageAudit)
class LeakageAuditAdmin(LookingOnly):
    list_display = ("run", "organization", "own", "created_at")
    list_filter = ("own", "created_at")
    list_select_related = ("run", "run__model", "run__federation", "organization")
    search_fields = ("run__public_id", "organization__name")
