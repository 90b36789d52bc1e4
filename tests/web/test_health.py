"""The operators' health page, and the two addresses for load balancers."""

from __future__ import annotations

import re
import shutil
from collections import namedtuple
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.test import Client

from federations.models import Delivery, Heartbeat, Letter, Person, Webhook
from federations.services import health as own_checks
from federations.services import heartbeats, letters, notifications, spreading, webhooks
from fedportal.common import clock, health, jobs, live
from fedportal.common.health import Finding, Level
from fedportal.common.transactions import unit
from tests.cast import PASSWORD, Cast
from training.models import Pulse
from training.services import pulse

CHECKS = {
    *("Database", "Migrations", "Storage", "Live messages", "Queue"),
    *("Workers", "Mail", "Webhooks", "Sweeper"),
}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def staff(cast: Cast, settings: Any, tmp_path: Path) -> Client:
    """A browser of portal staff, of a portal whose data lie in a folder of the test."""
    settings.FEDPORTAL_DATA_DIR = tmp_path
    client = Client()
    person = Person.objects.create_user("staff@portal.example", PASSWORD, is_staff=True)
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return client


def found(name: str) -> Finding:
    """What a check finds now."""
    return next(result.finding for result in health.report() if result.check.name == name)


def test_the_page_shows_every_check_with_its_state_and_what_it_means(staff: Client) -> None:
    page = staff.get("/admin/health").content.decode()
    titles = set(re.findall(r'<th scope="row">([^<]+)<', page))
    assert titles == CHECKS
    assert len(re.findall(r'class="level (?:ok|warn|bad)"', page)) == len(CHECKS)
    assert page.count('class="help"') == len(CHECKS)
    assert "/admin/health" in staff.get("/admin/").content.decode()


def test_the_page_is_for_staff_only(cast: Cast) -> None:
    assert Client().get("/admin/health").status_code == 302
    assert cast.browser("olga").get("/admin/health").status_code == 403


def test_what_is_not_well_comes_first_and_says_what_to_do(staff: Client) -> None:
    page = staff.get("/admin/health").content.decode()
    levels = re.findall(r'class="level (\w+)"', page)
    assert levels == sorted(levels, key=["bad", "warn", "ok"].index)
    for result in health.report():
        assert bool(result.finding.step) == (result.finding.level != Level.OK), result.check.name


