"""What a library brings is held to the same policy as our own pages."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Visit


def test_the_description_of_the_api_opens_without_inline_script_or_style(visit: Visit) -> None:
    page = visit(email="")  # and whatever the browser refuses to run fails the test
    page.goto("/api/docs")
    # Of so many addresses only those are drawn that are in sight.
    address = page.get_by_text("/api/v1/api-keys", exact=True).first
    expect(address).to_be_visible()
    address.click()
    expect(page.get_by_role("button", name="Try it out")).to_be_visible()
