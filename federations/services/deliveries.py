"""Deliveries: what webhooks are told, written when news are spread, sent after that commit, tried again.

A receiver that fails rests: all that waits for it waits until the next try, longer each time, so that one silent server
does not hold up the others'. After three days a delivery is given up; a receiver that only fails is switched off. Every
delivery is signed; see `fedwire.webhooks`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db.models import QuerySet

from federations.models import Delivery, News, Webhook
from federations.services import audit
from fedportal.common import clock, ids, outbound
from fedportal.common.transactions import unit
from fedwire import webhooks as wire
from fedwire.errors import FedportalError
from fedwire.version import VERSION

log = logging.getLogger(__name__)

TEST = "test"
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=3)
# A sender that was killed between claim and answer: another may try after this.
CLAIM = timedelta(minutes=2)
# A receiver that fails so often and so long is switched off.
OFF_FAILURES, OFF_AFTER = 20, timedelta(hours=24)
KEEP, FORGET_AT_ONCE = timedelta(days=30), 1000
BATCH = 50
_doorbells: list[Callable[[int], object]] = []
_on_switched_off: list[Callable[[Webhook], object]] = []


def secret_of(webhook: Webhook) -> str:
    """The secret with which deliveries are signed: derived from the portal's pepper, stored nowhere."""
    info = f"fedportal webhook\n{webhook.public_id}\n{webhook.generation}".encode()
    return "whs_" + HKDF(SHA256(), 32, None, info).derive(settings.FEDPORTAL_PEPPER.encode()).hex()


def write(news: News) -> None:
    """Write a delivery for each webhook of the organization that wants these news, inside the unit that spreads them.

    A webhook that was added after it happened does not hear of it.
    """
    for webhook in news.organization.webhooks.filter(disabled_at=None, created_at__lte=news.created_at):
        if not webhook.kinds or news.kind in webhook.kinds:
            write_to(webhook, news.kind, news.sentence, news.address, news.data, news.created_at)


def write_to(
    webhook: Webhook, kind: str, sentence: str, address: str, data: Mapping[str, Any], at: datetime | None = None
) -> Delivery:
    """Write a delivery for this webhook, inside a unit, and ring for it to be sent after the commit.

    `at` is when it happened, now by default.
    """
    now, public_id = clock.now(), ids.dlv_id()
    payload = {
        "id": public_id,
        "kind": kind,
        "at": (at or now).isoformat(),
        "organization": webhook.organization.public_id,
        "sentence": sentence,
        "address": settings.FEDPORTAL_PUBLIC_URL + address,
        "data": dict(data),
    }
    # What is written while the receiver rests waits with the rest; a test does not.
    rests = webhook.failures and kind != TEST
    last = Delivery.objects.filter(webhook=webhook, delivered_at=None).order_by("-next_attempt_at").first()
    delivery = Delivery.objects.create(
        public_id=public_id,
        organization=webhook.organization,
        webhook=webhook,
        kind=kind,
        payload=payload,
        created_at=now,
        tried_since=now,
        next_attempt_at=max(now, last.next_attempt_at) if rests and last else now,
    )
    _ring(delivery)
    return delivery


def on_delivery(bell: Callable[[int], object]) -> None:
    """Call `bell(delivery_pk)` when a delivery is written, inside its unit."""
    _doorbells.append(bell)


def on_switched_off(hear: Callable[[Webhook], object]) -> None:
    """Call `hear(webhook)` when a webhook is switched off because it failed too long, inside the unit."""
    _on_switched_off.append(hear)


def send_due() -> int:
    """Send what is due; how many arrived. A pass of the sweeper; runs safely in two processes at once."""
    arrived = 0
    for pk in _due().order_by("pk").values_list("pk", flat=True)[:BATCH]:
        arrived += send(pk)
    return arrived


def send(delivery_pk: int) -> bool:
    """Send this delivery if it is due and nobody else is at it. Whether it arrived; what fails is tried again."""
    delivery = _due().select_related("webhook__organization").filter(pk=delivery_pk).first()
    now = clock.now()
    # Asked of its own columns only: a database that waits for another's claim looks at those again.
    mine = Delivery.objects.filter(pk=delivery_pk, delivered_at=None, next_attempt_at__lte=now)
    if delivery is None or not mine.update(next_attempt_at=now + CLAIM):
        return False
    status, reason = _hand_over(delivery)
    with unit():
        webhook = Webhook.objects.select_for_update(no_key=True).filter(pk=delivery.webhook_id).first()
        if webhook is None:  # removed meanwhile, and its deliveries with it
            return not reason
        delivery.attempts += 1
        delivery.last_status, delivery.last_error = status, reason[:300]
        delivery.delivered_at = None if reason else clock.now()
        delivery.save(update_fields=["attempts", "last_status", "last_error", "delivered_at"])
        if reason:
            _let_rest(webhook, delivery)
        elif webhook.failures:
            webhook.failures, webhook.failing_since = 0, None
            webhook.save(update_fields=["failures", "failing_since"])
    return not reason


