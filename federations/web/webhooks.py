"""Webhooks: the list, one of them with its deliveries, and what one does with them."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import permissions, selectors
from federations.models import Webhook
from federations.services import deliveries, webhooks
from federations.services.notifications import KINDS
from federations.web.page import confirm, one_page, own_organization, page
from fedwire import webhooks as wire
from fedwire.errors import FedportalError

# act → service, question, what will happen, button, what happened
ACTS = {
    "test": (
        webhooks.test,
        "Send a test delivery?",
        "The receiver gets a message of the kind “test”.",
        "Send it",
        "A test delivery is on its way; reload this page to see how it went.",
    ),
    "renew": (
        webhooks.renew,
        "Renew the secret?",
        "The old secret ends at once: deliveries fail until the receiver knows the new one, and are tried again.",
        "Renew it",
        "The secret is renewed. Copy the new one to the receiver now.",
    ),
    "disable": (
        webhooks.disable,
        "Disable this webhook?",
        "It is sent nothing. What happens until you enable it again is not sent later.",
        "Disable it",
        "The webhook is disabled.",
    ),
    "enable": (
        webhooks.enable,
        "Enable this webhook?",
        "It is sent what happens from now on, and what had not arrived before.",
        "Enable it",
        "The webhook is enabled. Send a test delivery to see whether it answers.",
    ),
    "remove": (
        webhooks.remove,
        "Remove this webhook?",
        "It is sent nothing any more, and its list of deliveries is gone.",
        "Remove it",
        "The webhook is removed.",
    ),
}


@page("GET", "POST")
def index(request: Any) -> HttpResponse:
    """The webhooks; POST adds one, whose secret is shown this once."""
    organization = own_organization(request)
    permissions.require(request.actor, webhooks.MANAGE, organization)
    said: dict[str, Any] = {"url": request.POST.get("url", "").strip(), "kinds": request.POST.getlist("kinds")}
    error = None
    if request.method == "POST":
        try:
            made = webhooks.add(request.actor, organization, said["url"], _kinds(request, said["kinds"]))
            request.session["fresh_webhook"] = made.public_id
            return redirect(_address(made))
        except FedportalError as refused:
            error = refused
    context = {
        "rows": one_page(request, selectors.webhooks(request.actor)),
        "kinds": KINDS.values(),
        "said": said,
        "error": error,
    }
    return render(request, "federations/webhooks.html", context, status=error.status if error else 200)


@page()
def one(request: Any, webhook: str) -> HttpResponse:
    """A webhook and what was sent to it lately."""
    found = selectors.find_webhook(request.actor, webhook)
    rows = one_page(request, selectors.deliveries(found))
    for row in rows:
        row.given_up = deliveries.is_given_up(row)
    fresh = request.session.pop("fresh_webhook", "") == found.public_id
    context = {
        "webhook": found,
        "rows": rows,
        "secret": deliveries.secret_of(found) if fresh else "",
        "kinds": [KINDS[kind].title for kind in found.kinds if kind in KINDS],
        "headers": (wire.DELIVERY, wire.TIMESTAMP, wire.SIGNATURE),
    }
    return render(request, "federations/webhook.html", context)


@page("GET", "POST")
def act(request: Any, webhook: str, act: str) -> HttpResponse:
    """Test, enable, disable or remove it, or renew its secret; asks first."""
    found = selectors.find_webhook(request.actor, webhook)
    if act not in ACTS:
        raise FedportalError("not_found", what="page")
    service, title, consequence, button, done = ACTS[act]
    if request.method == "GET":
        return confirm(request, title=title, consequence=consequence, button=button, back=_address(found))
    service(request.actor, found)
    if act == "renew":
        request.session["fresh_webhook"] = found.public_id
    messages.success(request, done)
    return redirect("/webhooks" if act == "remove" else _address(found))


@page("POST")
def redeliver(request: Any, webhook: str, delivery: str) -> HttpResponse:
    """Send a delivery again."""
    found = selectors.find_webhook(request.actor, webhook)
    webhooks.redeliver(request.actor, selectors.find_delivery(found, delivery))
    messages.success(request, "The delivery is on its way again; reload this page to see how it went.")
    return redirect(_address(found))


def _kinds(request: Any, chosen: list[str]) -> list[str]:
    """The chosen kinds; none when all are wanted. Raises `field_invalid`."""
    if request.POST.get("which") == "all":
        return []
    if not chosen or set(chosen) - set(KINDS):
        raise FedportalError("field_invalid", field="kinds", reason="choose at least one kind, or all.")
    return chosen


def _address(webhook: Webhook) -> str:
    return f"/webhooks/{webhook.public_id}"
