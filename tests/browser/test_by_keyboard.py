"""The owner's whole story with the keyboard alone: sign in, found, invite, make a model, share it, start a run."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.hands import Hands
from tests.cast import PASSWORD


def test_an_owner_does_everything_without_a_mouse(visit: Visit) -> None:
    page = visit("")
    hands = Hands(page)
    page.goto("/sign-in")
    hands.write("Email", "olga@acme.example")
    hands.write("Password", PASSWORD)
    page.keyboard.press("Enter")

    hands.go("Federations")
    hands.follow("Found a federation")
    hands.write("Name", "night-circle")
    hands.press("Found it")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("night-circle")
    hands.write("Organization ids or email addresses", "somebody@far.example")
    hands.press("Invite")
    expect(page.get_by_role("main")).to_contain_text("somebody@far.example")

    hands.go("Models")
    hands.follow("New model")
    hands.write("Name", "cardiology")
    hands.choose("Architecture", "Logistic regression")
    hands.write("Input columns", "6")
    hands.press("Make the model")
    expect(heading).to_have_text("cardiology")
    hands.choose("Federation", "night-circle")
    hands.press("Share")
    expect(page.get_by_role("status").first).to_contain_text("cardiology")

    hands.follow("Train")
    hands.write("Rounds", "2")
    hands.press("Start training")
    expect(heading).to_contain_text("cardiology")
    expect(page.get_by_text("Waiting for")).to_be_visible()
    hands.follow("Stop")
    hands.press("Stop")
    expect(page.get_by_text("stopped").first).to_be_visible()
