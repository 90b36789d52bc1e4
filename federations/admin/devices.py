"""Devices, their groups, keys and tasks."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from federations import models
from federations.admin.looking import Looking, LookingOnly, asked
from federations.services import devices


@admin.register(models.Device)
class DeviceAdmin(Looking):
    list_display = ("identifier", "public_id", "organization", "state", "sdk_version", "last_seen_at")
    list_select_related = ("organization",)
    search_fields = ("identifier", "public_id", "organization__name", "public_key")
    list_filter = ("state", "sdk_version", "platform", "last_seen_at")
    actions = ("revoke",)

    @asked(
        "Revoke devices",
        consequence=(
            "They are locked out at once and for good: running rounds go on without them, and their keys end."
        ),
        done="revoked",
    )
    def revoke(self, request: HttpRequest, row: Any) -> None:
        devices.revoke_by_staff(request.user, row)


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
