"""Organizations, the people in them, their keys, and who tried too often."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from federations import models
from federations.admin.looking import Looking, LookingOnly, each
from federations.services import keys, organizations, people


@admin.register(models.Organization)
class OrganizationAdmin(Looking):
    list_display = ("name", "public_id", "created_at", "suspended_at")
    search_fields = ("name", "public_id")
    list_filter = (("suspended_at", admin.EmptyFieldListFilter), "created_at")
    actions = ("suspend", "reinstate")

    @admin.action(description="Suspend: keys, devices and people are refused at once", permissions=["change"])
    def suspend(self, request: HttpRequest, rows: QuerySet[models.Organization]) -> None:
        each(request, rows, lambda row: organizations.suspend(request.user, row), "suspended")

    @admin.action(description="Reinstate suspended organizations", permissions=["change"])
    def reinstate(self, request: HttpRequest, rows: QuerySet[models.Organization]) -> None:
        each(request, rows, lambda row: organizations.reinstate(request.user, row), "reinstated")


@admin.register(models.Person)
class PersonAdmin(Looking):
    secrets = ("password",)
    list_display = ("email", "name", "public_id", "is_active", "is_staff", "last_login", "created_at")
    search_fields = ("email", "name", "public_id")
    list_filter = ("is_active", "is_staff", "is_superuser", "created_at")
    actions = ("deactivate", "activate")

    @admin.action(description="Deactivate: sign-ins and keys are refused at once", permissions=["change"])
    def deactivate(self, request: HttpRequest, rows: QuerySet[models.Person]) -> None:
        each(request, rows, lambda row: people.set_active(request.user, row, False), "deactivated")

    @admin.action(description="Activate again", permissions=["change"])
    def activate(self, request: HttpRequest, rows: QuerySet[models.Person]) -> None:
        each(request, rows, lambda row: people.set_active(request.user, row, True), "activated")


@admin.register(models.Membership)
class MembershipAdmin(LookingOnly):
    list_display = ("organization", "person", "role", "created_at")
    list_select_related = ("organization", "person")
    search_fields = ("organization__name", "organization__public_id", "person__email")
    list_filter = ("role",)


@admin.register(models.ApiKey)
class ApiKeyAdmin(Looking):
    secrets = ("secret_hash",)
    list_display = ("name", "lookup", "organization", "person", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("organization", "person")
    search_fields = ("name", "lookup", "public_id", "organization__name", "person__email")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "created_at", "last_used_at")
    actions = ("revoke",)

    @admin.action(description="Revoke keys", permissions=["change"])
    def revoke(self, request: HttpRequest, rows: QuerySet[models.ApiKey]) -> None:
        each(request, rows, lambda row: keys.revoke_by_staff(request.user, row), "revoked")


@admin.register(models.Tries)
class TriesAdmin(LookingOnly):
    list_display = ("subject", "keep_until")
    search_fields = ("subject",)
    list_filter = ("keep_until",)
