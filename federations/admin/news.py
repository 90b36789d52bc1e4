"""What goes out: letters, who wants them, webhooks and their deliveries."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from federations import models
from federations.admin.looking import Looking, LookingOnly
from federations.services import letters


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
