"""Devices, their groups, keys and tasks."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from federations import models
from federations.admin.looking import Looking, LookingOnly, each
from federations.services import devices


@admin.register(models.Device)
class DeviceAdmin(Looking):
    list_display = ("identifier", "public_id", "organization", "state", "sdk_version", "last_seen_at")
    list_select_related = ("organization",)
    search_fields = ("identifier", "public_id", "organization__name", "public_key")
    list_filter = ("state", "sdk_version", "platform", "last_seen_at")
    actions = ("revoke",)

    @admin.action(description="Revoke: lock devices out at once and for good", permissions=["change"])
    def revoke(self, request: HttpRequest, rows: QuerySet[models.Device]) -> None:
        each(
            request,
            rows.select_related("organization"),
            lambda row: devices.revoke_by_staff(request.user, row),
            "revoked",
        )


@admin.register(models.DeviceGroup)
class DeviceGroupAdmin(LookingOnly):
    list_display = ("name", "organization")
    list_select_related = ("organization",)
    search_fields = ("name", "organization__name")


@admin.register(models.DeviceKey)
class DeviceKeyAdmin(LookingOnly):
    secrets = ("secret_hash", "nonce")
    list_display = ("lookup", "device", "organization", "created_at", "first_used_at", "expires_at", "revoked_at")
    list_select_related = ("device", "organization")
    search_fields = ("lookup", "device__identifier", "device__public_id", "organization__name")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "created_at")


@admin.register(models.DeviceTask)
class DeviceTaskAdmin(LookingOnly):
    secrets = ("update_header",)  # bytes, no secret: of no use on a page
    list_display = ("public_id", "kind", "state", "device", "organization", "subject", "created_at", "deadline")
    list_select_related = ("device", "organization")
    search_fields = ("public_id", "subject", "device__identifier", "device__public_id", "organization__name")
    list_filter = ("kind", "state", "created_at")
