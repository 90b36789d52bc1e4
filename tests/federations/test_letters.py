"""The outbox: written with its cause, sent after the commit, tried again until it leaves."""

from __future__ import annotations

import re
import smtplib
import socketserver
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from hypothesis import given
from hypothesis import strategies as st

from federations import tasks
from federations.models import Letter, Person
from federations.services import letters
from federations.tasks import send_letter
from fedportal.common import clock
from fedportal.common.transactions import unit
from tests.federations.helpers import recorded, refused

pytestmark = pytest.mark.django_db


def write(address: str = "olga@acme.example") -> Letter:
    with unit():
        return letters.write(address, "password_reset", link="https://portal.example/x", person="Olga")


class _Refuses(socketserver.StreamRequestHandler):
    """A mail server that is there and takes nothing."""

    def handle(self) -> None:
        self.wfile.write(b"421 come back later\r\n")


@pytest.fixture
def no_mail_today(settings: Any) -> Iterator[None]:
    """Mail goes to a server that refuses everything."""
    with socketserver.TCPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
        yield
        server.shutdown()


def test_a_letter_leaves_once_and_keeps_no_secret(db: None) -> None:
    letter = write()
    assert letters.send(letter.pk)
    assert not letters.send(letter.pk)
    assert letters.send_due() == 0
    letter.refresh_from_db()
    assert (letter.text, letter.html, letter.attempts) == ("", "", 1)
    assert letter.sent_at is not None
    (message,) = mail.outbox
    assert message.to == ["olga@acme.example"]
    assert "https://portal.example/x" in message.body
    assert "text/html" in [kind for _, kind in message.alternatives]  # type: ignore[attr-defined]


def test_the_job_sends_after_the_commit(django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks() as callbacks:
        letter = write()
    assert len(callbacks) == 1
    assert mail.outbox == []
    send_letter(letter.pk)
    assert len(mail.outbox) == 1


def test_one_job_at_a_time_is_at_the_letters_and_sends_all_that_are_due() -> None:
    """Otherwise a mail server that hangs keeps every thread of the worker from the rounds."""
    first, second = write(), write("mia@metro.example")
    with tasks._at_it:
        send_letter(first.pk)
    assert mail.outbox == []
    send_letter(second.pk)
    assert [message.to for message in mail.outbox] == [["mia@metro.example"], ["olga@acme.example"]]


def test_a_letter_whose_cause_was_rolled_back_never_leaves() -> None:
    def act() -> None:
        with unit():
            letters.write("olga@acme.example", "password_reset", link="x", person="")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        act()
    assert letters.send_due() == 0


@pytest.mark.django_db(transaction=True)
def test_a_letter_outside_a_unit_is_refused() -> None:
    with pytest.raises(RuntimeError):
        letters.write("olga@acme.example", "password_reset", link="x", person="")


def test_what_fails_is_tried_again_with_growing_pauses(no_mail_today: None) -> None:
    letter = write()
    start = clock.now()
    waited = []
    for _ in range(9):
        letter.refresh_from_db()
        with clock.frozen(letter.next_attempt_at):
            assert not letters.send(letter.pk)
            now = clock.now()
        letter.refresh_from_db()
        waited.append((letter.next_attempt_at - now).total_seconds())
    assert waited == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert letter.attempts == 9
    assert letter.last_error.startswith(smtplib.SMTPConnectError.__name__)
    assert letter.text
    assert clock.now() - start < timedelta(minutes=1)


def test_what_waits_leaves_when_the_server_is_back(no_mail_today: None, settings: Any) -> None:
    letter = write()
    assert letters.send_due() == 0
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert letters.send_due() == 0  # not due yet
    with clock.shifted(timedelta(seconds=31)):
        assert letters.send_due() == 1
    letter.refresh_from_db()
    assert (letter.attempts, letter.last_error) == (2, "")


def test_a_claimed_letter_is_left_alone_until_the_claim_ends() -> None:
    letter = write()
    Letter.objects.filter(pk=letter.pk).update(next_attempt_at=clock.now() + letters.CLAIM)
    assert letters.send_due() == 0
    with clock.shifted(letters.CLAIM + timedelta(seconds=1)):
        assert letters.send_due() == 1


def test_an_old_letter_is_given_up() -> None:
    write()
    with clock.shifted(letters.GIVE_UP_AFTER + timedelta(minutes=1)):
        assert letters.send_due() == 0


def test_a_subject_is_one_line(db: None) -> None:
    with unit():
        letter = letters.write("a@x.example", "password_reset", link="x", person="a\r\nBcc: all@x.example")
    assert "\n" not in letter.subject
    letters.send(letter.pk)
    assert "Bcc" not in mail.outbox[0].message()


def test_operators_hurry_only_what_has_not_left() -> None:
    staff = Person.objects.create_superuser("staff@portal.example")
    sent, waiting = write(), write()
    letters.send(sent.pk)
    Letter.objects.filter(pk=waiting.pk).update(next_attempt_at=clock.now() + timedelta(hours=1))
    with refused("wrong_state"):
        letters.resend_by_staff(staff, sent)
    with recorded("letter.resent"):
        letters.resend_by_staff(staff, waiting)
    assert letters.send_due() == 1


def test_operators_do_not_send_twice_what_is_being_sent_right_now() -> None:
    staff, letter = Person.objects.create_superuser("staff@portal.example"), write()
    Letter.objects.filter(pk=letter.pk).update(next_attempt_at=clock.now() + letters.CLAIM)  # as `send` claims it
    with refused("wrong_state"):
        letters.resend_by_staff(staff, letter)
    assert letters.send_due() == 0


def test_a_letter_that_was_given_up_is_written_anew() -> None:
    staff = Person.objects.create_superuser("staff@portal.example")
    letter = write()
    with clock.shifted(letters.GIVE_UP_AFTER + timedelta(minutes=1)):
        with recorded("letter.resent"):
            letters.resend_by_staff(staff, letter)
        assert letters.send_due() == 1
        with refused("wrong_state"):
            letters.resend_by_staff(staff, letter)
    assert "https://portal.example/x" in mail.outbox[0].body


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ("North Hospital", "North Hospital"),
        ("Dr. Mia O'Neil-Şahin", "Dr. Mia O'Neil-Şahin"),
        ("radiology-v1", "radiology-v1"),
        ("evil.example", "evil. example"),
        ("Win at https://evil.example/now?a=b", "Win at https evil. example now a b"),
        ("pay@evil.example", "pay evil. example"),
        ("<a href=x>here</a>", "a href x here a"),
        ("two\nlines\u2028more", "two lines more"),
    ],
)
def test_what_a_sender_chose_is_no_link_in_a_letter(chosen: str, words: str) -> None:
    assert letters.as_words(chosen) == words


