"""Letters: written in the unit that causes them, sent after its commit, tried again until they leave.

A letter is `templates/federations/letters/<kind>.txt` (its first line is the subject) and `<kind>.html`.
"""

from __future__ import annotations

import logging
import re
import textwrap
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.db import transaction
from django.template.loader import render_to_string

from federations import permissions
from federations.models import Letter, Organization, Person
from federations.services import audit
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=3)
# A sender that was killed between claim and answer: another may try after this.
CLAIM = timedelta(minutes=2)
BATCH = 50
# The longest subject that phones and lists of letters show whole, more or less.
SUBJECT = 90
# What sentences of ours are written with; of the rest nothing stays: marks that make an address ("@", "/", "<") and
# the full stops of other scripts, which browsers read as the dots of a host's name.
_MARKS = re.compile(r"[^\w\s.,;:!?()%+=…“”‘’'\"×·→–—\-]+")
_NUMBERS_LIKE_AN_ADDRESS = re.compile(r"\d+(?:\.\d+){3,}")
_doorbells: list[Any] = []


def write(to: str, kind: str, organization: Organization | None = None, **values: Any) -> Letter:
    """Put a letter into the outbox (inside the unit of the act) and ring for it to be sent after the commit."""
    letter = Letter(organization=organization, to=to)
    compose(letter, kind, **values)
    put(letter)
    return letter


def compose(letter: Letter, kind: str, **values: Any) -> None:
    """Write the letter's subject and bodies anew."""
    context = {"portal": settings.FEDPORTAL_PUBLIC_URL, **values}
    subject, _, text = render_to_string(f"federations/letters/{kind}.txt", context).partition("\n")
    letter.subject = " ".join(subject.split())[:200]
    letter.text = text.strip() + "\n"
    letter.html = render_to_string(f"federations/letters/{kind}.html", context)


def no_news(person: Person, title: str, organization: Organization | None) -> dict[str, Any]:
    """What a letter of this kind to this person holds before the first line."""
    return {"lines": [], "count": 0, "person": person.name, "title": title, "organization": str(organization or "")}


def compose_news(letter: Letter) -> None:
    """Write the subject and the bodies of a letter that tells what its `news` hold."""
    news = letter.news
    lines = [
        {"sentence": line["sentence"], "link": settings.FEDPORTAL_PUBLIC_URL + line["address"]}
        for line in news["lines"]
    ]
    compose(
        letter,
        "notice",
        person=as_words(news["person"]),
        title=news["title"],
        short=_short(lines[0]["sentence"]),
        lines=lines,
        link=lines[0]["link"],
        count=news["count"],
        more=news["count"] - len(lines),
        organization_name=as_words(news["organization"]),
        unsubscribe=letter.unsubscribe,
    )


def complete(letter: Letter) -> None:
    """Write the bodies of a letter that has gathered news until now, if nobody has yet."""
    if letter.news and not letter.text:
        compose_news(letter)


def put(letter: Letter) -> None:
    """Put a composed letter into the outbox, inside the unit of its act."""
    put_all([letter])


