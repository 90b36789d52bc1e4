"""The first page: what waits, what goes on, and the first steps of a new owner and a new member."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from federations.models import Agreement, Device, Federation, Policy, Role
from federations.models.tries import Tries
from federations.services import devices, federations, invitations
from fedportal.common import clock
from registry.services import models, versions
from tests.cast import Cast, register
from tests.training.conftest import LOGISTIC, Site, Stage
from training import first_steps
from training.agenda import agenda
from training.models import Assignment
from training.services import opening, runs, stalls


def text_of(browser: Any, address: str = "/") -> str:
    answer = browser.get(address)
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode().partition("<main")[2]).split())


def now(cast: Cast, name: str) -> dict[str, str]:
    """The title of the step that is next, of each list that somebody sees."""
    return {one.name: one.now.title for one in first_steps.lists_for(cast.actor(name)) if one.now}


def test_a_new_owner_is_led_from_founding_to_the_result(stage: Stage) -> None:
    cast, rex = stage.cast, stage.cast.actor("rex")
    assert now(cast, "rex") == {"owner": "Found a federation"}
    federation = federations.found(rex, name="rival-circle")
    assert now(cast, "rex") == {"owner": "Invite the others"}
    federations.invite(rex, federation, emails=["somebody@far.example"])
    assert now(cast, "rex") == {"owner": "Make a model"}
    model = models.create(rex, name="net", architecture=LOGISTIC)
    assert now(cast, "rex") == {"owner": "Make a model"}  # it has no version yet
    versions.initial(rex, model)
    assert now(cast, "rex") == {"owner": "Share the model with the federation"}
    models.share(rex, model, federation)
    assert now(cast, "rex") == {"owner": "Start a run"}
    site = Site(Device.objects.get(public_id=register(cast.keys["rex"], "rival-001")["id"]), samples=10, move=1.0)
    site.seen()
    run = runs.start(rex, model, rounds=1)
    assert now(cast, "rex") == {"owner": "See the result"}
    site.answer()
    run.refresh_from_db()
    while run.state == "running":
        site.answer()
        run.refresh_from_db()
    assert now(cast, "rex") == {}


def test_a_new_member_is_led_from_joining_to_watching(stage: Stage) -> None:
    cast, vera = stage.cast, stage.cast.actor("vera")
    assert now(cast, "vera") == {"member": "Join healthcare-consortium"}
    agreement = Agreement.objects.create(
        organization=cast.acme, federation=cast.federation, version=1, title="Study", text="Be kind."
    )
    federations.join(vera, cast.federation)
    assert now(cast, "vera") == {"member": "Accept the study agreement"}
    agreement.acceptances.create(organization=cast.valley, person=cast.vera)
    assert now(cast, "vera") == {"member": "Set your policy"}
    Policy.objects.create(organization=cast.valley)
    assert now(cast, "vera") == {"member": "Register a device"}
    site = stage.site(cast.valley, "valley-001")
    assert now(cast, "vera") == {"member": "Watch your devices take part"}
    stage.start(rounds=1)
    site.answer()
    assert now(cast, "vera") == {}


def test_a_federation_without_an_agreement_asks_nobody_to_accept_one(cast: Cast) -> None:
    titles = [step.title for one in first_steps.lists_for(cast.actor("vera")) for step in one.steps]
    assert "Set your policy" in titles
    assert "Accept the study agreement" not in titles


def test_an_owner_who_also_joined_elsewhere_sees_both_lists(cast: Cast) -> None:
    federations.found(cast.actor("vera"), name="valley-circle")
    assert set(now(cast, "vera")) == {"owner", "member"}


def test_a_step_one_may_not_do_says_who_may(cast: Cast) -> None:
    viewer = cast.colleague(cast.rival, Role.VIEWER)
    browser = cast.browser("rex")
    assert 'href="/federations/new"' in browser.get("/").content.decode()
    browser.force_login(viewer, backend="django.contrib.auth.backends.ModelBackend")
    page = browser.get("/").content.decode()
    assert 'href="/federations/new"' not in page
    assert "An owner or an admin of rival may do this. In rival that is Rex (owner)" in text_of(browser)


def test_a_list_is_hidden_for_one_person_and_organization_and_can_be_seen_again(cast: Cast) -> None:
    browser = cast.browser("rex")
    assert "First steps" in text_of(browser)
    assert browser.post("/first-steps/hide", {"list": "owner"}).status_code == 302
    hidden = text_of(browser)
    assert "Found a federation" not in hidden
    assert "Show the first steps again" in hidden
    assert "Found a federation" in text_of(browser, "/?steps=all")
    browser.force_login(cast.vera, backend="django.contrib.auth.backends.ModelBackend")
    assert "First steps" in text_of(browser)  # another person at the same browser
    assert browser.post("/first-steps/hide", {"list": "nothing"}).status_code == 404


def kinds(cast: Cast, name: str) -> list[str]:
    return [item.kind for item in agenda(cast.actor(name))]


def test_an_invitation_waits_for_who_may_answer_and_others_learn_who_that_is(cast: Cast) -> None:
    assert kinds(cast, "vera") == ["invitation"]
    viewer = cast.colleague(cast.valley, Role.VIEWER)
    browser = cast.browser("vera")
    assert "Look and answer" in text_of(browser)
    browser.force_login(viewer, backend="django.contrib.auth.backends.ModelBackend")
    page = text_of(browser)
    assert "acme invites your organization to healthcare-consortium" in page
    assert "Look and answer" not in page
    assert "In valley that is Vera (owner)" in page


def test_a_letter_waits_until_it_is_answered(cast: Cast) -> None:
    sent = federations.invite(cast.actor("olga"), cast.federation, emails=["rex@rival.example"])
    assert kinds(cast, "rex") == ["letter"]
    assert "acme invites you to healthcare-consortium: open the link" in text_of(cast.browser("rex"))
    invitations.revoke(cast.actor("olga"), sent.letters[0].invitation)
    assert kinds(cast, "rex") == []


def test_an_agreement_waits_for_members_until_they_accept_or_it_ends(cast: Cast) -> None:
    said = {"organization": cast.acme, "federation": cast.federation, "title": "Study", "text": "Be kind."}
    first = Agreement.objects.create(version=1, **said)
    assert kinds(cast, "mia") == ["agreement"]
    first.acceptances.create(organization=cast.metro, person=cast.mia)
    assert kinds(cast, "mia") == []
    Agreement.objects.create(version=2, expires_at=clock.now() + timedelta(days=1), **said)
    assert kinds(cast, "mia") == ["agreement"]
    with clock.shifted(timedelta(days=2)):
        assert kinds(cast, "mia") == []


def test_a_key_that_ends_soon_waits_for_its_owner(cast: Cast) -> None:
    # days since it was made, days until it ends, how many devices it may register
    keys = {
        "soon": (80, 3, None),
        "later": (80, 60, None),
        "gone": (80, -1, None),
        "fresh": (0, 7, 1),
        "spent": (6, 1, 0),
    }
    for name, (age, days, limit) in keys.items():
        cast.acme.api_keys.create(
            person=cast.otto,
            name=name,
            lookup=name.ljust(8, "0"),
            device_limit=limit,
            created_at=clock.now() - timedelta(days=age),
            expires_at=clock.now() + timedelta(days=days),
        )
    assert [item.text for item in agenda(cast.actor("otto"))] == ["The key soon of Otto ends."]


def test_a_run_without_enough_devices_and_a_paused_one_wait(stage: Stage) -> None:
    run = stage.start(rounds=1, min_participants=2)
    assert "waits for 2 more devices" in text_of(stage.cast.browser("mia"))
    runs.pause(stage.cast.actor("olga"), run)
    assert "is paused" in text_of(stage.cast.browser("mia"))
    runs.stop(stage.cast.actor("olga"), run)
    assert "run" not in kinds(stage.cast, "mia")


@pytest.mark.parametrize(
    ("kind", "state"), [("evaluate", "expired"), ("statistics", "declined"), ("train", "declined")]
)
def test_a_run_waits_only_where_further_devices_would_be_let_in(stage: Stage, kind: str, state: str) -> None:
    stage.three()
    run = stage.start(rounds=1, min_participants=2)
    run.rounds.update(kind=kind)
    Assignment.objects.filter(round__run=run).update(state=state)
    waits = bool(opening.short_of_devices())
    assert waits == (kind == "train")
    assert ("run" in kinds(stage.cast, "mia")) == waits
    with clock.shifted(2 * stalls.STALL):
        assert bool(stalls.untold()) == waits


def test_quarantined_devices_wait_for_who_manages_devices(cast: Cast) -> None:
    devices.quarantine(cast.actor("mia"), cast.device)
    assert "device" in kinds(cast, "mia")
    viewer = cast.colleague(cast.metro, Role.VIEWER)
    browser = cast.browser("mia")
    browser.force_login(viewer, backend="django.contrib.auth.backends.ModelBackend")
    assert "quarantine" not in text_of(browser)


def test_the_first_page_asks_as_many_questions_for_many_things_as_for_few(stage: Stage) -> None:
    browser, cast = stage.cast.browser("mia"), stage.cast

    def questions() -> int:
        with CaptureQueriesContext(connection) as caught:
            assert browser.get("/").status_code == 200
        return len(caught)

    def grow(some: range) -> None:
        Tries.objects.all().delete()  # so many letters in a day are refused otherwise
        for number in some:
            federation = federations.found(cast.actor("rex"), name=f"circle-{number}")
            federations.invite(cast.actor("rex"), federation, org_ids=[cast.metro.public_id])
            if number % 2:
                federations.join(cast.actor("mia"), federation)
            Agreement.objects.create(
                organization=cast.rival, federation=federation, version=1, title=f"Study {number}", text="."
            )
            register(cast.keys["mia"], f"metro-{number:03d}")
            runs.start(cast.actor("olga"), stage.model, federation=cast.federation, rounds=1, min_participants=5)

    grow(range(3))
    questions()  # the first request fills Django's own caches
    few = questions()
    grow(range(3, 12))
    assert Federation.objects.count() > 10
    assert questions() == few
