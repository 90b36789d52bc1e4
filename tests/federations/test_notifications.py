"""People hear of what they chose, once and not two hundred times, and can end it from the letter."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from federations import tasks
from federations.models import Choice, Delivery, Letter, Membership, News, Organization, Person, Role
from federations.services import deliveries, letters, notifications, organizations, spreading, webhooks
from federations.services.notifications import KINDS
from fedportal.common import clock
from fedportal.common.transactions import unit
from tests.cast import Cast
from tests.federations.helpers import recorded, refused

RUN = "/runs/run_1"


@pytest.fixture
def cast(cast: Cast) -> Cast:
    """The cast, without the letters and news that its story wrote."""
    News.objects.all().delete()
    Letter.objects.all().delete()
    return cast


def tell(organization: Organization, kind: str = "run.finished", sentence: str = "The run is finished") -> None:
    with unit():
        notifications.tell(organization, kind, sentence=sentence, address=RUN, data={"run": "run_1"})
    spreading.spread_due()


def told(address: str) -> list[Letter]:
    return list(Letter.objects.filter(to=address).exclude(topic="").order_by("pk"))


def wish(person: Person, organization: Organization, **chosen: bool) -> None:
    """Choose kinds, named with _ for the dot; the rest stays."""
    rows = dict(notifications.wishes(person))[organization]
    kinds = {row.kind.name for row in rows if chosen.get(row.kind.name.replace(".", "_"), row.email)}
    notifications.choose(person, {organization.public_id: frozenset(kinds)})


def test_who_hears_is_decided_by_role_default_and_choice(cast: Cast) -> None:
    scientist = cast.colleague(cast.acme, Role.DATA_SCIENTIST)
    tell(cast.acme)
    assert len(told("olga@acme.example")) == 1
    assert len(told(scientist.email)) == 1
    assert told("otto@acme.example") == []  # a viewer does not hear of runs
    assert told("mia@metro.example") == []  # nor does another organization


def test_kinds_that_are_off_by_default_are_heard_by_choice_only(cast: Cast) -> None:
    assert not KINDS["device.registered"].email
    tell(cast.acme, "device.registered")
    assert told("olga@acme.example") == []
    wish(cast.olga, cast.acme, device_registered=True)
    tell(cast.acme, "device.registered")
    assert len(told("olga@acme.example")) == 1


def test_a_choice_ends_letters_of_that_kind_about_that_organization_only(cast: Cast) -> None:
    wish(cast.olga, cast.acme, run_finished=False)
    tell(cast.acme)
    assert told("olga@acme.example") == []
    tell(cast.acme, "run.waiting")
    assert len(told("olga@acme.example")) == 1


def test_who_was_locked_out_hears_nothing(cast: Cast) -> None:
    Person.objects.filter(pk=cast.olga.pk).update(is_active=False)
    tell(cast.acme)
    assert told("olga@acme.example") == []


def test_news_of_an_unknown_kind_or_outside_a_unit_are_a_mistake(cast: Cast) -> None:
    with pytest.raises(KeyError):
        tell(cast.acme, "weather.changed")


@pytest.mark.django_db(transaction=True)
def test_news_outside_a_unit_are_refused() -> None:
    with pytest.raises(RuntimeError):
        notifications.tell(Organization(), "run.finished", sentence="x", address="/")


def test_the_first_news_leave_at_once_and_a_burst_is_one_letter(cast: Cast) -> None:
    for number in range(200):
        tell(cast.acme, sentence=f"Run {number} is finished")
    first, held = told("olga@acme.example")
    assert (first.subject, first.held_until) == ("Run 0 is finished", None)
    assert (held.subject, held.text) == (KINDS["run.finished"].title, "")  # it is written when it leaves
    letters.complete(held)
    assert held.subject == f"199 news: {KINDS['run.finished'].title}"
    assert held.text.count("is finished.") == notifications.LINES
    assert f"And {199 - notifications.LINES} more of this kind." in held.text
    assert letters.send_due() >= 1
    assert not Letter.objects.get(pk=held.pk).sent_at
    with clock.shifted(notifications.QUIET + timedelta(seconds=1)):
        letters.send_due()
        assert Letter.objects.get(pk=held.pk).sent_at
        assert mail.outbox[-1].subject == held.subject
        assert f"And {199 - notifications.LINES} more of this kind." in mail.outbox[-1].body
        tell(cast.acme)
        (late,) = told("olga@acme.example")[2:]
        assert late.held_until is not None  # ten minutes after the digest, not before


def test_other_kinds_organizations_and_people_have_letters_of_their_own(cast: Cast) -> None:
    with unit():
        organizations.enter(cast.rival, cast.olga, Role.OWNER)
    for organization in (cast.acme, cast.rival):
        for kind in ("run.finished", "run.waiting"):
            tell(organization, kind)
    assert [letter.held_until for letter in told("olga@acme.example")] == [None] * 4
    assert len(told("rex@rival.example")) == 2


def test_news_after_a_quiet_time_leave_at_once_again(cast: Cast) -> None:
    tell(cast.acme)
    with clock.shifted(notifications.QUIET + timedelta(seconds=1)):
        tell(cast.acme)
    assert [letter.held_until for letter in told("olga@acme.example")] == [None, None]


def test_news_are_not_put_into_a_letter_that_is_being_sent(cast: Cast) -> None:
    tell(cast.acme)
    tell(cast.acme, sentence="A second run is finished")
    held = told("olga@acme.example")[1]
    assert held.held_until is not None
    with clock.frozen(held.held_until - timedelta(seconds=1)):
        # A sender whose clock is a little ahead has claimed it.
        Letter.objects.filter(pk=held.pk).update(next_attempt_at=held.held_until + letters.CLAIM)
        tell(cast.acme, sentence="A third run is finished")
    assert "third" not in str(Letter.objects.get(pk=held.pk).news)
    assert "third" in str(told("olga@acme.example")[2].news)


def test_a_burst_costs_a_handful_of_queries_each(cast: Cast) -> None:
    tell(cast.acme)
    tell(cast.acme)
    with CaptureQueriesContext(
        connection,
    ) as few:
        tell(cast.acme)
    for _ in range(30):
        tell(cast.acme)
    with CaptureQueriesContext(connection) as many:
        tell(cast.acme)
    assert len(many) == len(few) <= 14  # with the two savepoints of this test


def test_a_letter_says_how_to_end_it_and_keeps_no_link_once_sent(cast: Cast) -> None:
    tell(cast.acme, sentence="The run at https://evil.example/x is finished")
    (letter,) = told("olga@acme.example")
    assert "evil.example" not in letter.text
    assert "/account/notifications" in letter.text
    assert letter.unsubscribe in letter.text
    assert letter.unsubscribe in letter.html
    letters.send(letter.pk)
    (message,) = mail.outbox
    assert message.extra_headers["List-Unsubscribe"] == f"<{letter.unsubscribe}>"
    assert message.extra_headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    letter.refresh_from_db()
    assert (letter.news, letter.unsubscribe, letter.text) == ({}, "", "")


def link_of(cast: Cast) -> str:
    """The path of the link in a fresh letter to olga."""
    tell(cast.acme)
    return (
        told("olga@acme.example")[-1].unsubscribe.partition("/unsubscribe/")[1]
        + (told("olga@acme.example")[-1].unsubscribe.partition("/unsubscribe/")[2])
    )


def test_looking_at_the_link_ends_nothing_and_the_button_does(cast: Cast) -> None:
    link, stranger = link_of(cast), Client(enforce_csrf_checks=True)
    answer = stranger.get(link)
    assert answer.status_code == 200
    assert answer["Referrer-Policy"] == "no-referrer"
    assert KINDS["run.finished"].title in answer.content.decode()
    assert not Choice.objects.exists()
    with recorded("notifications.chosen", cast.olga.public_id):
        # As a mail program does it: no form seen, no cookie.
        done = stranger.post(link, {"List-Unsubscribe": "One-Click"})
    assert "No more of these letters" in done.content.decode()
    tell(cast.acme)
    assert len(told("olga@acme.example")) == 1
    before = Choice.objects.count()
    assert stranger.post(link).status_code == 200
    assert Choice.objects.count() == before


@pytest.mark.parametrize("change", [lambda link: link[:-1], lambda link: link + "x", lambda link: "/unsubscribe/x"])
def test_a_link_that_was_not_ours_ends_nothing(change: Any, cast: Cast) -> None:
    link = change(link_of(cast))
    assert Client().get(link).status_code == 404
    assert Client().post(link).status_code == 404
    assert not Choice.objects.exists()


def test_the_page_shows_what_a_role_may_hear_of_and_saves_it(cast: Cast) -> None:
    browser = cast.browser("olga")
    page = browser.get("/account/notifications").content.decode()
    assert page.count('type="checkbox"') == len(KINDS)
    assert ">default<" in page
    officer = cast.colleague(cast.acme, Role.PRIVACY_OFFICER)
    own = Client()
    own.force_login(officer, backend="django.contrib.auth.backends.ModelBackend")
    assert own.get("/account/notifications").content.decode().count('type="checkbox"') == sum(
        Role.PRIVACY_OFFICER in kind.roles for kind in KINDS.values()
    )
    acme = cast.acme.public_id
    with recorded("notifications.chosen", cast.olga.public_id):
        browser.post("/account/notifications", {"shown": acme, "email": [f"{acme} device.registered"]})
    kept = {row.kind.name for row in dict(notifications.wishes(cast.olga))[cast.acme] if row.email}
    assert kept == {"device.registered"}
    again = browser.get("/account/notifications").content.decode()
    assert len(re.findall(r'type="checkbox"[^>]* checked', again)) == 1


def test_saving_touches_neither_organizations_that_were_not_shown_nor_strange_ones(cast: Cast) -> None:
    rival = cast.rival.public_id
    cast.browser("olga").post("/account/notifications", {"shown": rival, "email": [f"{rival} run.finished"]})
    cast.browser("olga").post("/account/notifications", {})
    assert not Choice.objects.exists()


def test_a_test_letter_comes_to_oneself_and_not_without_end(cast: Cast) -> None:
    browser = cast.browser("otto")
    with recorded("notifications.tested", cast.otto.public_id):
        browser.post("/account/notifications/test")
    letter = Letter.objects.filter(to="otto@acme.example").latest("pk")
    assert letter.subject == "This is a test letter. Nothing happened"
    for _ in range(notifications.TEST_LETTERS - 1):
        notifications.send_test(cast.otto)
    with refused("too_many_tries"):
        notifications.send_test(cast.otto)


# --- telling is cheap, spreading is exact -----------------------------------------------------------------------------


def enter(organization: Organization, email: str, role: Role) -> None:
    person = Person.objects.create(email=email, name=email)
    Membership.objects.create(organization=organization, person=person, role=role)


def test_telling_a_hundred_organizations_costs_two_queries_each_at_most(cast: Cast) -> None:
    for number in range(100):
        organization = Organization.objects.create(name=f"member {number}")
        enter(organization, f"owner-{number}@member.example", Role.OWNER)
    members = list(Organization.objects.filter(name__startswith="member"))
    with CaptureQueriesContext(connection) as asked, unit():
        for organization in members:
            notifications.tell(organization, "run.finished", sentence="It is finished.", address=RUN)
    assert len(asked) <= 2 * len(members)
    assert Letter.objects.count() == 0
    assert spreading.spread_due() == len(members)
    assert Letter.objects.count() == len(members)


def test_spreading_to_many_people_asks_no_more_than_to_few(cast: Cast) -> None:
    def spread() -> int:
        tell(cast.acme)  # a letter each
        with unit():
            notifications.tell(cast.acme, "run.finished", sentence="Another one.", address=RUN)
        with CaptureQueriesContext(connection) as asked:
            spreading.spread_due()
        return len(asked)

    few = spread()
    for number in range(30):
        enter(cast.acme, f"{number}@acme.example", Role.DATA_SCIENTIST)
    with clock.shifted(3 * notifications.QUIET):
        assert spread() == few


def untold(cast: Cast) -> News:
    """News that nobody has spread."""
    with unit():
        notifications.tell(cast.acme, "run.finished", sentence="The run is finished.", address=RUN)
    return News.objects.get(spread_at=None)


def test_news_are_spread_once(cast: Cast) -> None:
    news = untold(cast)
    assert told("olga@acme.example") == []  # the act writes no letter
    assert spreading.spread(news.pk)
    assert not spreading.spread(news.pk)
    assert spreading.spread_due() == 0
    assert len(told("olga@acme.example")) == 1


def test_a_worker_that_dies_half_way_leaves_nothing_and_another_takes_the_news(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    webhooks.add(cast.actor("olga"), cast.acme, "https://hooks.example/x", [])
    News.objects.all().delete()
    first, put_all = untold(cast), letters.put_all

    def put_and_die(written: list[Letter]) -> None:
        put_all(written)
        assert Letter.objects.count() == Delivery.objects.count() == 1
        raise SystemExit

    with monkeypatch.context() as dying:
        dying.setattr(letters, "put_all", put_and_die)
        with pytest.raises(SystemExit):
            spreading.spread(first.pk)
    assert (told("olga@acme.example"), Delivery.objects.count()) == ([], 0)
    assert spreading.spread_due() == 1
    assert (len(told("olga@acme.example")), Delivery.objects.count()) == (1, 1)


def test_news_that_cannot_be_spread_hold_up_no_others(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = untold(cast)
    write = deliveries.write
    monkeypatch.setattr(deliveries, "write", lambda news: write(news) if news.pk != bad.pk else 1 / 0)
    with unit():
        notifications.tell(cast.metro, "run.finished", sentence="Theirs is finished.", address=RUN)
    assert spreading.spread_due() == 1
    assert len(told("mia@metro.example")) == 1
    monkeypatch.undo()
    assert spreading.spread_due() == 1
    assert len(told("olga@acme.example")) == 1


def test_news_of_a_kind_that_is_told_no_more_go_to_no_person(cast: Cast) -> None:
    News.objects.filter(pk=untold(cast).pk).update(kind="weather.changed")
    assert spreading.spread_due() == 1
    assert told("olga@acme.example") == []


def test_a_webhook_that_was_added_afterwards_does_not_hear_of_it(cast: Cast) -> None:
    untold(cast)
    webhooks.add(cast.actor("olga"), cast.acme, "https://hooks.example/x", [])
    assert spreading.spread_due() == 1
    assert not Delivery.objects.exists()


def test_old_news_are_forgotten_so_many_at_a_time_and_those_that_wait_are_not(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(5):
        tell(cast.acme)
    waiting = untold(cast)
    monkeypatch.setattr(spreading, "FORGET_AT_ONCE", 3)
    assert spreading.forget_old() == 0
    with clock.shifted(spreading.KEEP + timedelta(hours=1)):
        assert [spreading.forget_old() for _ in range(3)] == [3, 2, 0]
    assert News.objects.get() == waiting


def test_one_job_at_a_time_is_at_the_news(cast: Cast) -> None:
    news = untold(cast)
    with tasks._at_news:
        tasks.spread_news(news.pk)
    assert told("olga@acme.example") == []
    tasks.spread_news(news.pk)
    assert len(told("olga@acme.example")) == 1
