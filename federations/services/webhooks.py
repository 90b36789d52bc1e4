"""Webhooks: addresses of an organization's own that are told what happens; `deliveries` says how.

Their secrets are derived from the portal's pepper and stored nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

from federations import permissions
from federations.models import Delivery, Organization, Person, Webhook
from federations.permissions import Actor
from federations.services import audit, deliveries, organizations, throttle
from fedportal.common import clock, outbound
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

MANAGE = "organization.manage_webhooks"
LIMIT = 20


def add(actor: Actor, organization: Organization, url: str, kinds: Sequence[str]) -> Webhook:
    """A webhook for news of these kinds; of all kinds when none is named. Its secret is `deliveries.secret_of`.

    Raises `forbidden`, `webhook_address`, `webhook_limit`.
    """
    permissions.require(actor, MANAGE, organization)
    _check_address(url)
    with unit():
        organizations.lock(organization)
        if organization.webhooks.count() >= LIMIT:
            raise FedportalError("webhook_limit", limit=LIMIT)
        webhook = Webhook.objects.create(
            organization=organization, url=url, kinds=sorted(set(kinds)), created_by=actor.person
        )
        audit.record(organization, actor, "webhook.added", webhook.public_id, kinds=webhook.kinds)
    return webhook


def renew(actor: Actor, webhook: Webhook) -> Webhook:
    """Give it another secret; the old one ends at once. Raises `forbidden`."""
    permissions.require(actor, MANAGE, webhook.organization)
    with unit():
        locked = deliveries.locked(webhook)
        locked.generation += 1
        locked.save(update_fields=["generation"])
        audit.record(webhook.organization, actor, "webhook.secret_renewed", webhook.public_id)
    webhook.refresh_from_db()
    return webhook


def test(actor: Actor, webhook: Webhook) -> Delivery:
    """Send something harmless now, also to a webhook that rests.

    Raises `forbidden`, `wrong_state`, `too_many_tries`.
    """
    permissions.require(actor, MANAGE, webhook.organization)
    throttle.before_hook(webhook.organization.public_id)
    deliveries.check_enabled(webhook)
    with unit():
        audit.record(webhook.organization, actor, "webhook.tested", webhook.public_id)
        sentence = "This is a test delivery; nothing happened."
        return deliveries.write_to(webhook, deliveries.TEST, sentence, f"/webhooks/{webhook.public_id}", {})


def redeliver(actor: Actor, delivery: Delivery) -> Delivery:
    """Send a delivery again, under its old id. Raises `forbidden`, `wrong_state`, `too_many_tries`."""
    permissions.require(actor, MANAGE, delivery.organization)
    throttle.before_hook(delivery.organization.public_id)
    with unit():
        deliveries.again(delivery)
        audit.record(delivery.organization, actor, "webhook.redelivered", delivery.public_id)
    delivery.refresh_from_db()
    return delivery


def redeliver_by_staff(by: Person, delivery: Delivery) -> None:
    """The same by the portal's operator. Raises `forbidden`, `wrong_state`."""
    permissions.require_staff(by)
    with unit():
        deliveries.again(delivery)
        audit.record(delivery.organization, by, "webhook.redelivered", delivery.public_id)


def disable(actor: Actor, webhook: Webhook) -> Webhook:
    """Send it nothing until it is enabled again; what happens meanwhile is not kept for it. Raises `forbidden`."""
    return _switch(actor, webhook, off=True)


def enable(actor: Actor, webhook: Webhook) -> Webhook:
    """Send it what happens from now on. Raises `forbidden`."""
    return _switch(actor, webhook, off=False)


def remove(actor: Actor, webhook: Webhook) -> None:
    """Take it away with its deliveries. Raises `forbidden`, and `not_found` when somebody else just did."""
    permissions.require(actor, MANAGE, webhook.organization)
    with unit():
        locked = deliveries.locked(webhook)
        # Before the deletion, which waits for whoever tells the webhook something and may hold the log by then.
        audit.record(webhook.organization, actor, "webhook.removed", webhook.public_id)
        locked.delete()


def _switch(actor: Actor, webhook: Webhook, *, off: bool) -> Webhook:
    permissions.require(actor, MANAGE, webhook.organization)
    with unit():
        locked = deliveries.locked(webhook)
        if bool(locked.disabled_at) != off:
            locked.disabled_at = clock.now() if off else None
            locked.failures, locked.failing_since = 0, None
            locked.save(update_fields=["disabled_at", "failures", "failing_since"])
            if not off:
                Delivery.objects.filter(webhook=webhook, delivered_at=None).update(next_attempt_at=clock.now())
            action = "webhook.disabled" if off else "webhook.enabled"
            audit.record(webhook.organization, actor, action, webhook.public_id)
    webhook.refresh_from_db()
    return webhook


def _check_address(url: str) -> None:
    try:
        outbound.parse(url)
    except outbound.Refused as error:
        raise FedportalError("webhook_address", url=url[:100], reason=str(error)) from error
