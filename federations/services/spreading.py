"""News are spread: from the one row that the act wrote into a letter per person and a delivery per webhook.

Each row is spread in one unit under its lock, so exactly once: a second worker passes by, and what a killed worker left
half done is rolled back and taken again. Rows of one organization are spread one after the other, because they share
the letters into which news are gathered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta

from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from federations.models import Choice, Letter, Membership, News, Person
from federations.services import deliveries, letters, notifications, organizations
from federations.services.notifications import KINDS, LINES, QUIET, Kind
from fedportal.common import clock
from fedportal.common.transactions import unit

log = logging.getLogger(__name__)

BATCH = 50
# How long news that were spread are kept, for the operator to look at, and how many are removed in one pass.
KEEP, FORGET_AT_ONCE = timedelta(days=7), 1000


def spread_due() -> int:
    """Spread all that waits, oldest first; how many. A pass of the sweeper; runs safely in two processes at once."""
    done, after = 0, 0
    while pks := list(_waiting().filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:BATCH]):
        for pk in pks:
            try:
                done += spread(pk)
            except Exception:  # one that cannot be spread must not hold up those behind it
                log.exception("news %d were not spread; the next pass tries again", pk)
        after = pks[-1]
    return done


def spread(news_pk: int) -> bool:
    """Write the letters and deliveries of these news, unless that is done or somebody is at it; whether we did."""
    with unit():
        rows = _waiting().select_for_update(no_key=True, of=("self",), skip_locked=True)
        news = rows.select_related("organization").filter(pk=news_pk).first()
        if news is None:
            return False
        organizations.lock(news.organization)
        deliveries.write(news)
        if news.kind in KINDS:  # else a kind of an older version: programs heard of it
            _write_letters(news, KINDS[news.kind])
        news.spread_at = clock.now()
        news.save(update_fields=["spread_at"])
    return True


def forget_old() -> int:
    """Remove news that were spread a week ago, so many at a time; how many. A pass of the sweeper."""
    old = News.objects.filter(spread_at__lt=clock.now() - KEEP).order_by("spread_at")
    pks = list(old.values_list("pk", flat=True)[:FORGET_AT_ONCE])
    return News.objects.filter(pk__in=pks).delete()[0] if pks else 0


# --- inside ----------------------------------------------------------------------------------------------------------


def _waiting() -> QuerySet[News]:
    return News.objects.filter(spread_at=None)


def _write_letters(news: News, kind: Kind) -> None:
    """A letter to each hearer now, or, if one of the kind left lately, a line in the one that waits for its time."""
    hearers = _hearers(news, kind)
    topics = {person.pk: f"{kind.name} {news.organization.public_id} {person.public_id}" for person in hearers}
    open_letters, latest = _lately(list(topics.values()))
    line = {"sentence": letters.as_sentence(news.sentence), "address": news.address}
    written = []
    for person in hearers:
        topic = topics[person.pk]
        letter = open_letters.get(topic) or _new_letter(news, kind, person, topic, latest.get(topic))
        if len(letter.news["lines"]) < LINES:
            letter.news["lines"].append(line)
        letter.news["count"] += 1
        if letter.held_until is None:
            letters.compose_news(letter)  # the others are written when they leave, with all they gathered
        written.append(letter)
    letters.put_all(written)


def _hearers(news: News, kind: Kind) -> list[Person]:
    chosen = Choice.objects.filter(organization=news.organization, person=OuterRef("person_id"), kind=kind.name)
    of = Membership.objects.filter(organization=news.organization, role__in=kind.roles, person__is_active=True)
    wanting = of.annotate(wanted=Coalesce(Subquery(chosen.values("email")[:1]), kind.email)).filter(wanted=True)
    return [membership.person for membership in wanting.select_related("person").order_by("pk")]


def _lately(topics: Sequence[str]) -> tuple[dict[str, Letter], dict[str, Letter]]:
    """By topic: the letter that takes more news, and the last one of any kind; locked until the unit ends.

    A letter waits at most `QUIET` and holds up others for as long after it, so older ones are of no concern.
    """
    now = clock.now()
    recent = Letter.objects.filter(topic__in=topics, created_at__gt=now - 2 * QUIET).order_by("pk")
    open_letters, latest = {}, {}
    for letter in recent.select_for_update(no_key=True):
        latest[letter.topic] = letter
        # A letter that a sender has claimed has another next attempt, and takes no more news.
        waits = letter.held_until is not None and letter.held_until > now
        if waits and letter.sent_at is None and letter.next_attempt_at == letter.held_until:
            open_letters[letter.topic] = letter
    return open_letters, latest


def _new_letter(news: News, kind: Kind, person: Person, topic: str, last: Letter | None) -> Letter:
    now = clock.now()
    free_at = (last.held_until or last.created_at) + QUIET if last else now
    held = free_at if free_at > now else None
    return Letter(
        organization=news.organization,
        to=person.email,
        topic=topic,
        held_until=held,
        next_attempt_at=held or now,
        subject=kind.title,
        unsubscribe=notifications.unsubscribe_link(person, news.organization, kind),
        news=letters.no_news(person, kind.title, news.organization),
    )
