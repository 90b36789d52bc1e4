"""Webhooks of one's organization, and what they say as JSON."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from federations import selectors
from federations.api.parts import PAGE
from federations.models import Delivery, Webhook
from federations.services import deliveries, webhooks
from federations.services.notifications import KINDS
from fedportal.common.api import Door, Text, limit_offset
from fedwire.errors import FedportalError


class NewWebhook(serializers.Serializer[Any]):
    """POST /webhooks. Without `kinds`, or with none, it hears of everything."""

    url = Text(max_length=500)
    kinds = serializers.ListField(child=serializers.ChoiceField(list(KINDS)), required=False)


class WebhookShape(serializers.Serializer[Webhook]):
    """A webhook, without its secret."""

    id = serializers.CharField(source="public_id")
    url = serializers.CharField()
    kinds = serializers.ListField(child=serializers.CharField())
    enabled = serializers.SerializerMethodField()
    failures = serializers.IntegerField()
    created_at = serializers.DateTimeField()

    def get_enabled(self, webhook: Webhook) -> bool:
        return webhook.disabled_at is None


class SecretShape(WebhookShape):
    """A webhook with the secret that signs its deliveries; in this answer and in no other."""

    secret = serializers.SerializerMethodField()

    def get_secret(self, webhook: Webhook) -> str:
        return deliveries.secret_of(webhook)


class WebhookList(serializers.Serializer[Any]):
    webhooks = WebhookShape(many=True)
    total = serializers.IntegerField()


class DeliveryShape(serializers.Serializer[Delivery]):
    """A delivery and how it went."""

    id = serializers.CharField(source="public_id")
    kind = serializers.CharField()
    created_at = serializers.DateTimeField()
    delivered_at = serializers.DateTimeField(allow_null=True)
    attempts = serializers.IntegerField()
    next_attempt_at = serializers.DateTimeField()
    last_status = serializers.IntegerField(allow_null=True)
    last_error = serializers.CharField()


class DeliveryList(serializers.Serializer[Any]):
    deliveries = DeliveryShape(many=True)
    total = serializers.IntegerField()


class Webhooks(Door):
    """/webhooks"""

    @extend_schema(operation_id="webhooks_list", parameters=PAGE, responses=WebhookList)
    def get(self, request: Request) -> Response:
        """The webhooks of your organization."""
        rows: list[Webhook]
        rows, total = limit_offset(request, selectors.webhooks(self.actor))
        return Response(WebhookList({"webhooks": rows, "total": total}).data)

    @extend_schema(request=NewWebhook, responses={201: SecretShape})
    def post(self, request: Request) -> Response:
        """Add a webhook. Its secret is shown this once."""
        said = self.body(NewWebhook)
        if self.actor.organization is None:
            raise FedportalError("not_found", what="organization")
        made = webhooks.add(self.actor, self.actor.organization, said["url"], said.get("kinds", []))
        return Response(SecretShape(made).data, status=201)


class OneWebhook(Door):
    """/webhooks/{webhook}"""

    @extend_schema(responses=WebhookShape)
    def get(self, request: Request, webhook: str) -> Response:
        """One webhook."""
        return Response(WebhookShape(selectors.find_webhook(self.actor, webhook)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, webhook: str) -> Response:
        """Remove it with its deliveries."""
        webhooks.remove(self.actor, selectors.find_webhook(self.actor, webhook))
        return Response(status=204)


class WebhookTest(Door):
    """/webhooks/{webhook}/test"""

    @extend_schema(request=None, responses={202: DeliveryShape})
    def post(self, request: Request, webhook: str) -> Response:
        """Send a test delivery; look at the deliveries to see how it went."""
        sent = webhooks.test(self.actor, selectors.find_webhook(self.actor, webhook))
        return Response(DeliveryShape(sent).data, status=202)


class WebhookRenew(Door):
    """/webhooks/{webhook}/renew"""

    @extend_schema(request=None, responses=SecretShape)
    def post(self, request: Request, webhook: str) -> Response:
        """Another secret, shown this once; the old one ends at once."""
        return Response(SecretShape(webhooks.renew(self.actor, selectors.find_webhook(self.actor, webhook))).data)


class WebhookEnable(Door):
    """/webhooks/{webhook}/enable"""

    @extend_schema(request=None, responses=WebhookShape)
    def post(self, request: Request, webhook: str) -> Response:
        """Send it what happens from now on."""
        return Response(WebhookShape(webhooks.enable(self.actor, selectors.find_webhook(self.actor, webhook))).data)


class WebhookDisable(Door):
    """/webhooks/{webhook}/disable"""

    @extend_schema(request=None, responses=WebhookShape)
    def post(self, request: Request, webhook: str) -> Response:
        """Send it nothing until it is enabled again."""
        return Response(WebhookShape(webhooks.disable(self.actor, selectors.find_webhook(self.actor, webhook))).data)


class Deliveries(Door):
    """/webhooks/{webhook}/deliveries"""

    @extend_schema(parameters=PAGE, responses=DeliveryList)
    def get(self, request: Request, webhook: str) -> Response:
        """What was sent, newest first."""
        rows: list[Delivery]
        rows, total = limit_offset(request, selectors.deliveries(selectors.find_webhook(self.actor, webhook)))
        return Response(DeliveryList({"deliveries": rows, "total": total}).data)


class Redeliver(Door):
    """/webhooks/{webhook}/deliveries/{delivery}/redeliver"""

    @extend_schema(request=None, responses={202: DeliveryShape})
    def post(self, request: Request, webhook: str, delivery: str) -> Response:
        """Send a delivery again, under its old id."""
        found = selectors.find_delivery(selectors.find_webhook(self.actor, webhook), delivery)
        return Response(DeliveryShape(webhooks.redeliver(self.actor, found)).data, status=202)
