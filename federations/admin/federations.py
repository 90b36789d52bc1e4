"""Federations: who is in them, who is invited, what was agreed and what each organization allows."""

from __future__ import annotations

from django.contrib import admin

from federations import models
from federations.admin.looking import LookingOnly


@admin.register(models.Federation)
class FederationAdmin(LookingOnly):
    list_display = ("name", "public_id", "organization", "created_at", "dissolved_at")
    list_select_related = ("organization",)
    search_fields = ("name", "public_id", "organization__name")
    list_filter = (("dissolved_at", admin.EmptyFieldListFilter), "members_may_start_runs", "created_at")


@admin.register(models.Member)
class MemberAdmin(LookingOnly):
    list_display = ("federation", "organization", "state", "invited_at", "joined_at")
    list_select_related = ("federation", "organization")
    search_fields = ("federation__name", "federation__public_id", "organization__name", "organization__public_id")
    list_filter = ("state",)


@admin.register(models.Invitation)
class InvitationAdmin(LookingOnly):
    secrets = ("token_hash",)
    list_display = ("email", "kind", "organization", "federation", "state", "created_at", "expires_at")
    list_select_related = ("organization", "federation")
    search_fields = ("email", "public_id", "organization__name", "federation__name")
    list_filter = ("kind", "state", "created_at")


@admin.register(models.Agreement)
class AgreementAdmin(LookingOnly):
    list_display = ("title", "version", "federation", "organization", "published_at", "expires_at")
    list_select_related = ("federation", "organization")
    search_fields = ("title", "public_id", "federation__name", "organization__name", "digest")
    list_filter = ("published_at", "expires_at")


@admin.register(models.RootEntry)
class RootEntryAdmin(LookingOnly):
    list_display = ("federation", "seq", "op", "organization", "key", "made_at")
    list_select_related = ("federation", "organization")
    search_fields = ("federation__name", "federation__public_id", "organization__name", "key")
    list_filter = ("op", "made_at")


@admin.register(models.Acceptance)
class AcceptanceAdmin(LookingOnly):
    list_display = ("agreement", "organization", "person", "accepted_at")
    list_select_related = ("agreement", "organization", "person")
    search_fields = ("agreement__title", "organization__name", "person__email")
    list_filter = ("accepted_at",)


@admin.register(models.Policy)
class PolicyAdmin(LookingOnly):
    list_display = ("organization", "privacy_epsilon", "least_records", "least_devices", "residency", "changed_at")
    list_select_related = ("organization",)
    search_fields = ("organization__name", "organization__public_id", "residency")
    list_filter = ("auto_rollback", "changed_at")
