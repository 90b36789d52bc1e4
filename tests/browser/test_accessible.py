"""Every page, wide and narrow, light and dark: axe-core finds nothing serious, all fits, Tab reaches everything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import every_page
from tests.browser.conftest import Cookies, account, keep, let_in
from tests.browser.every_page import Sight
from tests.running import Portal

SIGHTS, LOST = every_page.sights()
WIDTHS = (1280, 360)


class Readers:
    """People at their browsers, one for each width."""

    def __init__(self, browser: Browser, portal: Portal, keys_of_doors: Cookies) -> None:
        self._browser, self._portal, self._keys = browser, portal, keys_of_doors
        self._pages: dict[tuple[str, int], Page] = {}

    def page(self, who: str, width: int) -> Page:
        """The page at which somebody sits."""
        if (who, width) not in self._pages:
            context = self._browser.new_context(
                viewport={"width": width, "height": 800}, base_url=self._portal.url, has_touch=width < 500
            )
            page = self._pages[who, width] = context.new_page()
            page.set_default_timeout(20_000)
            if who:
                let_in(page, every_page.email_of(who), self._keys)
        return self._pages[who, width]

    def leave(self) -> None:
        for page in self._pages.values():
            page.context.close()


@pytest.fixture(scope="module")
def portal() -> Iterator[Portal]:
    with Portal() as running:
        yield running


@pytest.fixture(scope="module")
def world(portal: Portal) -> dict[str, str]:
    return every_page.populate(portal)


@pytest.fixture(scope="module")
def readers(browser: Browser, portal: Portal, world: dict[str, str], keys_of_doors: Cookies) -> Iterator[Readers]:
    readers = Readers(browser, portal, keys_of_doors)
    yield readers
    readers.leave()


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture of every page, for whoever wants to see them side by side."""
    return tmp_path_factory.mktemp("album", numbered=False)


def test_every_page_has_somebody_who_looks_at_it() -> None:
    assert LOST == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sight", SIGHTS, ids=lambda sight: sight.name)
def test_a_page_is_for_everybody(
    sight: Sight, width: int, readers: Readers, world: dict[str, str], album: Path
) -> None:
    page = readers.page(sight.who, width)
    page.emulate_media(color_scheme="light")
    page.goto(sight.address(world))
    if sight.who and sight.name != "sign-in":
        assert "/sign-in" not in page.url
    name = re.sub(r"\W+", "-", sight.name).strip("-")
    keep(page, f"{name}-{width}", album)
    wrong = [*every_page.frame(page), *every_page.violations(page), *every_page.keyboard(page)]
    page.emulate_media(color_scheme="dark")
    wrong += [f"dark: {one}" for one in every_page.violations(page, only="color-contrast")]
    assert wrong == []


@pytest.mark.parametrize("width", WIDTHS)
def test_open_menus_are_for_everybody(width: int, readers: Readers) -> None:
    page = readers.page("olga", width)
    page.goto("/models")
    account(page).press("Enter")
    assert page.get_by_role("button", name="Sign out").is_visible()
    assert [*every_page.violations(page), *every_page.frame(page)] == []
    page.keyboard.press("Escape")
    assert not page.get_by_role("button", name="Sign out").is_visible()
    assert account(page).evaluate("(one) => one === document.activeElement")
    if width == 360:
        menu = page.get_by_role("banner").locator("summary", has_text="Menu")
        menu.press("Enter")
        entry = page.get_by_role("navigation", name="Main").get_by_role("link", name="Runs")
        assert [*every_page.violations(page), *every_page.frame(page)] == []
        page.keyboard.press("Tab")
        assert page.get_by_role("link", name="Home").evaluate("(one) => one === document.activeElement")
        entry.press("Enter")
        page.wait_for_url("**/runs")


def test_menus_open_without_javascript(browser: Browser, readers: Readers, portal: Portal) -> None:
    cookies = readers.page("olga", 360).context.cookies()
    context = browser.new_context(
        viewport={"width": 360, "height": 800}, base_url=portal.url, java_script_enabled=False
    )
    context.add_cookies(cookies)  # type: ignore[arg-type]  # what one context gives another takes
    page = context.new_page()
    page.goto("/models")
    page.get_by_role("banner").locator("summary", has_text="Menu").click()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Runs").click()
    page.wait_for_url("**/runs")
    assert "UTC" in page.locator("time").first.inner_text()
    context.close()