def put_all(composed: Sequence[Letter]) -> None:
    """Put composed letters into the outbox, inside the unit of their act; those that lie there have further news."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("a letter belongs into the unit of its act")
    fresh = [letter for letter in composed if letter.pk is None]
    there = [letter for letter in composed if letter.pk is not None]
    Letter.objects.bulk_create(fresh, batch_size=BATCH)
    Letter.objects.bulk_update(there, ["news"], batch_size=BATCH)
    at_once = [letter for letter in fresh if letter.held_until is None]  # the sweeper sends what is held
    if at_once:
        _ring(at_once[0])  # whoever comes for it takes the others along


def as_words(chosen: str) -> str:
    """What a sender chose, such as a name, as words: nothing in it becomes a link in the recipient's mail program.

    A stranger's portal must not carry anybody's advertisement under its own name.
    """
    words = re.sub(r"[^\w.'’\- ]+", " ", chosen)
    return " ".join(re.sub(r"\.(?=\w)", ". ", words).split())


def as_sentence(told: str) -> str:
    """A whole sentence with names in it, such that nothing in it becomes a link in the recipient's mail program.

    It keeps the punctuation, numbers, times and versions of our own words: only what could be an address falls apart.
    """
    words = _NUMBERS_LIKE_AN_ADDRESS.sub(lambda found: found[0].replace(".", ". "), _MARKS.sub(" ", told))
    words = re.sub(r"\.(?=[^\W\d])", ". ", words)  # no name of a host ends in a digit, so versions may stay
    words = re.sub(r"(?<!\d):(?=\S)|(?<=\d):(?=[^\s\d])", ": ", words)  # a time of day keeps its colon
    return re.sub(r" +(?=[,;:.](?:\s|$))", "", " ".join(words.split()))


def on_letter(bell: Any) -> None:
    """Call `bell(letter_pk)` when a letter is written, inside its unit."""
    _doorbells.append(bell)


def send_due() -> int:
    """Send what is due; how many left. A pass of the sweeper; runs safely in two processes at once."""
    sent = 0
    for pk in _due().values_list("pk", flat=True)[:BATCH]:
        sent += send(pk)
    return sent


def send(letter_pk: int) -> bool:
    """Send this letter if it is due and nobody else is at it. Whether it left; what fails is tried again later."""
    claimed = _due().filter(pk=letter_pk).update(next_attempt_at=clock.now() + CLAIM)
    letter = Letter.objects.filter(pk=letter_pk).first() if claimed else None
    if letter is None:
        return False
    try:
        complete(letter)
        _hand_over(letter)
    except Exception as error:  # whatever a mail server answers, the portal goes on and tries again
        _postpone(letter, error)
        return False
    # The bodies hold links that are secrets.
    letter.sent_at, letter.text, letter.html, letter.last_error = clock.now(), "", "", ""
    letter.news, letter.unsubscribe = {}, ""
    letter.attempts += 1
    letter.save(update_fields=["sent_at", "text", "html", "last_error", "news", "unsubscribe", "attempts"])
    return True


def resend_by_staff(by: Person, letter: Letter) -> None:
    """Have the letter tried again now; one that was given up is put into the outbox anew.

    Raises `forbidden`, and `wrong_state` for a letter that has left, or that somebody may be sending right now.
    """
    permissions.require_staff(by)
    with unit():
        locked = Letter.objects.select_for_update().get(pk=letter.pk)
        complete(locked)
        if locked.sent_at is not None or not locked.text:
            raise FedportalError("wrong_state", what="The letter", state="sent", hint="Its text is not kept.")
        if clock.now() < locked.next_attempt_at <= clock.now() + CLAIM:  # claimed, or tried soon: never sent twice
            state, hint = "being sent, or is about to be", "It is tried within two minutes."
            raise FedportalError("wrong_state", what="The letter", state=state, hint=hint)
        if locked.created_at <= clock.now() - GIVE_UP_AFTER:
            again = Letter(organization=locked.organization, to=locked.to, subject=locked.subject)
            again.text, again.html, again.unsubscribe = locked.text, locked.html, locked.unsubscribe
            put(again)
            locked.text = locked.html = locked.unsubscribe = ""
            locked.last_error = "given up, and written anew"
            locked.save(update_fields=["text", "html", "unsubscribe", "last_error"])
        else:
            Letter.objects.filter(pk=letter.pk).update(next_attempt_at=clock.now())
            _ring(letter)
        audit.record(letter.organization, by, "letter.resent", "", letter=letter.pk)


def _short(sentence: str) -> str:
    """The sentence as a subject: a long one without what explains it, and cut where even that is long."""
    if len(sentence) <= SUBJECT:
        return sentence
    start = re.split(r"[:;] ", sentence, maxsplit=1)[0]
    return textwrap.shorten(start, SUBJECT, placeholder="…")


def _ring(letter: Letter) -> None:
    for bell in _doorbells:
        bell(letter.pk)


def _due() -> Any:
    now = clock.now()
    return Letter.objects.filter(sent_at=None, next_attempt_at__lte=now, created_at__gt=now - GIVE_UP_AFTER)


def _hand_over(letter: Letter) -> None:
    message = EmailMultiAlternatives(letter.subject, letter.text, settings.DEFAULT_FROM_EMAIL, [letter.to])
    message.extra_headers["Auto-Submitted"] = "auto-generated"
    if letter.unsubscribe:
        message.extra_headers["List-Unsubscribe"] = f"<{letter.unsubscribe}>"
        message.extra_headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    if letter.html:
        message.attach_alternative(letter.html, "text/html")
    message.send()


def _postpone(letter: Letter, error: Exception) -> None:
    letter.attempts += 1
    wait = min(FIRST_WAIT * 2 ** (letter.attempts - 1), LONGEST_WAIT)
    letter.next_attempt_at = clock.now() + wait
    letter.last_error = f"{type(error).__name__}: {error}"[:300]
    letter.save(update_fields=["attempts", "next_attempt_at", "last_error"])
    log.warning("letter %d did not leave (%s); tried again in %s", letter.pk, type(error).__name__, wait)
