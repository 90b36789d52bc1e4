"""The owner's whole story with the keyboard alone: sign in, found, invite, make a model, share it, start a run."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import Visit
from tests.cast import PASSWORD

MOST_TABS = 90


class Hands:
    """Somebody who has no mouse. Every act begins with Tab from where the focus is."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def go_to(self, target: Locator) -> Locator:
        """Press Tab until the focus is there."""
        target.wait_for()
        for _ in range(MOST_TABS):
            if target.evaluate("(one) => one === document.activeElement"):
                return target
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{MOST_TABS} times Tab do not lead to {target}")

    def press(self, role: str, name: str, *, within: str = "main") -> None:
        """Go to a button or link and press Enter."""
        place = self.page.get_by_role(within)  # type: ignore[arg-type]  # "main" or "banner"
        self.go_to(place.get_by_role(role, name=name, exact=True).first)  # type: ignore[arg-type]
        self.page.keyboard.press("Enter")

    def fill(self, label: str, text: str) -> None:
        """Go to a field and type over what is in it."""
        self.go_to(self.page.get_by_role("main").get_by_label(label).first)
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.type(text)

    def choose(self, label: str, option: str) -> None:
        """Go to a list and type the beginning of the option."""
        chosen = self.go_to(self.page.get_by_role("main").get_by_label(label).first)
        self.page.keyboard.type(option)
        assert option in chosen.evaluate("(one) => one.selectedOptions[0].textContent")


def test_an_owner_does_everything_without_a_mouse(visit: Visit) -> None:
    page = visit("")
    hands = Hands(page)
    page.goto("/sign-in")
    hands.fill("Email", "olga@acme.example")
    hands.fill("Password", PASSWORD)
    page.keyboard.press("Enter")

    hands.press("link", "Federations", within="banner")
    hands.press("link", "Found a federation")
    hands.fill("Name", "night-circle")
    hands.press("button", "Found it")
    heading = page.get_by_role("heading", level=1)
    expect(heading).to_have_text("night-circle")
    hands.fill("Organization ids or email addresses", "somebody@far.example")
    hands.press("button", "Invite")
    expect(page.get_by_role("main")).to_contain_text("somebody@far.example")

    hands.press("link", "Models", within="banner")
    hands.press("link", "New model")
    hands.fill("Name", "cardiology")
    hands.choose("Architecture", "Logistic")
    hands.fill("Input columns", "6")
    hands.press("button", "Make the model")
    expect(heading).to_have_text("cardiology")
    hands.choose("Federation", "night-circle")
    hands.press("button", "Share")
    expect(page.get_by_role("status").first).to_contain_text("cardiology")

    hands.press("link", "Train")
    hands.fill("Rounds", "2")
    hands.press("button", "Start training")
    expect(heading).to_contain_text("cardiology")
    expect(page.get_by_text("Waiting for")).to_be_visible()
    hands.press("link", "Stop")
    hands.press("button", "Stop")
    expect(page.get_by_text("stopped").first).to_be_visible()
