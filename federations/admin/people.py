"""Organizations, the people in them, their keys, and who tried too often."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from federations import models
from federations.admin.looking import Looking, LookingOnly, asked
from federations.services import keys, organizations, people, second_factor


@admin.register(models.Organization)
class OrganizationAdmin(Looking):
    list_display = ("name", "public_id", "created_at", "suspended_at")
    search_fields = ("name", "public_id")
    list_filter = (("suspended_at", admin.EmptyFieldListFilter), "created_at")
    actions = ("suspend", "reinstate")

    @asked(
        "Suspend organizations",
        consequence=(
            "Their people, keys and devices are refused at once, and their runs go on without them. Nothing "
            "is deleted; reinstating brings all of it back."
        ),
        done="suspended",
    )
    def suspend(self, request: HttpRequest, row: Any) -> None:
        organizations.suspend(request.user, row)

    @asked(
        "Reinstate organizations",
        consequence="Their people, keys and devices are let in again.",
        done="reinstated",
    )
    def reinstate(self, request: HttpRequest, row: Any) -> None:
        organizations.reinstate(request.user, row)


@admin.register(models.Person)
class PersonAdmin(Looking):
    secrets = ("password",)
    list_display = ("email", "name", "public_id", "is_active", "is_staff", "last_login", "created_at")
    search_fields = ("email", "name", "public_id")
    list_filter = ("is_active", "is_staff", "is_superuser", "created_at")
    actions = ("deactivate", "activate", "turn_second_factor_off")

    @asked(
        "Deactivate people",
        consequence=(
            "They are signed out, and their API keys are refused, at once. Their organizations, and what "
            "they made, stay."
        ),
        done="deactivated",
    )
    def deactivate(self, request: HttpRequest, row: Any) -> None:
        people.set_active(request.user, row, False)

    @asked(
        "Activate people",
        consequence="They may sign in again, and their API keys work again.",
        done="activated",
    )
    def activate(self, request: HttpRequest, row: Any) -> None:
        people.set_active(request.user, row, True)

    @asked(
        "Turn the second factor off",
        consequence=(
            "Their password alone opens their account, and a letter tells them so. Only for people who lost "
            "authenticator and recovery codes, and whom you know to be who they say."
        ),
        done="without a second factor",
    )
    def turn_second_factor_off(self, request: HttpRequest, row: Any) -> None:
        second_factor.turn_off_by_staff(request.user, row)


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

    @asked(
        "Revoke API keys",
        consequence=(
            "Programs that use them are refused at once and for good. Devices that registered with them keep "
            "their own keys."
        ),
        done="revoked",
    )
    def revoke(self, request: HttpRequest, row: Any) -> None:
        keys.revoke_by_staff(request.user, row)


@admin.register(models.Tries)
class TriesAdmin(LookingOnly):
    list_display = ("subject", "keep_until")
    search_fields = ("subject",)
    list_filter = ("keep_until",)