def again(delivery: Delivery) -> None:
    """Have the delivery sent again from the start, under its old id, inside a unit. Raises `wrong_state`."""
    check_enabled(delivery.webhook)
    now = clock.now()
    Delivery.objects.filter(pk=delivery.pk).update(
        delivered_at=None, attempts=0, tried_since=now, next_attempt_at=now, last_status=None, last_error=""
    )
    _ring(delivery)


def check_enabled(webhook: Webhook) -> None:
    """Raises `wrong_state` for a webhook that is switched off."""
    if webhook.disabled_at:
        raise FedportalError("wrong_state", what="The webhook", state="disabled", hint="Enable it first.")


def locked(webhook: Webhook) -> Webhook:
    """The webhook as it is now, locked until the unit ends. Raises `not_found` when it was removed meanwhile."""
    rows = Webhook.objects.select_for_update(no_key=True, of=("self",)).select_related("organization")
    found: Webhook | None = rows.filter(pk=webhook.pk).first()
    if found is None:
        raise FedportalError("not_found", what="webhook")
    return found


def forget_old() -> int:
    """Remove deliveries that are older than 30 days, so many at a time; how many. A pass of the sweeper."""
    old = Delivery.objects.filter(created_at__lt=clock.now() - KEEP).order_by("created_at")
    pks = list(old.values_list("pk", flat=True)[:FORGET_AT_ONCE])
    return Delivery.objects.filter(pk__in=pks).delete()[0] if pks else 0


def is_given_up(delivery: Delivery) -> bool:
    """Whether it is tried no more."""
    return delivery.delivered_at is None and delivery.tried_since <= clock.now() - GIVE_UP_AFTER


def body_of(delivery: Delivery) -> bytes:
    """The bytes that are sent and signed."""
    return json.dumps(delivery.payload, ensure_ascii=False, separators=(",", ":")).encode()


def _hand_over(delivery: Delivery) -> tuple[int | None, str]:
    """The answer's status, if one came, and why it does not count as arrived ("" if it does)."""
    body, timestamp = body_of(delivery), str(int(clock.now().timestamp()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"fedportal/{VERSION}",
        wire.DELIVERY: delivery.public_id,
        wire.TIMESTAMP: timestamp,
        wire.SIGNATURE: wire.sign(secret_of(delivery.webhook), timestamp, body),
    }
    try:
        status = outbound.post(delivery.webhook.url, body, headers)
    except (outbound.Refused, outbound.Failed) as error:
        text = str(error)
        return None, text[0].upper() + text[1:]
    if 200 <= status < 300:
        return status, ""
    if 300 <= status < 400:
        return status, f"The receiver answered {status}; redirects are not followed."
    return status, f"The receiver answered {status}."


def _let_rest(webhook: Webhook, delivery: Delivery) -> None:
    """Let the webhook rest after a failure, longer each time, and switch it off in the end."""
    now = clock.now()
    webhook.failures += 1
    webhook.failing_since = webhook.failing_since or now
    wait = min(FIRST_WAIT * 2 ** min(webhook.failures - 1, 10), LONGEST_WAIT)
    waiting = Delivery.objects.filter(webhook=webhook, delivered_at=None)
    waiting.filter(pk=delivery.pk).update(next_attempt_at=now + wait)
    waiting.filter(next_attempt_at__lt=now + wait).update(next_attempt_at=now + wait)
    off = webhook.failures >= OFF_FAILURES and webhook.failing_since <= now - OFF_AFTER and not webhook.disabled_at
    if off:
        webhook.disabled_at = now
    webhook.save(update_fields=["failures", "failing_since", "disabled_at"])
    log.warning("webhook %s did not take %s (%s)", webhook.public_id, delivery.public_id, delivery.last_error)
    if off:
        audit.record(webhook.organization, audit.PORTAL, "webhook.switched_off", webhook.public_id)
        for hear in _on_switched_off:
            hear(webhook)


def _due() -> QuerySet[Delivery]:
    now = clock.now()
    return Delivery.objects.filter(
        delivered_at=None,
        next_attempt_at__lte=now,
        tried_since__gt=now - GIVE_UP_AFTER,
        webhook__disabled_at=None,
        organization__suspended_at=None,
    )


def _ring(delivery: Delivery) -> None:
    for bell in _doorbells:
        bell(delivery.pk)
