"""The operators' view: every table searchable, nothing edited behind the services' back, secrets never shown.

Rows change through actions that call the same services as everybody else and stand in the audit log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import Group
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from federations import models
from federations.services import devices, keys, letters, organizations, people
from fedwire.errors import FedportalError

admin.site.site_header = admin.site.site_title = "fedportal operations"
admin.site.index_title = "Tables"
# Groups are the roles of organizations and written by services only.
admin.site.unregister(Group)


class Looking(admin.ModelAdmin):
    """A table to look at. `secrets` are columns that no page shows."""

    secrets: tuple[str, ...] = ()
    list_per_page = 100
    show_full_result_count = False

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return [field.name for field in self.opts.fields if field.name not in self.secrets]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        return self.get_fields(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        # Needed for actions; every field of the form is read-only.
        return bool(super().has_change_permission(request, obj))

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        """Nothing: no field can be edited."""


class LookingOnly(Looking):
    """A table without any action."""

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def each(request: HttpRequest, rows: Iterable[Any], act: Callable[[Any], object], done: str) -> None:
    """`act` on each row; says how many went well and what was wrong with the others."""
    count = 0
    for row in rows:
        try:
            act(row)
            count += 1
        except FedportalError as error:
            messages.error(request, f"{row}: {error.message}")
    if count:
        messages.success(request, f"{count} {done}.")


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


@admin.register(models.AuditEntry)
class AuditEntryAdmin(LookingOnly):
    list_display = ("chain", "sequence", "at", "actor", "action", "subject")
    search_fields = ("chain", "actor", "action", "subject", "organization__name", "hash")
    list_filter = ("action", "at")


@admin.register(models.AuditChain)
class AuditChainAdmin(LookingOnly):
    list_display = ("name", "sequence", "hash")
    search_fields = ("name", "hash")


@admin.register(models.Letter)
class LetterAdmin(Looking):
    secrets = ("text", "html")  # they hold links that open doors
    list_display = ("to", "subject", "created_at", "sent_at", "attempts", "next_attempt_at", "last_error")
    search_fields = ("to", "subject", "last_error", "organization__name")
    list_filter = (("sent_at", admin.EmptyFieldListFilter), "created_at")
    actions = ("send_now",)

    @admin.action(description="Try to send unsent letters now", permissions=["change"])
    def send_now(self, request: HttpRequest, rows: QuerySet[models.Letter]) -> None:
        messages.success(request, f"{letters.hurry(rows)} letters are due now.")


@admin.register(models.Tries)
class TriesAdmin(LookingOnly):
    list_display = ("subject", "keep_until")
    search_fields = ("subject",)
    list_filter = ("keep_until",)


@admin.register(models.Agreement)
class AgreementAdmin(LookingOnly):
    list_display = ("title", "version", "federation", "organization", "published_at", "expires_at")
    list_select_related = ("federation", "organization")
    search_fields = ("title", "public_id", "federation__name", "organization__name", "digest")
    list_filter = ("published_at", "expires_at")


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


@admin.register(models.Choice)
class ChoiceAdmin(LookingOnly):
    list_display = ("person", "organization", "kind", "email")
    list_select_related = ("person", "organization")
    search_fields = ("person__email", "organization__name", "kind")
    list_filter = ("kind", "email")


@admin.register(models.Webhook)
class WebhookAdmin(LookingOnly):
    list_display = ("url", "public_id", "organization", "failures", "created_at", "disabled_at")
    list_select_related = ("organization",)
    search_fields = ("url", "public_id", "organization__name")
    list_filter = (("disabled_at", admin.EmptyFieldListFilter), "created_at")


@admin.register(models.Delivery)
class DeliveryAdmin(LookingOnly):
    secrets = ("payload",)  # the organization's own news
    list_display = ("kind", "webhook", "organization", "created_at", "delivered_at", "attempts", "last_error")
    list_select_related = ("webhook", "organization")
    search_fields = ("public_id", "kind", "webhook__url", "organization__name", "last_error")
    list_filter = ("kind", ("delivered_at", admin.EmptyFieldListFilter), "created_at")
