"""Webhooks: signed, tried again, resting when they fail, and nobody else's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from federations import tasks
from federations.models import AuditEntry, Delivery, News, Role, Webhook
from federations.permissions import Actor
from federations.services import deliveries, notifications, organizations, spreading, throttle, webhooks
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedportal_sdk import webhooks as receiving
from fedwire.errors import FedportalError
from tests.cast import Cast
from tests.common.receiving import Receiver, receiver
from tests.federations.helpers import letters_to, recorded, refused

PUBLIC = "https://hooks.example/fedportal"


@pytest.fixture
def server(settings: Any) -> Iterator[Receiver]:
    """A receiver of this machine that the portal may call."""
    with receiver() as running:
        settings.FEDPORTAL_WEBHOOK_TEST_HOSTS = frozenset({running.place})
        yield running


@pytest.fixture
def hook(cast: Cast, server: Receiver) -> Webhook:
    """acme's webhook for everything, and nothing told yet."""
    News.objects.all().delete()
    return webhooks.add(cast.actor("olga"), cast.acme, server.url, [])


def tell(cast: Cast, kind: str = "run.finished", **data: Any) -> None:
    with unit():
        notifications.tell(cast.acme, kind, sentence="Run 1 is finished", address="/runs/run_1", data=data)
    spreading.spread_due()


def secret(hook: Webhook) -> str:
    return deliveries.secret_of(Webhook.objects.get(pk=hook.pk))


def test_a_delivery_arrives_signed_and_says_what_happened(cast: Cast, hook: Webhook, server: Receiver) -> None:
    tell(cast, run="run_1", rounds=3)
    assert server.got == []  # nothing leaves inside the unit
    assert deliveries.send_due() == 1
    (got,) = server.got
    news = receiving.verify(secret(hook), got.headers, got.body)
    sent = Delivery.objects.get()
    assert news == {
        "id": sent.public_id,
        "kind": "run.finished",
        "at": news["at"],
        "organization": cast.acme.public_id,
        "sentence": "Run 1 is finished",
        "address": "http://127.0.0.1:8000/runs/run_1",
        "data": {"run": "run_1", "rounds": 3},
    }
    assert got.headers[receiving.DELIVERY] == sent.public_id
    assert got.headers["Content-Type"] == "application/json"
    assert (sent.attempts, sent.last_status, sent.last_error) == (1, 204, "")
    assert deliveries.send_due() == 0


def test_what_was_rolled_back_is_not_told(cast: Cast, hook: Webhook) -> None:
    def act() -> None:
        with unit():
            notifications.tell(cast.acme, "run.finished", sentence="x", address="/")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act()
    assert spreading.spread_due() == 0
    assert not Delivery.objects.exists()


def test_the_doorbell_rings_after_the_commit(
    cast: Cast, hook: Webhook, server: Receiver, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks() as callbacks, unit():
        notifications.tell(cast.acme, "device.registered", sentence="x", address="/")  # no letter by default
    assert len(callbacks) == 1
    with django_capture_on_commit_callbacks() as callbacks:
        tasks.spread_news(News.objects.get().pk)
    assert len(callbacks) == 1
    tasks.send_delivery(Delivery.objects.get().pk)
    assert len(server.got) == 1


def test_one_job_at_a_time_is_at_the_webhooks(cast: Cast, hook: Webhook, server: Receiver) -> None:
    tell(cast)
    tell(cast)
    with tasks._at_webhooks:
        tasks.send_delivery(Delivery.objects.earliest("pk").pk)
    assert server.got == []
    tasks.send_delivery(Delivery.objects.earliest("pk").pk)
    assert len(server.got) == 2


def test_a_webhook_hears_of_its_kinds_only_and_of_its_organization_only(cast: Cast, server: Receiver) -> None:
    webhooks.add(cast.actor("olga"), cast.acme, server.url, ["run.waiting"])
    webhooks.add(cast.actor("rex"), cast.rival, server.url, [])
    tell(cast)
    assert not Delivery.objects.exists()
    tell(cast, "run.waiting")
    assert Delivery.objects.get().organization == cast.acme


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 410, 500, 503])
def test_what_is_not_taken_is_tried_again(status: int, cast: Cast, hook: Webhook, server: Receiver) -> None:
    server.status, server.headers = status, {"Location": server.url}
    tell(cast)
    assert deliveries.send_due() == 0
    assert len(server.got) == 1  # a redirect is not followed
    delivery = Delivery.objects.get()
    assert (delivery.attempts, delivery.last_status) == (1, status)
    assert str(status) in delivery.last_error
    server.status = 200
    assert deliveries.send_due() == 0  # not due yet
    with clock.shifted(timedelta(seconds=31)):
        assert deliveries.send_due() == 1
    hook.refresh_from_db()
    assert (hook.failures, hook.failing_since) == (0, None)
    first, second = server.got
    assert first.body == second.body
    assert first.headers[receiving.DELIVERY] == second.headers[receiving.DELIVERY]


