"""One's own account in a real browser by keys alone, with the letters that a real mail server gets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit, account, keep, overflow
from tests.browser.hands import Hands
from tests.cast import PASSWORD
from tests.federations import authenticator
from tests.postbox import Postbox
from tests.running import Portal

pytestmark = pytest.mark.browser
OLGA, NIA, NEW = "olga@acme.example", "nia@clinic.example", "an even longer password"


@pytest.fixture(scope="module")
def post() -> Iterator[Postbox]:
    """Where the letters arrive."""
    with Postbox() as box:
        yield box


@pytest.fixture(scope="module")
def story(post: Postbox) -> Iterator[SimpleNamespace]:
    """A portal with olga and a mail server, in place of the long story."""
    with Portal(EMAIL_URL=post.url) as portal:
        portal.found("acme", OLGA, PASSWORD)
        yield SimpleNamespace(portal=portal)


def test_a_newcomer_signs_up_by_the_letter_with_the_keyboard_alone(visit: Visit, post: Postbox, tmp_path: Path) -> None:
    page = visit("", 360)
    page.goto("/sign-up")
    page.get_by_label("Your name").focus()
    for word in ("Nia", NIA, PASSWORD, "clinic"):
        page.keyboard.type(word)
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Look into your letters")
    assert overflow(page) <= 0
    letter = post.next_to(NIA, "is your code")
    assert letter.code in letter.html
    page.keyboard.type("0000-0000")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not right")
    page.keyboard.type(letter.code)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Welcome")
    expect(page.get_by_role("heading", level=1)).to_contain_text("clinic")
    keep(page, "newcomer", tmp_path)


def test_a_second_factor_is_turned_on_asked_for_recovered_from_and_turned_off(
    visit: Visit, post: Postbox, tmp_path: Path
) -> None:
    page = visit(OLGA, 360, dark=True, anew=True)
    hands = Hands(page)
    page.goto("/account/second-factor")
    hands.follow("Turn it on")
    picture = page.get_by_role("img", name=re.compile("QR code"))
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    secret = page.locator("#secret").inner_text()
    assert overflow(page) <= 0
    keep(page, "second-factor", tmp_path)
    hands.write("Code", authenticator.code(secret))
    hands.press("Turn on")
    codes = page.locator("#codes").inner_text().split()
    assert len(codes) == 10
    with page.expect_download() as download:
        hands.follow("Download")
    kept = Path(download.value.path()).read_text()
    assert all(code in kept for code in codes)
    hands.follow("I have kept them")
    expect(page.get_by_text("10 of them are not used")).to_be_visible()
    assert post.next_to(OLGA, "Your second factor is on").html
    hands.sign_out()

    hands.sign_in(OLGA, PASSWORD)
    expect(page.get_by_role("heading", level=1)).to_have_text("Second factor")
    page.goto("/models")  # nothing opens before the second step
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    hands.sign_in(OLGA, PASSWORD)
    hands.write("Code", authenticator.code(secret, 1))  # the present one was used, and none is taken twice
    hands.press("Go on")
    account(page).wait_for()
    hands.sign_out()

    hands.sign_in(OLGA, PASSWORD)
    hands.write("Code", codes[4])
    hands.press("Go on")
    account(page).wait_for()
    assert "9 are left" in post.next_to(OLGA, "A recovery code was used").text

    page.goto("/account/second-factor")
    hands.follow("Turn off")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Turn the second factor off?")
    hands.press("Turn off")
    expect(page.get_by_role("status")).to_contain_text("is off")
    assert post.next_to(OLGA, "Your second factor is off").text
    hands.sign_out()
    hands.sign_in(OLGA, PASSWORD)
    account(page).wait_for()


def test_a_forgotten_password_is_chosen_anew_by_the_letter_and_ends_what_the_old_one_opened(
    visit: Visit, post: Postbox
) -> None:
    old, page = visit(OLGA, anew=True), visit("")
    hands = Hands(page)
    page.goto("/sign-in")
    hands.follow("Forgot the password?")
    hands.write("Email", OLGA)
    hands.press("Send the letter")
    expect(page.get_by_role("status")).to_contain_text("a letter with a link is on its way")
    link = post.next_to(OLGA, "Choose a new password").link
    page.goto(link)
    hands.write("New password", NEW)
    hands.press("Set the password")
    expect(page.get_by_role("status")).to_contain_text("new password is set")
    assert post.next_to(OLGA, "Your password was changed").text
    page.goto(link)
    expect(page.get_by_role("heading", level=1)).to_have_text("There is no such page")
    hands.sign_in(OLGA, NEW)
    account(page).wait_for()
    old.goto("/account")
    expect(old.get_by_role("heading", level=1)).to_have_text("Sign in")
    Hands(old).sign_in(OLGA, PASSWORD)
    expect(old.get_by_role("alert")).to_contain_text("do not match")


def test_another_browser_is_signed_out_from_the_list(visit: Visit) -> None:
    here, there = visit(""), visit("")
    for page in (here, there):
        Hands(page).sign_in(OLGA, NEW)
        account(page).wait_for()
    here.goto("/account/sessions")
    expect(here.get_by_text("this one")).to_be_visible()
    here.get_by_role("link", name="Sign out everywhere else").click()
    here.get_by_role("button", name="Sign out", exact=True).last.click()
    expect(here.get_by_role("status")).to_contain_text("signed out")
    there.goto("/account")
    expect(there.get_by_role("heading", level=1)).to_have_text("Sign in")
    here.goto("/account")
    expect(here.get_by_role("heading", level=1)).to_have_text("Your account")
