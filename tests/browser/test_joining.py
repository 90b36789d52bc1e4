"""A newcomer joins by the letter: reads the agreement, makes an account on the way, lands on the federation.

Around it what goes wrong: the wrong person, a link that was used, an agreement that a member has not accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import overflow, sign_in
from tests.cast import PASSWORD
from tests.journeys.story import FEDERATION
from tests.postbox import Postbox
from tests.running import Portal

TITLE = "Study agreement of the hospitals"
TEXT = "1. Data stay on the members' devices.\n2. Every member may use the models."
GINA, MIA = "gina@guest.example", "mia@metro.example"


@pytest.fixture(scope="module")
def post() -> Iterator[Postbox]:
    with Postbox() as post:
        yield post


@pytest.fixture(scope="module")
def portal(post: Postbox) -> Iterator[Portal]:
    """acme with olga and metro with mia, who can sign in, and a mail server."""
    with Portal(EMAIL_URL=post.url) as portal:
        portal.found("acme", "olga@acme.example", PASSWORD)
        portal.found("metro", MIA, PASSWORD)
        yield portal


@pytest.fixture
def arrive(browser: Browser, portal: Portal) -> Iterator[Any]:
    """`arrive(email, width)`: a fresh browser, in which that person is signed in."""
    contexts = []

    def open_page(email: str = "", width: int = 1280) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, base_url=portal.url)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        if email:
            sign_in(page, email)
        return page

    yield open_page
    for context in contexts:
        context.close()


def founded(page: Page) -> None:
    """olga founds the federation with its agreement and invites gina by letter, mia too."""
    page.goto("/federations/new")
    page.get_by_label("Name").fill(FEDERATION)
    page.get_by_text("Add a study agreement now").click()
    page.get_by_label("Title").fill(TITLE)
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_label("Last day (optional)").fill("2999-12-31")
    page.get_by_role("button", name="Found it").click()
    expect(page.get_by_role("status")).to_contain_text("Invite the others next")
    page.get_by_label("Organization ids or email addresses").fill(f"{GINA}\n{MIA}")
    page.get_by_role("button", name="Invite", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text(GINA)
    # With a mail server only the letter holds the link.
    expect(page.get_by_text("/invitations/")).to_have_count(0)
    expect(page.get_by_role("button", name="Send again")).to_have_count(2)


def test_a_newcomer_joins_by_the_letter(arrive: Any, post: Postbox) -> None:
    olga = arrive("olga@acme.example")
    founded(olga)
    federation = olga.url.partition("#")[0]
    link = post.next_to(GINA, FEDERATION).link

    wrong = arrive(MIA, 360)
    wrong.goto(link)
    expect(wrong.get_by_role("heading", level=1)).to_have_text("This invitation is for another email address")
    assert overflow(wrong) <= 0
    wrong.get_by_role("button", name="Sign out and go on as").click()
    expect(wrong.get_by_role("heading", name="Create your account")).to_be_visible()

    gina = arrive(width=360)
    gina.goto(link)
    expect(gina.get_by_role("heading", level=1)).to_have_text(f"acme invites you to {FEDERATION}")
    expect(gina.get_by_role("region", name="Text of the study agreement")).to_contain_text("Data stay on the members")
    assert overflow(gina) <= 0
    gina.get_by_label("Your name").fill("Gina")
    gina.get_by_label("Password").fill(PASSWORD)
    gina.get_by_label("Your organization").fill("guest-clinic")
    gina.get_by_role("button", name="Accept and join").click()
    assert gina.url == link  # the box is required, and the browser says so
    gina.get_by_label("I have read version 1").check()
    gina.get_by_role("button", name="Accept and join").click()
    gina.wait_for_url(federation)
    expect(gina.get_by_role("status")).to_contain_text(f"Welcome to {FEDERATION}")
    expect(gina.get_by_text("accepted by your organization")).to_be_visible()
    assert overflow(gina) <= 0

    olga.goto(federation)
    row = olga.get_by_role("row", name=re.compile("guest-clinic"))
    expect(row).to_contain_text("active")
    expect(row).to_contain_text("version 1")

    again = arrive()
    again.goto(link)
    expect(again.get_by_role("main")).to_contain_text("already used")
    gina.goto(link)
    gina.wait_for_url(federation)


def test_a_member_accepts_the_next_version(arrive: Any, post: Postbox) -> None:
    """After the newcomer's story: metro joins with its account, and then the owner publishes version 2."""
    mia = arrive(MIA)
    mia.goto(post.next_to(MIA, FEDERATION).link)
    mia.get_by_label("I have read version 1").check()
    mia.get_by_role("button", name="Accept and join").click()
    mia.get_by_role("link", name="Read it").wait_for()
    federation = mia.url

    olga = arrive("olga@acme.example")
    olga.goto(f"{federation}/agreements")
    olga.get_by_role("link", name="Publish a new version").click()
    olga.get_by_label("Text", exact=True).fill(f"{TEXT}\n3. Results are published.")
    olga.get_by_role("button", name="Publish version 2").click()
    expect(olga.get_by_role("status")).to_contain_text("Version 2 is published")

    mia.goto(federation)
    expect(mia.get_by_text("not accepted by your organization")).to_be_visible()
    mia.get_by_role("link", name="Read and accept").click()
    expect(mia.get_by_role("region", name="Text of the study agreement")).to_contain_text("Results are published")
    mia.get_by_label("I have read version 2").check()
    mia.get_by_role("button", name="Accept", exact=True).click()
    expect(mia.get_by_role("status")).to_contain_text("Accepted version 2")