@pytest.mark.parametrize(
    "told",
    [
        "The training of radiology-v1 in cardio is complete; the result is version 2.0.0.",
        "The training of m in f waits for north, south and west: round 0 of 10 has too few devices at work and waits"
        " until 14:50 UTC.",
        "The training of m in f failed: The weights grew beyond 1.5 (30 %), in “layer 1”.",
        "Dr. Mia O'Neil-Şahin quarantined hospital-001.",
    ],
)
def test_sentences_of_our_own_keep_their_punctuation(told: str) -> None:
    assert letters.as_sentence(told) == told


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("evil.example joined cardio 1.0.", "evil. example joined cardio 1.0."),
        ("Stopped: see https://evil.example:80/now?a=b.", "Stopped: see https: evil. example: 80 now?a=b."),
        ("mia@evil.example left.", "mia evil. example left."),
        ("evil.xn--p1ai, 10.0.0.1:80 and evil。example", "evil. xn--p1ai, 10. 0. 0. 1:80 and evil example"),
        ("write mailto:x or tel:1", "write mailto: x or tel: 1"),
        ("two\nlines\u2028more", "two lines more"),
    ],
)
def test_a_name_in_a_sentence_is_no_link(told: str, kept: str) -> None:
    assert letters.as_sentence(told) == kept


@given(st.text(max_size=80))
def test_no_sentence_holds_what_a_mail_program_links(told: str) -> None:
    kept = letters.as_sentence(told)
    assert not re.search(r"[@/<>]|\n|:[^\W\d]|\.[^\W\d]|\d\.\d+\.\d+\.\d", kept)
    assert letters.as_sentence(kept) == kept


def test_a_long_sentence_has_a_short_subject() -> None:
    long = (
        "The training of radiology-v1 in cardio waits for north and south: round 0 of 10 has too few devices at work."
    )
    news = {
        "lines": [{"sentence": long, "address": "/runs"}],
        "count": 1,
        "person": "",
        "title": "",
        "organization": "",
    }
    letter = Letter(to="olga@acme.example", news=news)
    letters.compose_news(letter)
    assert letter.subject == "The training of radiology-v1 in cardio waits for north and south"
    assert long in letter.text
    news["lines"] = [{"sentence": f"The model {'wound ' * 30}is shared.", "address": "/models"}]
    letters.compose_news(letter)
    assert letter.subject.endswith("wound…")
    assert len(letter.subject) <= letters.SUBJECT
