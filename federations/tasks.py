"""Background jobs of this floor: news, letters, deliveries to webhooks, and a sign of life."""

from __future__ import annotations

import threading

from federations.services import deliveries, heartbeats, letters, spreading
from fedportal.common.jobs import job, ring

# One thread of a worker is at the letters: a mail server that hangs must not keep all of them from the rounds.
_at_it = threading.Lock()
# Another may be at the webhooks.
_at_webhooks = threading.Lock()
# And another at the news.
_at_news = threading.Lock()


@job
def spread_news(news_pk: int) -> None:
    """Spread these news and whatever else waits, or leave them to whoever is at it or to the sweeper."""
    if not _at_news.acquire(blocking=False):
        return
    try:
        spreading.spread(news_pk)
        while spreading.spread_due():
            pass
    finally:
        _at_news.release()


def ring_for_news(news_pk: int) -> None:
    """Ask a worker to spread the news once the unit is committed."""
    ring(spread_news, news_pk)


@job
def send_letter(letter_pk: int) -> None:
    """Send this letter and whatever else is due, or leave it to whoever is at it or to the sweeper."""
    if not _at_it.acquire(blocking=False):
        return
    try:
        letters.send(letter_pk)
        while letters.send_due():
            pass
    finally:
        _at_it.release()


def ring_for(letter_pk: int) -> None:
    """Ask a worker to send the letter once the unit is committed."""
    ring(send_letter, letter_pk)


@job
def send_delivery(delivery_pk: int) -> None:
    """Send this delivery and whatever else is due, or leave it to whoever is at it or to the sweeper."""
    if not _at_webhooks.acquire(blocking=False):
        return
    try:
        deliveries.send(delivery_pk)
        while deliveries.send_due():
            pass
    finally:
        _at_webhooks.release()


def ring_for_delivery(delivery_pk: int) -> None:
    """Ask a worker to send the delivery once the unit is committed."""
    ring(send_delivery, delivery_pk)


@job
def show_life(rung_at: float) -> None:
    """Note that this process does jobs."""
    heartbeats.note(rung_at)


def ring_for_life(rung_at: float) -> None:
    """Ask some worker to show itself."""
    ring(show_life, rung_at)