def test_a_receiver_that_fails_rests_longer_each_time_with_all_that_waits(
    cast: Cast, hook: Webhook, server: Receiver
) -> None:
    server.status = 500
    for _ in range(40):
        tell(cast)
    waits, now = [], clock.now()
    for _ in range(9):
        with clock.frozen(now):
            deliveries.send_due()
            due = Delivery.objects.earliest("next_attempt_at").next_attempt_at
        waits.append((due - now).total_seconds())
        now = due
    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert len(server.got) == 9  # one try each time, not forty
    with clock.frozen(now - timedelta(seconds=1)):
        tell(cast)
        assert deliveries.send_due() == 0
    assert len(server.got) == 9


def test_a_resting_webhook_does_not_hold_up_the_others(cast: Cast, hook: Webhook, server: Receiver) -> None:
    with receiver() as broken:
        deliveries_before = Delivery.objects.count()
        hook.url = broken.url  # not among the named hosts: refused at once
        hook.save(update_fields=["url"])
        webhooks.add(cast.actor("olga"), cast.acme, server.url, [])
        for _ in range(3):
            tell(cast)
        assert deliveries.send_due() == 3
        assert (len(server.got), broken.got, deliveries_before) == (3, [], 0)


def test_it_gives_up_after_three_days(cast: Cast, hook: Webhook, server: Receiver) -> None:
    tell(cast)
    with clock.shifted(deliveries.GIVE_UP_AFTER + timedelta(minutes=1)):
        assert deliveries.send_due() == 0
        assert deliveries.is_given_up(Delivery.objects.get())
        webhooks.redeliver(cast.actor("olga"), Delivery.objects.get())
        assert deliveries.send_due() == 1
    assert len(server.got) == 1


def fail_for(hours: float, times: int) -> None:
    """Try so often that it takes so long."""
    for number in range(times):
        with clock.shifted(timedelta(hours=hours * number / (times - 1))):
            Delivery.objects.filter(delivered_at=None).update(next_attempt_at=clock.now())
            deliveries.send_due()


def test_a_receiver_that_only_fails_is_switched_off_and_its_people_hear_of_it(
    cast: Cast, hook: Webhook, server: Receiver
) -> None:
    server.status = 500
    tell(cast)
    fail_for(25, deliveries.OFF_FAILURES)
    hook.refresh_from_db()
    assert hook.disabled_at is not None
    assert AuditEntry.objects.get(action="webhook.switched_off").subject == hook.public_id
    (letter,) = [letter for letter in letters_to("olga@acme.example") if letter.topic.startswith("webhook.failing")]
    assert hook.public_id in letter.text
    assert Delivery.objects.count() == 1  # it is not told of its own end
    webhooks.enable(cast.actor("olga"), hook)
    server.status = 200
    assert deliveries.send_due() == 1


@pytest.mark.parametrize(("hours", "times"), [(2, 40), (30, 10)])
def test_few_failures_or_a_short_time_switch_nothing_off(
    hours: float, times: int, cast: Cast, hook: Webhook, server: Receiver
) -> None:
    server.status = 500
    tell(cast)
    fail_for(hours, times)
    hook.refresh_from_db()
    assert hook.disabled_at is None
    assert hook.failures == times


def test_a_claimed_delivery_is_left_alone_until_the_claim_ends(cast: Cast, hook: Webhook, server: Receiver) -> None:
    tell(cast)
    Delivery.objects.update(next_attempt_at=clock.now() + deliveries.CLAIM)
    assert deliveries.send_due() == 0
    with clock.shifted(deliveries.CLAIM + timedelta(seconds=1)):
        assert deliveries.send_due() == 1


def test_what_leads_inside_is_never_called(cast: Cast, hook: Webhook, server: Receiver, settings: Any) -> None:
    """The row says an inside address, however it came there: the sender looks again."""
    settings.FEDPORTAL_WEBHOOK_TEST_HOSTS = frozenset()
    tell(cast)
    assert deliveries.send_due() == 0
    assert server.got == []
    assert "port" in Delivery.objects.get().last_error


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "https://10.0.0.7/x",
        "https://localhost/",
        "https://2130706433/",
        "ftp://hooks.example/",
        "",
    ],
)
def test_an_address_inside_is_refused_when_it_is_added(url: str, cast: Cast) -> None:
    with refused("webhook_address"):
        webhooks.add(cast.actor("olga"), cast.acme, url, [])