def test_a_check_that_fails_is_a_finding_and_the_rest_is_shown(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> int:
        raise OSError("secret details")

    monkeypatch.setattr(jobs, "waiting", broken)
    page = staff.get("/admin/health").content.decode()
    assert "The look failed: OSError." in page
    assert "secret details" not in page
    assert set(re.findall(r'<th scope="row">([^<]+)<', page)) == CHECKS


def test_workers_show_themselves_and_are_missed(cast: Cast) -> None:
    assert own_checks.workers().level == Level.WARN
    heartbeats.note(clock.now().timestamp() - 2)
    seen = own_checks.workers()
    assert seen.level == Level.OK
    assert "after 2.0 s in the queue" in str(seen.figures)
    with clock.shifted(own_checks.SILENT + timedelta(seconds=1)):
        gone = own_checks.workers()
        assert (gone.level, "celery -A fedportal.celery worker" in gone.step) == (Level.BAD, True)
    heartbeats.note(clock.now().timestamp() - 60)
    assert own_checks.workers().level == Level.WARN
    with clock.shifted(heartbeats.FORGET_AFTER + timedelta(minutes=1)):
        Heartbeat.objects.create(name="another 1", at=clock.now() - timedelta(hours=2))
        heartbeats.note(clock.now().timestamp())
        assert Heartbeat.objects.count() == 1


def test_the_sweeper_asks_for_a_sign_of_life_now_and_then(
    monkeypatch: pytest.MonkeyPatch, db: None, django_capture_on_commit_callbacks: Any
) -> None:
    monkeypatch.setattr(heartbeats, "_rung_at", -1e9)
    rung: list[float] = []
    monkeypatch.setattr(heartbeats, "_doorbells", [rung.append])
    for _ in range(5):
        heartbeats.ask()
    assert len(rung) == 1


def test_a_sweeper_that_stands_is_seen(db: None, settings: Any) -> None:
    assert pulse.health_of_sweeper().level == Level.BAD
    Pulse.objects.create(pk=1, beat_at=clock.now())
    assert pulse.health_of_sweeper().level == Level.OK
    with clock.shifted(timedelta(seconds=settings.FEDPORTAL_SWEEP_SECONDS * 4)):
        assert pulse.health_of_sweeper().level == Level.BAD


def test_mail_that_does_not_leave_is_seen_and_no_address_is_shown(db: None, settings: Any) -> None:
    settings.FEDPORTAL_EMAIL_URL = ""
    assert "console" in own_checks.mail().says
    settings.FEDPORTAL_EMAIL_URL = "smtp://mail.example"
    assert own_checks.mail().level == Level.OK
    with unit():
        letter = letters.write("olga@acme.example", "password_reset", link="x", person="")
    assert own_checks.mail().level == Level.OK
    with clock.shifted(own_checks.OVERDUE + timedelta(minutes=1)):
        assert own_checks.mail().level == Level.WARN
    with clock.shifted(own_checks.LONG_OVERDUE + timedelta(minutes=1)):
        assert own_checks.mail().level == Level.BAD
    Letter.objects.filter(pk=letter.pk).update(last_error="Refused: {'olga@acme.example': (550, b'no')}")
    failing = own_checks.mail()
    assert failing.level == Level.WARN
    assert "olga" not in str(failing.figures)
    letters.send(letter.pk)
    assert own_checks.mail().level == Level.OK
    assert own_checks.mail().figures["last sent"].endswith("s ago")


def test_news_that_nobody_spreads_are_seen(cast: Cast, settings: Any) -> None:
    settings.FEDPORTAL_EMAIL_URL = "smtp://mail.example"
    spreading.spread_due()
    Letter.objects.all().delete()
    with unit():
        notifications.tell(cast.acme, "run.finished", sentence="It is finished.", address="/")
    assert own_checks.mail().level == Level.OK
    with clock.shifted(own_checks.OVERDUE + timedelta(minutes=1)):
        assert "News have not been told" in own_checks.mail().says
        assert own_checks.mail().level == Level.BAD
        spreading.spread_due()
        assert own_checks.mail().level == Level.OK


def test_deliveries_that_nobody_sends_and_receivers_that_fail_are_seen(cast: Cast) -> None:
    assert own_checks.webhooks().level == Level.OK
    hook = webhooks.add(cast.actor("olga"), cast.acme, "https://hooks.example/x", [])
    webhooks.test(cast.actor("olga"), hook)
    assert own_checks.webhooks().level == Level.OK
    with clock.shifted(own_checks.OVERDUE + timedelta(minutes=1)):
        assert own_checks.webhooks().level == Level.BAD
    Delivery.objects.update(next_attempt_at=clock.now() + timedelta(hours=1))
    Webhook.objects.update(failures=3)
    assert own_checks.webhooks().level == Level.WARN


def test_a_full_disk_is_seen_before_it_is_full(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.FEDPORTAL_DATA_DIR = tmp_path
    (tmp_path / "blobs" / "aa").mkdir(parents=True)
    (tmp_path / "blobs" / "aa" / "blob").write_bytes(b"x" * 2048)
    usage = Usage(1 << 40, 0, 1 << 39)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert found("storage").level == Level.OK
    assert found("storage").figures["blobs"] == "1 (2.0 KiB)"
    usage = Usage(1 << 40, 0, 4 << 30)
    assert found("storage").level == Level.WARN
    usage = Usage(1 << 40, 0, 1 << 30)
    assert found("storage").level == Level.BAD
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_seen(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file where the folder should be")
    settings.FEDPORTAL_DATA_DIR = tmp_path
    assert found("storage").level == Level.BAD


def test_messages_go_there_and_back(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    assert found("live").level == Level.OK
    monkeypatch.setattr(live, "get_channel_layer", lambda: None)
    assert found("live").level == Level.BAD


def test_a_long_queue_is_seen(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    assert jobs.waiting() >= 0
    monkeypatch.setattr(jobs, "waiting", lambda: health.LONG_QUEUE + 1)
    assert found("queue").level == Level.WARN


def test_a_missing_migration_is_seen_and_the_portal_is_not_ready(db: None) -> None:
    assert found("migrations").level == Level.OK
    assert Client().get("/ready").status_code == 200
    (last,) = MigrationLoader(None).graph.leaf_nodes("federations")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = %s AND name = %s", last)
    assert " ".join(last) in found("migrations").says
    answer = Client().get("/ready")
    assert (answer.status_code, answer.content) == (503, b"not ready\n")


def test_probes_answer_under_any_name_and_without_https(db: None, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    for address in ("/health", "/ready"):
        answer = Client().get(address, headers={"Host": "10.1.2.3:8001"})
        assert (answer.status_code, answer.content) == (200, b"ok\n")
        assert answer["Cache-Control"] == "no-store"
        assert not answer.cookies


def test_health_asks_no_database(django_db_blocker: Any) -> None:
    with django_db_blocker.block():
        assert Client().get("/health").status_code == 200
