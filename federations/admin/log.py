"""The audit log and the workers' signs of life, to be read only."""

from __future__ import annotations

from django.contrib import admin

from federations import models
from federations.admin.looking import LookingOnly


@admin.register(models.AuditEntry)
class AuditEntryAdmin(LookingOnly):
    list_display = ("chain", "sequence", "at", "actor", "action", "subject")
    search_fields = ("chain", "actor", "action", "subject", "organization__name", "hash")
    list_filter = ("action", "at")


@admin.register(models.AuditChain)
class AuditChainAdmin(LookingOnly):
    list_display = ("name", "sequence", "hash")
    search_fields = ("name", "hash")


@admin.register(models.Heartbeat)
class HeartbeatAdmin(LookingOnly):
    list_display = ("name", "at", "waited_seconds")
    search_fields = ("name",)
    list_filter = ("at",)
