"""A rollout in a real browser: begun by the form, seen to widen, and seen to go back by itself, also on a phone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from fedportal_sdk import FederatedClient, FedportalError
from fedwire import routes
from tests.browser.conftest import Visit, keep, overflow
from tests.cast import PASSWORD
from tests.journeys.story import MODEL, Story
from tests.running import Portal

COUNT = 4


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """On a portal that looks after rollouts more often than in life."""
    with Portal(PRESENCE_SECONDS=1800, SWEEP_SECONDS="0.5") as portal:
        yield Story(portal, password=PASSWORD)


def nothing(state: dict[str, Any]) -> tuple[dict[str, Any], int, None]:
    return state, 1, None


@contextmanager
def fleet(story: Story, folder: Path, count: int = COUNT) -> Iterator[list[FederatedClient]]:
    """Devices of acme that wait for another model's run and install what they are told to."""
    clients = [
        FederatedClient(story.keys["acme"], f"ward-{n}", story.portal.url, folder / str(n)) for n in range(count)
    ]
    threads = []
    for client in clients:
        client.register()
        waits = threading.Thread(target=client.train_from_remote, args=("cardiology", nothing, None), daemon=True)
        waits.start()
        threads.append(waits)
    try:
        yield clients
    finally:
        for client in clients:
            client.close()
        for thread in threads:
            thread.join(30)


def holds(client: FederatedClient) -> bool:
    try:
        return client.installed(MODEL).version == "2.0.0"
    except FedportalError:
        return False


def shows(page: Page, **parts: str) -> None:
    """Wait until the page says so by itself."""
    for part, text in parts.items():
        expect(page.locator(f"[data-{part}]")).to_have_text(text)


def test_rollout_is_seen_to_widen_and_to_go_back_by_itself(visit: Visit, story: Story, tmp_path: Path) -> None:
    story.call("acme", "POST", routes.MODEL_VERSIONS.format(model=MODEL), {"initial": True, "version": "2.0.0"})
    with fleet(story, tmp_path) as clients:
        page = visit()
        page.goto(f"/models/{story.model}")
        page.get_by_role("link", name="Roll out").click()
        page.get_by_label("Step 1: percent of the devices").fill("25")
        page.get_by_role("button", name="Begin the rollout").click()
        shows(page, state="active", percent="25 %", done="1", waiting="0")
        phone = visit(width=360)
        phone.goto(page.url)
        page.get_by_label("Percentage of the devices").fill("50")
        with page.expect_response("**/progress"):
            pass
        expect(page.get_by_label("Percentage of the devices")).to_have_value("50")  # outlives a refresh
        page.get_by_role("button", name="Set percentage").click()
        expect(page.get_by_text("2 of 4 devices then get version 2.0.0")).to_be_visible()
        page.get_by_role("button", name="Widen").click()
        for one in (page, phone):
            shows(one, percent="50 %", done="2", waiting="0")
            assert overflow(one) <= 0
        for client in clients:
            if holds(client):
                client.report_health(MODEL, count=40, errors=40, latencies_ms=[3.0] * 40)
        for one in (page, phone):
            shows(one, state="rolled back", reason="80 of 80 predictions failed", done="2")
            expect(one.locator("[data-restored]")).to_be_visible()
            expect(one.locator("svg .limit-line").first).to_be_attached()
            assert overflow(one) <= 0
            keep(one, f"rollout-{one.viewport_size['width'] if one.viewport_size else 0}", tmp_path)
        page.get_by_role("navigation", name="Main").get_by_role("link", name="Rollouts").click()
        expect(page.get_by_role("row", name="radiology-v1 2.0.0")).to_contain_text("rolled back")
