"""An experiment in a real browser, with devices that report: planned, decided, and promoted; on a phone too."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from fedwire import routes
from tests.browser.conftest import Visit, keep, overflow
from tests.browser.test_rollouts import fleet, shows, story
from tests.journeys.story import MODEL, Story

__all__ = ["story"]
PATIENCE_SECONDS = 60


def reload_until(page: Page, seen: Callable[[], bool]) -> None:
    """Look again until it is seen; the page of an experiment does not change by itself."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not seen():
        assert time.monotonic() < give_up, page.inner_text("main")
        page.wait_for_timeout(300)
        page.reload()


def test_a_difference_is_seen_and_the_better_version_goes_to_all(visit: Visit, story: Story, tmp_path: Path) -> None:
    story.call("acme", "POST", routes.MODEL_VERSIONS.format(model=MODEL), {"initial": True, "version": "2.0.0"})
    with fleet(story, tmp_path, 6) as clients:
        page, phone = visit(), visit(width=360)
        page.goto(f"/models/{story.model}")
        page.get_by_role("link", name="Experiments").click()
        expect(page.get_by_role("heading", name="No experiment yet")).to_be_visible()
        page.get_by_role("link", name="Plan an experiment").first.click()
        phone.goto(page.url)
        assert overflow(phone) <= 0
        page.get_by_label("Name").fill("wider network")
        page.get_by_role("button", name="Plan the experiment").click()
        expect(page.locator("[data-sentence]")).to_contain_text("Nothing can be said yet")
        for arm in ("Control", "Treatment"):
            row = page.get_by_role("row", name=arm)
            reload_until(page, lambda row=row: "3 3" in " ".join(row.inner_text().split()))  # devices, and have it
        held = {client: client.installed(MODEL).version for client in clients}
        assert sorted(held.values()) == ["1.0.0"] * 3 + ["2.0.0"] * 3
        for client, version in held.items():
            client.report_health(MODEL, count=300, judged=300, right=280 if version == "2.0.0" else 200)
        promote = page.get_by_role("link", name="Promote 2.0.0").first
        reload_until(page, promote.is_visible)
        phone.goto(page.url)
        for one in (page, phone):
            expect(one.locator("[data-sentence]")).to_contain_text(
                "2.0.0 is better: its accuracy is 26.7 points higher"
            )
            assert overflow(one) <= 0
            keep(one, f"experiment-{one.viewport_size['width'] if one.viewport_size else 0}", tmp_path)
        promote.click()
        expect(page.get_by_text("It goes to all your devices as a rollout")).to_be_visible()
        page.get_by_role("button", name="Promote 2.0.0").click()
        shows(page, state="active", percent="100 %", done="6", waiting="0")
        assert {client.installed(MODEL).version for client in clients} == {"2.0.0"}
