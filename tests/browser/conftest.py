"""A real browser on a real portal. Without Chromium or Chrome these tests are skipped, and `dev.py test` says so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from tests.cast import PASSWORD
from tests.journeys.story import Story
from tests.running import Portal

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What a browser says by itself when the portal is away, which some tests bring about.
AWAY = ("ERR_CONNECTION", "WebSocket connection to", "Failed to load resource")
Visit = Callable[..., Page]
Cookies = dict[str, list[Any]]  # by email


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The browser that is installed on this machine. It must end before other tests run: it holds an event loop."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """A federation of three with a shared model; olga, mia and vera can sign in."""
    # Devices that took part in one test still count as there in the next, however long a slow machine takes to it.
    with Portal(PRESENCE_SECONDS=1800) as portal:
        yield Story(portal, password=PASSWORD)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the devices of `story` keep their keys and patients: they are the same devices in every test."""
    return tmp_path_factory.mktemp("fleet")


@pytest.fixture(scope="module")
def keys_of_doors() -> Cookies:
    """What a browser got when somebody signed in; others are let in with it."""
    return {}


@pytest.fixture
def visit(browser: Browser, story: Story, keys_of_doors: Cookies) -> Iterator[Visit]:
    """`visit(email, width=…, dark=…)` is a page on which that person is signed in, by the form only the first time.

    With `anew=True` they sign in by the form again, as tests need that end sessions. Whatever the browser complains
    about (scripts, security policy, missing files) fails the test.
    """
    complaints: list[str] = []
    contexts: list[Any] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type == "error" and not any(word in message.text for word in AWAY):
            complaints.append(message.text)

    def arrive(
        email: str = "olga@acme.example", width: int = 1280, *, dark: bool = False, anew: bool = False, **more: Any
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            base_url=story.portal.url,
            **more,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if email and anew:
            sign_in(page, email)
        elif email:
            let_in(page, email, keys_of_doors)
        return page

    yield arrive
    for context in contexts:
        context.close()
    assert complaints == []


def sign_in(page: Page, email: str, password: str = PASSWORD) -> None:
    """Sign in by the form."""
    page.goto("/sign-in")
    page.get_by_label("Email").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    account(page).wait_for()


def let_in(page: Page, email: str, known: Cookies) -> None:
    """Signed in as somebody is who signed in before; nothing is opened yet then."""
    if email not in known:
        sign_in(page, email)
        known[email] = page.context.cookies()
    else:
        page.context.add_cookies(known[email])


def account(page: Page) -> Locator:
    """What opens the account menu; a click on it shows "Your account", "Light / dark" and "Sign out"."""
    return page.get_by_role("banner").locator("summary", has_text="Account:")


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def keep(page: Page, name: str, tmp_path: Path) -> None:
    """A picture of the page in the test's folder, for whoever asks for pictures by PICTURES=1 in the environment."""
    if os.environ.get("PICTURES"):
        page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