def test_who_may_and_how_many(cast: Cast) -> None:
    for name in ("otto", "rex"):
        with refused("forbidden" if name == "otto" else "not_found"):
            webhooks.add(cast.actor(name), cast.acme, PUBLIC, [])
    admin = Actor(cast.colleague(cast.acme, Role.ADMIN), cast.acme)
    with recorded("webhook.added"):
        webhooks.add(admin, cast.acme, PUBLIC, ["run.finished", "run.finished"])
    for _ in range(webhooks.LIMIT - 1):
        webhooks.add(admin, cast.acme, PUBLIC, [])
    with refused("webhook_limit"):
        webhooks.add(admin, cast.acme, PUBLIC, [])


def test_every_act_is_recorded_once(cast: Cast, hook: Webhook) -> None:
    olga = cast.actor("olga")
    with recorded("webhook.tested", hook.public_id):
        delivery = webhooks.test(olga, hook)
    with recorded("webhook.redelivered", delivery.public_id):
        webhooks.redeliver(olga, delivery)
    with recorded("webhook.secret_renewed", hook.public_id):
        webhooks.renew(olga, hook)
    with recorded("webhook.disabled", hook.public_id):
        webhooks.disable(olga, hook)
    webhooks.disable(olga, hook)  # again is no act
    with refused("wrong_state"):
        webhooks.test(olga, hook)
    with refused("wrong_state"):
        webhooks.redeliver(olga, Delivery.objects.get())
    with recorded("webhook.enabled", hook.public_id):
        webhooks.enable(olga, hook)
    with recorded("webhook.removed", hook.public_id):
        webhooks.remove(olga, hook)
    assert not Delivery.objects.exists()


def test_a_renewed_secret_signs_and_the_old_one_does_not(cast: Cast, hook: Webhook, server: Receiver) -> None:
    old = secret(hook)
    webhooks.renew(cast.actor("olga"), hook)
    assert secret(hook) != old
    tell(cast)
    deliveries.send_due()
    (got,) = server.got
    receiving.verify(secret(hook), got.headers, got.body)
    with refused("webhook_invalid"):
        receiving.verify(old, got.headers, got.body)


def test_secrets_are_derived_and_lie_nowhere(cast: Cast, hook: Webhook, settings: Any) -> None:
    other = webhooks.add(cast.actor("olga"), cast.acme, PUBLIC, [])
    made = {secret(hook), secret(other)}
    assert len(made) == 2
    assert all(len(text) == 68 for text in made)
    stored = json.dumps(list(Webhook.objects.values()), default=str) + json.dumps(
        list(AuditEntry.objects.values("details")), default=str
    )
    assert not any(text[4:] in stored for text in made)
    settings.FEDPORTAL_PEPPER = "another pepper that is long enough for this"
    assert secret(hook) not in made


def test_a_suspended_organization_sends_nothing_and_a_removed_webhook_harms_nobody(
    cast: Cast, hook: Webhook, server: Receiver
) -> None:
    tell(cast)
    staff = cast.vera
    staff.is_staff = True
    staff.save()
    organizations.suspend(staff, cast.acme)
    assert deliveries.send_due() == 0
    organizations.reinstate(staff, cast.acme)
    assert deliveries.send_due() == 1
    pk = Delivery.objects.get().pk
    webhooks.remove(cast.actor("olga"), hook)
    assert not deliveries.send(pk)


def test_old_deliveries_are_forgotten(cast: Cast, hook: Webhook) -> None:
    tell(cast)
    assert deliveries.forget_old() == 0
    with clock.shifted(deliveries.KEEP + timedelta(days=1)):
        tell(cast)
        assert deliveries.forget_old() == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"body": b'{"kind":"x"}'}, "signature"),
        ({receiving.SIGNATURE: "v1=00"}, "signature"),
        ({receiving.SIGNATURE: "v1=ünicode"}, "signature"),
        ({receiving.SIGNATURE: ""}, "no signature"),
        ({receiving.TIMESTAMP: "1"}, "signature"),
        ({receiving.TIMESTAMP: "soon"}, "no number"),
        ({"now": 301.0}, "five minutes"),
        ({"now": -301.0}, "five minutes"),
    ],
)
def test_a_receiver_believes_only_what_is_signed_and_fresh(change: dict[str, Any], reason: str, db: None) -> None:
    at, body = 1_700_000_000, b'{"id":"dlv_1"}'
    headers = {receiving.TIMESTAMP: str(at), receiving.SIGNATURE: receiving.sign("whs_s", str(at), body)}
    for age in (0.0, 299.0, -299.0):
        spelled = {name.lower(): value for name, value in headers.items()}
        assert receiving.verify("whs_s", spelled, body, now=at + age) == {"id": "dlv_1"}
    changed = {**headers, **{name: value for name, value in change.items() if name in headers}}
    with pytest.raises(FedportalError, match=reason) as caught:
        receiving.verify("whs_s", changed, change.get("body", body), now=at + change.get("now", 0.0))
    assert caught.value.code == "webhook_invalid"


