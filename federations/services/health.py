"""What this floor adds to the health page: workers, mail and webhooks."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Max, Min, Q

from federations.models import Delivery, Heartbeat, Letter, News, Webhook
from federations.services import deliveries, letters
from fedportal.common import clock, health
from fedportal.common.health import Finding, Level

# A worker is asked for a sign of life three times in this time.
SILENT = timedelta(minutes=2)
SLOW_SECONDS = 30.0
# Letters and deliveries leave within seconds; what waits so long waits for a reason.
OVERDUE, LONG_OVERDUE = timedelta(minutes=5), timedelta(hours=1)
_ADDRESS = re.compile(r"[^\s<>'\"(]+@[^\s<>'\")]+")


def register() -> None:
    """Put the checks of this floor on the page."""
    health.register(
        "workers", "Workers", "Do the jobs: close rounds, send letters and webhooks. Without them runs stand.", workers
    )
    health.register("mail", "Mail", "Letters carry invitations, new passwords and news.", mail)
    health.register("webhooks", "Webhooks", "Tell organizations' own programs what happens.", webhooks)


def workers() -> Finding:
    """Whether anybody does jobs."""
    since = clock.now() - SILENT
    alive = list(Heartbeat.objects.filter(at__gt=since).order_by("-at"))
    last = Heartbeat.objects.order_by("-at").first()
    figures = {one.name: f"{_ago(one.at)}, after {one.waited_seconds:.1f} s in the queue" for one in alive[:20]}
    step = "Start one: `celery -A fedportal.celery worker`. The embedded portal has its own; restart it."
    if last is None:
        return Finding(Level.WARN, "No worker has shown itself yet.", f"Wait a minute after a start. {step}")
    if not alive:
        return Finding(Level.BAD, f"No worker has done a job since {_ago(last.at)}.", step)
    if alive[0].waited_seconds > SLOW_SECONDS:
        return Finding(Level.WARN, "Jobs wait long before a worker takes them.", "Start more workers.", figures)
    return Finding(Level.OK, f"{len(alive)} worker{'' if len(alive) == 1 else 's'} at work.", "", figures)


def mail() -> Finding:
    """Whether letters leave."""
    now = clock.now()
    unsent = Letter.objects.filter(sent_at=None, created_at__gt=now - letters.GIVE_UP_AFTER)
    overdue = unsent.filter(Q(held_until=None) | Q(held_until__lt=now))
    found = overdue.aggregate(number=Count("pk"), oldest=Min("created_at"))
    given_up = Letter.objects.filter(sent_at=None, created_at__lte=now - letters.GIVE_UP_AFTER).exclude(text="").count()
    last = Letter.objects.aggregate(last=Max("sent_at"))["last"]
    news = News.objects.filter(spread_at=None).aggregate(number=Count("pk"), oldest=Min("created_at"))
    failed = overdue.exclude(last_error="").order_by("-pk").values_list("last_error", flat=True).first()
    figures = {
        "waiting to leave": str(found["number"]),
        "gathering news": str(unsent.count() - found["number"]),
        "news not yet spread": str(news["number"]),
        "given up": str(given_up),
        "last sent": _ago(last) if last else "never",
    }
    if failed:
        figures["last error"] = _ADDRESS.sub("…@…", failed)
    step = "Check FEDPORTAL_EMAIL_URL, the mail server and its log; what waits leaves by itself once it answers."
    if news["number"] and news["oldest"] < now - OVERDUE:
        look = "See that workers and the sweeper run, and look for “news” in their logs."
        return Finding(Level.BAD, f"News have not been told since {_ago(news['oldest'])}.", look, figures)
    if found["number"] and found["oldest"] < now - LONG_OVERDUE:
        return Finding(Level.BAD, f"Letters have not left since {_ago(found['oldest'])}.", step, figures)
    if failed or (found["number"] and found["oldest"] < now - OVERDUE):
        return Finding(Level.WARN, "Some letters do not leave.", step, figures)
    if not settings.FEDPORTAL_EMAIL_URL:
        step = "Set FEDPORTAL_EMAIL_URL before people elsewhere use this portal."
        return Finding(Level.WARN, "There is no mail server: letters are shown on the console only.", step, figures)
    return Finding(Level.OK, "Letters leave.", "", figures)


def webhooks() -> Finding:
    """Whether deliveries leave, and which receivers fail."""
    now = clock.now()
    waiting = Delivery.objects.filter(
        delivered_at=None, tried_since__gt=now - deliveries.GIVE_UP_AFTER, webhook__disabled_at=None
    )
    stuck = waiting.filter(next_attempt_at__lt=now - OVERDUE, organization__suspended_at=None).count()
    failing = Webhook.objects.filter(disabled_at=None, failures__gt=0).count()
    figures = {
        "waiting": str(waiting.count()),
        "failing receivers": str(failing),
        "switched off": str(Webhook.objects.filter(failures__gt=0).exclude(disabled_at=None).count()),
    }
    if stuck:
        return Finding(Level.BAD, f"{stuck} deliveries are due and nobody sends them.", "See Workers.", figures)
    if failing:
        step = "Their organizations see why on the page Webhooks. If it is all of them, check the portal's way out."
        return Finding(Level.WARN, "Some receivers do not answer.", step, figures)
    return Finding(Level.OK, "Deliveries leave.", "", figures)


def _ago(moment: datetime) -> str:
    seconds = max(0, int((clock.now() - moment).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"
