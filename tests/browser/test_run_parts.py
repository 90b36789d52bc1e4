"""What stands on a run's page only in some runs: its schedule, a crowd of devices, the best round, flags, checks.

The devices answer inside the portal, when a test says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, WebSocketRoute, expect

from fedwire import metrics, routes
from tests.browser import every_page
from tests.browser.conftest import Visit, keep
from tests.cast import PASSWORD
from tests.journeys.story import FEDERATION, MODEL, Story
from tests.running import Portal

ARCHITECTURE = {"kind": "logistic", "inputs": 3, "classes": 2}
OLGA, MIA, VERA = "olga@acme.example", "mia@metro.example", "vera@valley.example"
CROWD = 210  # more than a page gets at once


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """The federation on a portal with a handle, by which its devices answer."""
    with Portal(module="tests.driving", PRESENCE_SECONDS=1800) as portal:
        yield Story(portal, ARCHITECTURE, password=PASSWORD)


@pytest.fixture(scope="module")
def devices(story: Story) -> dict[str, list[int]]:
    """Organization → its devices. The first of metro ends in quarantine."""
    counts = {"acme": 4, "metro": 2, "valley": 1}
    return {
        name: [one["pk"] for one in story.portal.do("enrol", count=count, organization=name)]
        for name, count in counts.items()
    }


def begin(story: Story, there: list[int], *, rounds: int = 10, least: int = 1, **more: Any) -> str:
    """A run for which only these devices are there; its id. `more`: fields of its configuration."""
    story.portal.do("only", device_pks=there)
    wish = {"model_id": MODEL, "federation_id": FEDERATION, "strategy": "fedavg", "rounds": rounds}
    wish |= {"min_devices": least, "round_seconds": 600}
    return str(story.call("acme", "POST", routes.SESSIONS, {**wish, "config": {"seed": 7, **more}})["session_id"])


def end(story: Story, run: str) -> None:
    story.call("acme", "POST", f"{routes.SESSION.format(run=run)}/stop", {})


def watch(page: Page, run: str) -> Page:
    """The page, once it is live; a reload of it would be noticed."""
    page.goto(f"/runs/{run}")
    expect(page.locator("[data-live]")).to_have_text("live")
    page.evaluate("window.never_reloaded = true")
    return page


def same(page: Page) -> None:
    assert page.evaluate("window.never_reloaded")


def fits(page: Page, name: str, folder: Path) -> None:
    """What holds for every page holds for it as it is now, and on a phone in the dark."""
    keep(page, name, folder)
    assert [*every_page.violations(page), *every_page.frame(page)] == []
    page.set_viewport_size({"width": 360, "height": 900})
    page.emulate_media(color_scheme="dark")
    assert [*every_page.violations(page, only="color-contrast"), *every_page.frame(page)] == []
    keep(page, f"{name}-phone", folder)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})


def title(page: Page) -> Locator:
    return page.locator("[data-round-title]")


def settled(page: Page, name: str) -> Locator:
    """What stands beside this name under "How it runs"."""
    return page.locator("dl.facts dt", has_text=re.compile(f"^{name}$")).locator("+ dd")


def test_rounds_are_made_asynchronous_and_back_while_another_watches(
    visit: Visit, story: Story, devices: dict[str, list[int]], tmp_path: Path
) -> None:
    first, second = devices["acme"][0], devices["metro"][0]
    run = begin(story, [first, second], evaluate=False)
    page, other = watch(visit(), run), watch(visit(MIA), run)
    staleness, told = other.locator("[data-chart=staleness]"), settled(other, "Each round")
    expect(staleness).to_be_hidden()
    expect(told).to_contain_text("Asks everybody who is there each round")

    page.get_by_role("link", name="Make asynchronous").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Make asynchronous the rounds of {MODEL}?")
    page.get_by_role("button", name="Make asynchronous").click()
    expect(title(page)).to_have_text("Round 1 of 10, asynchronous")
    expect(page.get_by_role("link", name="Make asynchronous")).to_be_hidden()
    expect(page.get_by_role("link", name="Make synchronous")).to_be_visible()
    expect(title(other)).to_have_text("Round 1 of 10, asynchronous")
    expect(told).to_contain_text("makes a model of every answer")
    expect(staleness).to_contain_text("No answer has been counted yet.")
    expect(other.get_by_role("link", name="Make synchronous")).to_be_hidden()

    story.portal.do("answer", device_pks=[first])
    expect(title(other)).to_have_text("Round 2 of 10, asynchronous")
    late = other.locator("[data-participants] .part", has_text="metro")
    expect(late).to_contain_text("1 model old")
    story.portal.do("answer", device_pks=[second])  # from the model before
    expect(staleness.locator("[data-summary]")).to_have_text("1.000 at round 2")
    expect(staleness.locator("polyline")).to_have_count(2)
    expect(title(other)).to_have_text("Round 3 of 10, asynchronous")
    expect(late).not_to_contain_text("old")
    fits(other, "asynchronous", tmp_path)

    page.get_by_role("link", name="Make synchronous").click()
    page.get_by_role("button", name="Make synchronous").click()
    expect(told).to_contain_text("Asks everybody who is there each round")
    story.portal.do("answer", device_pks=[first])
    expect(title(other)).to_have_text("Round 4 of 10")
    expect(staleness.locator("[data-summary]")).to_have_text(re.compile("at round 3$"))
    same(other)
    end(story, run)


def test_a_crowd_is_shown_page_by_page_and_word_by_word(
    visit: Visit, story: Story, devices: dict[str, list[int]], tmp_path: Path
) -> None:
    """The cards of a round of some size are all on the page; of one that is larger the portal sends those it shows."""
    crowd = [one["pk"] for one in story.portal.do("enrol", count=CROWD, organization="metro", first=101)]
    page = visit()
    cards, pages, sent = (
        page.locator(one) for one in ("[data-participants] > .part", "[data-page-of]", "[data-show=sent]")
    )
    for some, last in ((crowd[:40], 2), (crowd, 9)):
        there = [*devices["acme"], *some]
        run = begin(story, there, evaluate=False)
        watch(page, run)
        expect(page.locator("[data-answers]")).to_have_text(f"0 of {len(there)} answers")
        expect(cards).to_have_count(24)
        expect(pages).to_have_text(f"Page 1 of {last}")
        expect(page.locator("[data-groups] tr")).to_have_count(2)
        story.portal.do("answer", device_pks=some[:5])
        expect(sent).to_have_text("sent 5")
        expect(page.locator("[data-answers]")).to_have_text(f"5 of {len(there)} answers")
        expect(page.locator("[data-groups] tr", has_text="metro").locator("[data-label=Sent]")).to_have_text("5")
        same(page)

        first = cards.first.inner_text()
        page.get_by_role("link", name="Next").click()
        expect(pages).to_have_text(f"Page 2 of {last}")
        assert cards.first.inner_text() != first
        page.get_by_role("link", name="Previous").click()
        expect(pages).to_have_text(f"Page 1 of {last}")
        sent.click()
        expect(cards).to_have_count(5)
        expect(page.locator(".part-sent")).to_have_count(5)
        expect(sent).to_have_attribute("aria-current", "true")
        expect(page.locator("[data-card-pages]")).to_be_hidden()
        page.get_by_label("Find a device").fill("HOSPITAL-10")
        page.get_by_role("button", name="Find").click()
        expect(page.locator("[data-live]")).to_have_text("live")
        expect(cards).to_have_count(5)  # those that have sent something, still
        page.get_by_role("link", name=re.compile("^all")).click()
        expect(cards).to_have_count(9)
        page.get_by_label("Find a device").fill("nobody")
        page.keyboard.press("Enter")
        expect(page.locator("[data-participants]")).to_have_text("No device has “nobody” in its name.")
        page.get_by_role("link", name="Show all").click()
        expect(cards).to_have_count(24)
        expect(page.locator("[data-live]")).to_have_text("live")
        story.portal.do("answer", device_pks=some[5:6])
        expect(sent).to_have_text("sent 6")
        if some is crowd:
            fits(page, "crowd", tmp_path)
        end(story, run)


def test_a_page_of_a_crowd_follows_the_next_round(visit: Visit, story: Story, devices: dict[str, list[int]]) -> None:
    crowd = [one["pk"] for one in story.portal.do("enrol", count=CROWD, organization="metro", first=501)]
    run = begin(story, crowd, evaluate=False)
    second, sent = watch(visit(), run), watch(visit(MIA), run)
    second.get_by_role("link", name="Next").click()
    expect(second.locator("[data-page-of]")).to_have_text("Page 2 of 9")
    sent.locator("[data-show=waiting]").click()
    sent.goto(sent.url.replace("waiting", "sent"))
    for page in (second, sent):
        expect(page.locator("[data-live]")).to_have_text("live")
        page.evaluate("window.never_reloaded = true")
    story.portal.do("answer", device_pks=crowd)
    for page in (second, sent):
        expect(title(page)).to_have_text("Round 2 of 10")
    fresh = visit()
    fresh.goto(second.url)
    names = fresh.locator("[data-participants] strong").all_inner_texts()
    assert len(names) == 24
    expect(second.locator("[data-participants] strong")).to_have_text(names)
    expect(second.locator("[data-page-of]")).to_have_text("Page 2 of 9")
    expect(sent.locator("[data-participants]")).to_have_text("No device is sent now.")
    story.portal.do("answer", device_pks=crowd[:7])
    expect(sent.locator("[data-participants] .part-sent")).to_have_count(7)
    same(second)
    same(sent)
    second.get_by_role("link", name="Next").click()
    expect(second.locator("[data-page-of]")).to_have_text("Page 3 of 9")
    assert not set(second.locator("[data-participants] strong").all_inner_texts()) & set(names)
    end(story, run)


def report(right: float, brier: float) -> dict[str, Any]:
    """On 40 held-out rows, of which this share is right; younger rows are easier."""
    halves = {
        age: metrics.evaluation(
            [0.9] * 20, [1] * good + [0] * (20 - good), [1 - right] * 20, named={"brier": [brier] * 20}
        )
        for age, good in (("young", round(20 * right)), ("old", round(16 * right)))
    }
    return {**metrics.merge(halves.values()), "slices": {"age": halves}}


def test_the_best_round_is_found_by_the_chosen_metric_and_published(
    visit: Visit, story: Story, devices: dict[str, list[int]], tmp_path: Path
) -> None:
    there = [devices[name][0] for name in ("acme", "metro", "valley")]
    story.portal.do("only", device_pks=there)
    page = visit()
    page.goto(f"/runs/new?model={MODEL}&rounds=4&min_participants=3")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Choose the best round by").fill("brier")
    page.get_by_label("More of it is better").select_option(label="no")
    page.get_by_role("button", name="Start training").click()
    expect(title(page)).to_have_text("Round 1 of 4")
    run = page.url.rpartition("/")[2]
    watch(page, run)
    expect(settled(page, "Best round by")).to_have_text("brier, less is better")
    best, publish = page.locator("[data-best]"), page.get_by_role("link", name="Publish best round")
    expect(publish).to_be_hidden()

    def play(number: int, brier: float) -> None:
        """The devices measure the model of the round before, and train this one."""
        for pk, right in zip(there, (0.9, 0.8, 0.5), strict=True):
            story.portal.do("answer", device_pks=[pk], evaluation=report(right, brier))
        expect(title(page)).to_have_text(f"Round {number + 1} of 4")

    play(1, 0.5)
    expect(best).to_contain_text("the version that the run began with (brier 0.5000)")
    play(2, 0.1)
    expect(best).to_contain_text("Best so far: the model of round 1 (brier 0.1000)")
    play(3, 0.3)
    expect(best).to_contain_text("the model of round 1 (brier 0.1000)")

    spread, slices = page.locator("[data-fairness-box]"), page.locator("[data-slices-box]")
    expect(spread.locator("tr", has_text="Accuracy").locator("[data-label=Worst]")).to_have_text("valley")
    expect(spread.locator("tr", has_text="Accuracy").locator("[data-label=Least]")).to_have_text("0.450")
    expect(spread.locator("tr", has_text="AUC").locator("[data-label=Worst]")).to_have_text("–")  # all are alike
    expect(spread.locator("[data-fairness-round]")).to_have_text("2")
    expect(slices).to_contain_text("Accuracy is lower by")
    expect(slices.locator("tr", has_text="old").locator("[data-label=Rows]")).to_have_text("60")
    charts = page.locator("[data-chart]")
    expect(page.locator('[data-chart="other:brier"] [data-summary]')).to_have_text("0.300 at round 2")
    count = charts.count()
    page.get_by_role("checkbox", name="Sensitivity").check()
    expect(page.locator('[data-chart="other:sensitivity"] polyline').first).to_be_attached()
    page.get_by_role("checkbox", name="Brier").uncheck()
    expect(page.locator('[data-chart="other:brier"]')).to_have_count(0)
    expect(charts).to_have_count(count)
    same(page)
    fits(page, "best", tmp_path)

    publish.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Publish the best model of {MODEL}?")
    page.get_by_role("button", name="Publish").click()
    published = page.locator("[data-best-version-box]")
    expect(published).to_contain_text("The best model, that of round 1, is published as version")
    expect(publish).to_be_hidden()
    number = page.locator("[data-best-version]").inner_text().removeprefix("version ")
    assert number in [row["version"] for row in story.versions()]
    end(story, run)


def test_a_flag_is_seen_by_whom_it_concerns_and_its_device_is_quarantined_by_a_button(
    visit: Visit, story: Story, devices: dict[str, list[int]], tmp_path: Path
) -> None:
    everybody = [*devices["acme"], *devices["metro"][:1], *devices["valley"]]
    run = begin(story, everybody, rounds=5, least=5, evaluate=False)
    olga, mia, vera = (watch(visit(email), run) for email in (OLGA, MIA, VERA))
    story.portal.do("answer", device_pks=devices["metro"][:1], times=50)
    story.portal.do("answer", device_pks=[*devices["acme"], *devices["valley"]])
    for page in (olga, mia):
        box = page.locator("[data-flagged-box]")
        expect(box).to_contain_text("of metro, round 1, score")
        expect(box).to_contain_text("times the median of the round")
        same(page)
    expect(title(vera)).to_have_text("Round 2 of 5")
    story.portal.do("answer", device_pks=devices["metro"][:1], times=60)
    story.portal.do("answer", device_pks=[*devices["acme"], *devices["valley"]])
    expect(title(vera)).to_have_text("Round 3 of 5")
    for page in (olga, mia):  # one line for the device, however often
        expect(page.locator("[data-flagged] > li")).to_have_count(1)
        expect(page.locator("[data-flagged] > li")).to_contain_text("of metro, 2 rounds (1, 2), highest score")
        same(page)
    expect(vera.locator("[data-flagged-box]")).to_be_hidden()
    assert "median" not in vera.content()
    fits(mia, "flagged", tmp_path)
    quarantine = re.compile("^Quarantine")
    expect(olga.get_by_role("link", name=quarantine)).to_have_count(0)

    mia.get_by_role("link", name=quarantine).click()
    expect(mia.get_by_role("heading", level=1)).to_contain_text("Quarantine")
    mia.get_by_role("button", name="Quarantine").click()
    expect(mia.get_by_role("main")).to_contain_text("quarantined")
    watch(mia, run)
    expect(mia.locator("[data-flagged] .badge")).to_have_text("quarantined")
    expect(mia.get_by_role("link", name=quarantine)).to_have_count(0)
    end(story, run)


def test_devices_check_themselves_and_who_stands_behind_an_edge_is_counted(
    visit: Visit, story: Story, devices: dict[str, list[int]], tmp_path: Path
) -> None:
    good, poor, slow = *devices["acme"][:2], devices["valley"][0]
    run = begin(story, [good, poor, slow], preflight="leave_out", evaluate=False)
    page = watch(visit(), run)
    rows = page.locator("[data-preflight] > li")
    expect(title(page)).to_have_text("Before round 1: the devices check themselves")
    expect(rows.locator(".badge")).to_have_text(["waiting"] * 3)
    found = {"warned": ["clock_off"], "sdk_version": "0.1.0", "clock_seconds": 90.0, "memory_mb": 99}
    story.portal.do("answer", device_pks=[good], check={"failed": [], **found})
    expect(rows.locator(".badge")).to_have_text(["waiting", "waiting", "passed"])
    story.portal.do("answer", device_pks=[slow], check={"failed": [], **found, "warned": []})
    story.portal.do("answer", device_pks=[poor], check={**found, "failed": ["data_columns"], "warned": []})
    expect(title(page)).to_have_text("Round 1 of 10")
    expect(rows.locator(".badge")).to_have_text(["failed", "passed", "passed"])
    expect(rows.nth(1)).to_contain_text("its clock is more than 60 seconds off the portal's. Let it set its clock")
    expect(rows.nth(0)).to_contain_text("its data lack columns that the model takes by name.")

    cards = page.locator("[data-participants] .part")
    expect(cards).to_have_count(2)
    story.portal.do("answer", device_pks=[good], samples=400, devices=12)
    edge = cards.filter(has_text="acme")
    expect(edge).to_contain_text("400 rows of 12 devices, 0.25 s")
    same(page)
    fits(page, "checked", tmp_path)
    page.reload()
    expect(edge).to_contain_text("400 rows of 12 devices, 0.25 s")
    unaided = visit(java_script_enabled=False)
    unaided.goto(page.url)
    expect(unaided.locator("[data-participants]")).to_contain_text("400 rows of 12 devices, 0.25 s")

    late = devices["metro"][1]
    story.portal.do("only", device_pks=[good, slow, late])
    story.portal.do("answer", device_pks=[slow])
    expect(title(page)).to_have_text("Round 2 of 10")
    newcomer = rows.filter(has_text="which came later")
    expect(newcomer.locator(".badge")).to_have_text(["waiting"])
    story.portal.do("answer", device_pks=[late], check={"failed": [], **found})
    expect(newcomer.locator(".badge")).to_have_text(["passed"])
    end(story, run)


class Overtaken:
    """A connection on which one kind of message comes after the snapshot that was asked for when it was on its way."""

    def __init__(self, page: Page, late: str) -> None:
        self.waits = self.overtook = False
        self._late, self._held = late, list[str]()
        page.route_web_socket(re.compile("/ws/runs/"), self._between)

    def _between(self, browser: WebSocketRoute) -> None:
        portal = browser.connect_to_server()

        def pass_on(text: str | bytes) -> None:
            kind = json.loads(text)["kind"]
            if kind == self._late and self.waits and not self.overtook:
                self._held.append(str(text))
                return
            browser.send(text)
            if kind == "snapshot" and self._held:
                self.overtook = True
                for held in self._held:
                    browser.send(held)

        portal.on_message(pass_on)


def test_what_only_a_snapshot_tells_is_shown_also_when_it_overtakes_messages(
    visit: Visit, story: Story, devices: dict[str, list[int]]
) -> None:
    """The page cannot take a snapshot that is ahead of its messages, so it asks for another; nothing else makes it."""
    first, late = devices["acme"][0], devices["metro"][1]
    run = begin(story, [first], preflight="leave_out", evaluate=False)
    page = visit()
    page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => true })")
    story.portal.do("answer", device_pks=[first], check={"failed": [], "warned": [], "sdk_version": "0.1.0"})
    overtaken = Overtaken(page, "round.opened")
    watch(page, run)
    expect(title(page)).to_have_text("Round 1 of 10")
    overtaken.waits = True
    story.portal.do("only", device_pks=[first, late])
    story.portal.do("answer", device_pks=[first])
    newcomer = page.locator("[data-preflight] > li").filter(has_text="which came later")
    expect(newcomer.locator(".badge")).to_have_text(["waiting"])
    assert overtaken.overtook
    end(story, run)