# --- pages and API ----------------------------------------------------------------------------------------------------


def test_the_page_shows_the_secret_once(cast: Cast) -> None:
    browser = cast.browser("olga")
    answer = browser.post("/webhooks", {"url": PUBLIC, "which": "some", "kinds": ["run.finished"]}, follow=True)
    hook = Webhook.objects.get()
    assert secret(hook) in answer.content.decode()
    address = f"/webhooks/{hook.public_id}"
    assert secret(hook) not in browser.get(address).content.decode()
    again = browser.post(f"{address}/renew", follow=True).content.decode()
    assert secret(hook) in again
    assert secret(hook) not in browser.get(address).content.decode()
    assert PUBLIC in browser.get("/webhooks").content.decode()


def test_a_refused_address_or_choice_keeps_what_was_typed(cast: Cast) -> None:
    browser = cast.browser("olga")
    for said in ({"url": "https://10.0.0.1/", "which": "all"}, {"url": PUBLIC, "which": "some"}):
        answer = browser.post("/webhooks", said)
        assert answer.status_code == 400
        assert said["url"] in answer.content.decode()
    assert not Webhook.objects.exists()


def test_the_list_of_deliveries_says_how_each_went(cast: Cast, hook: Webhook, server: Receiver) -> None:
    browser, address = cast.browser("olga"), f"/webhooks/{hook.public_id}"
    browser.post(f"{address}/test")
    deliveries.send_due()
    server.status = 503
    tell(cast)
    deliveries.send_due()
    page = browser.get(address).content.decode()
    assert "delivered" in page
    assert "The receiver answered 503." in page
    failed = Delivery.objects.get(delivered_at=None)
    server.status = 200
    browser.post(f"{address}/deliveries/{failed.public_id}")
    assert deliveries.send_due() == 1
    browser.post(f"{address}/disable")
    assert "disabled" in browser.get(address).content.decode()


def test_the_api_adds_lists_tests_and_removes(cast: Cast) -> None:
    client = cast.client("olga")
    made = client.post("/api/v1/webhooks", {"url": PUBLIC}, content_type="application/json").json()
    assert made["secret"] == secret(Webhook.objects.get())
    (listed,) = client.get("/api/v1/webhooks").json()["webhooks"]
    assert (listed["id"], listed["enabled"], "secret" in listed) == (made["id"], True, False)
    one = f"/api/v1/webhooks/{made['id']}"
    sent = client.post(f"{one}/test").json()
    assert client.get(f"{one}/deliveries").json()["deliveries"][0]["id"] == sent["id"]
    assert client.post(f"{one}/renew").json()["secret"] != made["secret"]
    assert client.post(f"{one}/disable").json()["enabled"] is False
    wrong = client.post("/api/v1/webhooks", {"url": PUBLIC, "kinds": ["weather"]}, content_type="application/json")
    assert wrong.json()["error"] == "field_invalid"
    assert client.delete(one).status_code == 204


def test_what_two_remove_at_once_is_removed_and_recorded_once(cast: Cast, hook: Webhook) -> None:
    olga, again = cast.actor("olga"), Webhook.objects.get(pk=hook.pk)
    webhooks.remove(olga, hook)
    with refused("not_found"):
        webhooks.remove(olga, again)
    with refused("not_found"):
        webhooks.renew(olga, again)


def test_deliveries_by_hand_are_limited_for_the_organization(cast: Cast, hook: Webhook) -> None:
    other = webhooks.add(cast.actor("olga"), cast.acme, PUBLIC, [])
    for _ in range(throttle.HOOKS):
        delivery = webhooks.test(cast.actor("olga"), hook)
    with refused("too_many_tries"):
        webhooks.test(cast.actor("olga"), other)
    with refused("too_many_tries"):
        webhooks.redeliver(cast.actor("olga"), delivery)
    with clock.shifted(timedelta(seconds=throttle.HOOK_SECONDS)):
        webhooks.redeliver(cast.actor("olga"), delivery)
