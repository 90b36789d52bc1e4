"""What goes out: letters, who wants them, webhooks and their deliveries."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from federations import models
from federations.admin.looking import Looking, LookingOnly, asked
from federations.services import letters, webhooks


@admin.register(models.Letter)
class LetterAdmin(Looking):
    secrets = ("text", "html", "news", "unsubscribe")  # they hold links that open doors
    ordering = ("-pk",)
    list_display = ("to", "subject", "created_at", "sent_at", "attempts", "next_attempt_at", "last_error")
    search_fields = ("to", "subject", "last_error", "organization__name")
    list_filter = (("sent_at", admin.EmptyFieldListFilter), "created_at")
    actions = ("send_now",)

    @asked(
        "Send letters again",
        consequence=(
            "The portal tries to send these letters at once, however long it would have waited. Letters that "
            "left are not sent twice."
        ),
        done="due now",
    )
    def send_now(self, request: HttpRequest, row: Any) -> None:
        letters.resend_by_staff(request.user, row)


@admin.register(models.News)
class NewsAdmin(LookingOnly):
    secrets = ("sentence", "address", "data")  # the organization's own
    ordering = ("-pk",)
    list_display = ("kind", "organization", "created_at", "spread_at")
    list_select_related = ("organization",)
    search_fields = ("kind", "organization__name", "organization__public_id")
    list_filter = ("kind", ("spread_at", admin.EmptyFieldListFilter), "created_at")


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
class DeliveryAdmin(Looking):
    secrets = ("payload",)  # the organization's own news
    ordering = ("-pk",)
    list_display = ("kind", "webhook", "organization", "created_at", "delivered_at", "attempts", "last_error")
    list_select_related = ("webhook", "organization")
    search_fields = ("public_id", "kind", "webhook__url", "organization__name", "last_error")
    list_filter = ("kind", ("delivered_at", admin.EmptyFieldListFilter), "created_at")
    actions = ("redeliver",)

    @asked(
        "Send deliveries again",
        consequence="The organization's receiver gets them once more, under their old ids, also those that arrived.",
        done="on their way again",
    )
    def redeliver(self, request: HttpRequest, row: Any) -> None:
        webhooks.redeliver_by_staff(request.user, row)
