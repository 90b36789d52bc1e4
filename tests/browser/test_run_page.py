"""The page of a run, watched while devices train: desktop, phone and dark, through a restart of the portal."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser import every_page
from tests.browser.conftest import Visit, keep, overflow
from tests.browser.fleet import held_back
from tests.journeys.story import Story

ROUNDS = 4


def numbers(page: Page) -> dict[str, Any]:
    """What the page shows at its end, however it came to know it."""
    return {
        "title": page.locator("[data-round-title]").inner_text(),
        "state": page.locator("[data-run-state]").inner_text(),
        "cards": page.locator("[data-participants] > .part").all_inner_texts(),
        "given": page.locator("[data-contributions] tr").all_inner_texts(),
        "summaries": page.locator("[data-summary]").all_inner_texts(),
        "lines": [line.get_attribute("points") for line in page.locator("[data-chart] polyline").all()],
        "version": page.locator("[data-version]").inner_text(),
    }


def test_a_run_is_seen_as_it_happens_and_after_the_portal_was_killed(
    visit: Visit, story: Story, home: Path, tmp_path: Path
) -> None:
    run = story.start(rounds=ROUNDS)
    with held_back(story, home) as (gate, taking_part):
        page = visit()
        page.goto(f"/runs/{run}")
        page.evaluate("window.never_reloaded = true")
        title = page.locator("[data-round-title]")
        live = page.locator("[data-live]")
        expect(live).to_have_text("live")
        expect(title).to_have_text(f"Round 1 of {ROUNDS}")
        expect(page.locator(".part-training")).to_have_count(3)
        expect(page.locator("[data-contributions] [data-label=Updates]")).to_have_text(["0 of 1"] * 3)
        keep(page, "first", tmp_path)

        gate.open_to(1)
        expect(title).to_have_text(f"Round 2 of {ROUNDS}")
        expect(page.locator("[data-contributions] [data-label=Updates]")).to_have_text(["1 of 1"] * 3)
        expect(page.locator("[data-chart=accuracy] polyline")).to_have_count(4)
        expect(page.locator("[data-chart=accuracy] [data-summary]")).to_have_text(re.compile(r"at round 0$"))
        expect(page.locator("[data-log]")).to_contain_text("Round 1 took")

        story.portal.kill()
        expect(live).to_have_text("reconnecting…")
        keep(page, "away", tmp_path)
        story.portal.start()
        gate.open_to(3)
        expect(live).to_have_text("live")
        expect(title).to_have_text(f"Round 4 of {ROUNDS}", timeout=40_000)
        expect(page.locator("[data-chart=accuracy] [data-summary]")).to_have_text(re.compile(r"at round 2$"))

        gate.open_to(ROUNDS)
        expect(page.locator("[data-run-state]")).to_have_text("completed")
        expect(page.locator("[data-version]")).to_have_text(re.compile(r"^version \d+\.0\.0$"))
        for device in taking_part:
            device.join()
    assert page.evaluate("window.never_reloaded")
    expect(page.locator("[data-progress]")).to_have_js_property("value", 100)
    for name in ("pause", "resume", "stop"):
        expect(page.locator(f"[data-action={name}]")).to_be_hidden()
    # A frame may still be on its way to the screen.
    expect(page.locator("[data-chart=accuracy] [data-summary]")).to_have_text(re.compile(rf"at round {ROUNDS}$"))
    seen = numbers(page)
    page.reload()
    expect(page.locator("[data-live]")).to_have_text("live")
    assert numbers(page) == seen
    keep(page, "last", tmp_path)


def test_the_page_fits_while_devices_train(visit: Visit, story: Story, home: Path, tmp_path: Path) -> None:
    run = story.start(rounds=2)
    with held_back(story, home) as (gate, taking_part):
        pages = {look: visit(width=look[0], dark=look[1]) for look in itertools.product((1280, 360), (False, True))}
        for page in pages.values():
            page.goto(f"/runs/{run}")
        gate.open_to(1)
        for (width, dark), page in pages.items():
            expect(page.locator("[data-round-title]")).to_have_text("Round 2 of 2")
            expect(page.locator("[data-contributions] tr")).to_have_count(3)
            expect(page.get_by_role("list").filter(has_text="All organizations")).to_contain_text("valley")
            assert overflow(page) <= 0, (width, dark)
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(int(part) for part in re.findall(r"\d+", paper)[:3]) < 300) == dark, width
            keep(page, f"running-{width}-{dark}", tmp_path)
        gate.open_to(2)
        for device in taking_part:
            device.join()


def test_a_run_is_paused_resumed_and_stopped_on_its_page(visit: Visit, story: Story, home: Path) -> None:
    run = story.start(rounds=50)
    with held_back(story, home) as (gate, _):
        page = visit()
        page.goto(f"/runs/{run}")
        state = page.locator("[data-run-state]")
        page.get_by_role("button", name="Pause").click()
        expect(state).to_have_text("paused")
        expect(page.locator("[data-paused]")).to_contain_text("Press Resume to go on.")
        expect(page.locator("[data-paused-by]")).to_have_text(re.compile("by Olga", re.IGNORECASE))
        gate.open_to(1)
        expect(page.locator("[data-contributions] tr")).to_have_count(3)  # the open round was finished
        page.get_by_role("button", name="Resume").click()
        expect(state).to_have_text("running")
        expect(page.locator("[data-round-title]")).to_have_text("Round 2 of 50")
        page.get_by_role("link", name="Stop").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Stop the training")
        page.get_by_role("button", name="Stop").click()
        expect(state).to_have_text("stopped")
        assert story.snapshot(run)["run"]["state"] == "stopped"


def test_who_is_waited_for_is_said_while_nothing_happens(visit: Visit, story: Story, home: Path) -> None:
    run = story.start(rounds=1)
    with held_back(story, home) as (gate, taking_part):
        page = visit()
        page.goto(f"/runs/{run}")
        page.evaluate("window.never_reloaded = true")
        expect(page.locator(".part-training")).to_have_count(3)
        expect(page.locator("[data-missing]")).to_contain_text("hospital", timeout=30_000)
        assert page.evaluate("window.never_reloaded")
        gate.open_to(1)
        expect(page.locator("[data-run-state]")).to_have_text("completed")
        expect(page.locator("[data-waiting]")).to_be_hidden()
        for device in taking_part:
            device.join()


def test_a_viewer_of_another_member_sees_the_run_and_no_buttons(visit: Visit, story: Story) -> None:
    run = story.start(rounds=1)
    page = visit("mia@metro.example")
    page.goto(f"/runs/{run}")
    expect(page.locator("[data-live]")).to_have_text("live")
    for name in ("pause", "resume", "stop"):
        expect(page.locator(f"[data-action={name}]")).to_be_hidden()
    page.goto("/runs/run_00000000000000000000")
    expect(page.get_by_role("heading", level=1)).to_contain_text("no such page")
    story.call("acme", "POST", f"/api/v1/training/sessions/{run}/stop", {})


def test_a_run_is_started_from_the_form_and_again_from_its_page(
    visit: Visit, story: Story, home: Path, tmp_path: Path
) -> None:
    with held_back(story, home) as (gate, taking_part):
        gate.open_to(1000)
        page = visit()
        page.goto("/runs")
        page.get_by_role("link", name="Start a run").first.click()
        page.get_by_label("Rounds").fill("2")
        page.get_by_label("Least devices a round").fill("3")
        page.get_by_text("Less work for some devices").click()
        page.get_by_label("Devices labelled").fill("laptops")
        expect(page.get_by_label("Devices labelled")).to_have_count(2)  # who writes into the last row gets another
        page.get_by_role("group", name="Row 1").get_by_label("Their share of the steps").fill("0.5")
        page.get_by_role("group", name="Row 2").get_by_label("Devices labelled").fill("phones")
        expect(page.locator("#preview")).to_contain_text("“Less work for some devices” is not usable")
        expect(page.get_by_role("group", name="Row 2").locator(".bad")).to_have_count(2)
        page.get_by_role("group", name="Row 2").get_by_label("Their share of the steps").fill("0.25")
        expect(page.locator("#preview")).to_contain_text("No device is in any of laptops and phones")
        assert every_page.violations(page) == []
        keep(page, "form", tmp_path)
        page.set_viewport_size({"width": 360, "height": 900})
        page.emulate_media(color_scheme="dark")
        assert [*every_page.violations(page, only="color-contrast"), *every_page.frame(page)] == []
        keep(page, "form-phone", tmp_path)
        page.get_by_role("button", name="Start training").click()
        expect(page.locator("[data-run-state]")).to_have_text("completed", timeout=40_000)
        first = page.url
        for device in taking_part:
            device.join()
    page.get_by_role("link", name="Run again").click()
    expect(page.get_by_label("Rounds")).to_have_value("2")
    expect(page.get_by_label("Devices labelled")).to_have_count(3)
    expect(page.locator("#share_2")).to_have_value("0.25")
    with held_back(story, home) as (gate, taking_part):
        gate.open_to(1000)
        page.get_by_role("button", name="Start training").click()
        expect(page.locator("[data-run-state]")).to_have_text("completed", timeout=40_000)
        assert page.url != first
        for device in taking_part:
            device.join()


def test_what_is_wrong_in_the_form_is_said_and_what_was_typed_stays(visit: Visit) -> None:
    page = visit()
    page.goto("/runs/new")
    page.get_by_label("Rounds").fill("3")
    page.get_by_label("Group of devices").fill("no such group")
    page.get_by_label("Learning rate").fill("0")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("alert")).to_contain_text("Learning rate")
    expect(page.get_by_label("Rounds")).to_have_value("3")
    expect(page.get_by_label("Group of devices")).to_have_value("no such group")
