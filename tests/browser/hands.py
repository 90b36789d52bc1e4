"""Somebody who has a keyboard and no mouse."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

# More stops than any page has.
MOST_STOPS = 250
LOOK_AGAIN = 25


class Hands:
    """What one does on a page by keys alone: Tab to get somewhere, then keys.

    Nothing is clicked or filled from outside; what Tab does not reach cannot be done.
    """

    def __init__(self, page: Page) -> None:
        self.page = page

    def reach(self, target: Locator) -> Locator:
        """Press Tab until the focus is on `target`. Fails when Tab does not come there."""
        target.wait_for()
        for stop in range(MOST_STOPS):
            if stop % LOOK_AGAIN == 0:  # to find it by its name takes long; a live page may have made it anew
                one = target.element_handle()
            if one.evaluate("(one) => one === document.activeElement"):
                return target
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab never comes to {target} on {self.page.url}")

    def write(self, label: str, text: str) -> None:
        """Into the field with this label, instead of what stands there."""
        field = self.reach(self.page.get_by_role("main").get_by_label(label, exact=True))
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)
        expect(field).to_have_value(text)

    def choose(self, label: str, option: str) -> None:
        """The option that begins so, in the list with this label."""
        field = self.reach(self.page.get_by_role("main").get_by_label(label, exact=True))
        self.page.keyboard.type(option)
        expect(field.locator("option:checked")).to_have_text(option)

    def tick(self, label: str) -> None:
        """A box."""
        box = self.reach(self.page.get_by_role("main").get_by_label(label))
        self.page.keyboard.press("Space")
        expect(box).to_be_checked()

    def press(self, name: str, exact: bool = True) -> None:
        """A button of the page."""
        self.reach(self.page.get_by_role("main").get_by_role("button", name=name, exact=exact))
        self.page.keyboard.press("Enter")

    def follow(self, name: str, exact: bool = True) -> None:
        """A link of the page."""
        self.reach(self.page.get_by_role("main").get_by_role("link", name=name, exact=exact).first)
        self.page.keyboard.press("Enter")

    def go(self, name: str) -> None:
        """An entry of the main navigation."""
        self.reach(self.page.get_by_role("navigation", name="Main").get_by_role("link", name=name, exact=True))
        self.page.keyboard.press("Enter")

    def sign_in(self, email: str, password: str) -> None:
        """The form of the sign-in page: its first step where there is a second."""
        self.page.goto("/sign-in")
        self.write("Email", email)
        self.write("Password", password)
        self.press("Sign in")

    def sign_out(self) -> None:
        """By the account menu."""
        banner = self.page.get_by_role("banner")
        self.reach(banner.locator("summary", has_text="Account:"))
        self.page.keyboard.press("Enter")
        self.reach(banner.get_by_role("button", name="Sign out"))
        self.page.keyboard.press("Enter")
        expect(self.page.get_by_role("heading", level=1)).to_have_text("Sign in")
