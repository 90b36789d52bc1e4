"""A webhook that is added by keys alone hears of what happens, and the receiver of docs/webhooks.md believes it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, keep, overflow
from tests.browser.hands import Hands
from tests.cast import PASSWORD
from tests.journeys.documentation import block
from tests.journeys.story import Story
from tests.running import ROOT, Portal, free_port

PORT = free_port()
PLACE = f"127.0.0.1:{PORT}"


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """A portal that may call the receiver of this test."""
    with Portal(WEBHOOK_TEST_HOSTS=PLACE, SWEEP_SECONDS="1") as portal:
        yield Story(portal, password=PASSWORD)


@contextmanager
def documented_receiver(secret: str, heard: Path) -> Iterator[None]:
    """The program of docs/webhooks.md, as it stands there; what it prints goes to `heard`."""
    program = block("docs/webhooks.md", "python", "verify").text
    environment = {**os.environ, "WEBHOOK_SECRET": secret, "PORT": str(PORT), "PYTHONPATH": str(ROOT / "sdk" / "src")}
    with open(heard, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program], env=environment, stdout=output, stderr=subprocess.DEVNULL
        )
        try:
            _wait_until_it_listens()
            yield
        finally:
            process.kill()
            process.wait()


def _wait_until_it_listens() -> None:
    give_up = time.monotonic() + 90
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", PORT)) == 0:
                return
        assert time.monotonic() < give_up, "the receiver did not start"
        time.sleep(0.1)


def wait_for(words: str, heard: Path, seconds: float = 90.0) -> None:
    """Until the receiver has printed these words."""
    give_up = time.monotonic() + seconds
    while words not in heard.read_text():
        assert time.monotonic() < give_up, f"the receiver heard only: {heard.read_text()!r}"
        time.sleep(0.1)


def reload_until(page: Page, words: str, seconds: float = 90.0) -> None:
    """As the message says: reload this page to see how it went."""
    give_up = time.monotonic() + seconds
    while not page.get_by_role("table").get_by_text(words).first.is_visible():
        assert time.monotonic() < give_up, page.get_by_role("table").inner_text()
        time.sleep(0.3)
        page.reload()


def test_a_webhook_added_on_the_page_is_delivered_and_its_signature_verifies(
    visit: Visit, story: Story, tmp_path: Path
) -> None:
    page, heard = visit(), tmp_path / "heard"
    hands = Hands(page)
    page.goto("/webhooks")
    hands.write("Address", "https://10.0.0.7/inside")
    hands.press("Add the webhook")
    expect(page.get_by_role("alert")).to_contain_text("not a public address")
    hands.write("Address", f"http://{PLACE}/hook")
    hands.press("Add the webhook")
    secret = page.locator("#secret").inner_text()
    assert secret.startswith("whs_")
    keep(page, "added", tmp_path)

    # Nobody listens yet: the page says so, and what waits arrives once somebody does.
    hands.press("Send a test")
    reload_until(page, "tried again")
    expect(page.get_by_text("The connection failed").first).to_be_visible()
    with documented_receiver(secret, heard):
        hands.press("Send again")
        wait_for("test This is a test delivery", heard)
        reload_until(page, "delivered")
        assert secret not in page.content()
        keep(page, "delivered", tmp_path)

        # With another secret the receiver refuses what it gets.
        hands.follow("Renew the secret")
        hands.press("Renew it")
        assert page.locator("#secret").inner_text() != secret
        hands.press("Send a test")
        reload_until(page, "The receiver answered 400.")
    own = page.url
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 900})
        for where in (own, "/webhooks", "/account/notifications"):
            page.goto(where)
            assert overflow(page) <= 0
            keep(page, f"{width}-{where.rpartition('/')[2]}", tmp_path)
