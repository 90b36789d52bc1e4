"""The live page loses and repeats nothing: with many devices, through a cut line, and over a thousand rounds."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from fedportal_sdk import FederatedClient
from tests.browser.conftest import Visit
from tests.browser.fleet import held_back
from tests.browser.recorder import events, first_number, heap_mb, heard, record
from tests.cast import PASSWORD
from tests.journeys.network import Wire
from tests.journeys.story import MEMBERS, MODEL, Device, Story, patients
from tests.running import Portal

DEVICES, ROUNDS = 10, 20
CUT_SECONDS = 30
MANY_ROUNDS = 1000
MOST_HEAP_MB = 30


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """The federation on a portal with a handle, which can tell a run's events again."""
    with Portal(module="tests.driving") as portal:
        yield Story(portal, password=PASSWORD)


@contextmanager
def many(story: Story, folder: Path, count: int) -> Iterator[list[Device]]:
    """So many devices, in turn of each organization."""
    folder.mkdir()
    devices = []
    for number in range(count):
        name = MEMBERS[number % len(MEMBERS)]
        csv_file = patients(folder / f"{number}.csv", number % len(MEMBERS))
        client = FederatedClient(story.keys[name], f"many-{number:03d}", story.portal.url, folder / str(number))
        client.register()
        devices.append(Device(client, lambda one, file=csv_file: one.train(MODEL, file, "diagnosis")))  # type: ignore[misc]
    try:
        yield devices
    finally:
        for device in devices:
            device.client.close()


def shows_all(page: Page, story: Story, run: str) -> list[tuple[int, float]]:
    """Wait until the page has what the portal has; every number once and in order."""
    give_up = time.monotonic() + 60
    while True:
        came = heard(page)
        told = [event["sequence"] for event in events(story.doors["acme"], run, came[0][0] - 1)]
        if came and told and came[-1][0] == told[-1]:
            assert [number for number, _ in came] == told
            return came
        assert time.monotonic() < give_up, (came[-1:], told[-1:])
        time.sleep(0.2)


def test_cut_of_half_a_minute_loses_and_repeats_nothing(visit: Visit, story: Story, home: Path) -> None:
    """One page's line breaks, the other's only falls silent, and nobody tells it."""
    run = story.start(rounds=4)
    with (
        held_back(story, home) as (gate, devices),
        Wire(story.portal.port) as broken,
        Wire(story.portal.port) as silent,
    ):
        pages = [visit(), visit()]
        for page, wire in zip(pages, (broken, silent), strict=True):
            record(page)
            page.goto(f"{wire.url}/runs/{run}")
            show(page, live="live")
        gate.open_to(1)
        for page in pages:
            show(page, title="Round 2 of 4")
        broken.cut()
        silent.silence()
        begun = time.monotonic()
        show(pages[0], live="reconnecting…")
        gate.open_to(3)
        show(pages[1], live="reconnecting…")
        pages[0].wait_for_timeout(1000 * max(CUT_SECONDS - (time.monotonic() - begun), 0))
        broken.mend()
        silent.mend()
        for page in pages:
            show(page, live="live", title="Round 4 of 4")
        gate.open_to(4)
        for device in devices:
            device.join()
        for page in pages:
            assert len(shows_all(page, story, run)) > 20


def show(page: Page, *, live: str = "", title: str = "") -> None:
    """Wait until the page says so of its line and of the round."""
    if live:
        expect(page.locator("[data-live]")).to_have_text(live, timeout=40_000)
    if title:
        expect(page.locator("[data-round-title]")).to_have_text(title, timeout=20_000)


def test_thousand_rounds_fill_neither_the_memory_nor_the_page(visit: Visit, story: Story, home: Path) -> None:
    run = story.start(rounds=2)
    with held_back(story, home) as (gate, devices):
        gate.open_to(2)
        for device in devices:
            device.join()
    page = visit()
    page.goto(f"/runs/{run}")
    expect(page.locator("[data-live]")).to_have_text("live", timeout=20_000)
    last = story.portal.do("replay", run=run, rounds=MANY_ROUNDS)
    newest = page.locator("[data-log] > li").first
    expect(newest).to_have_attribute("data-sequence", str(last), timeout=120_000)
    page.wait_for_timeout(1000)
    assert page.locator("[data-log] > li").count() <= 100
    line = page.locator("[data-chart=accuracy] polyline").last.get_attribute("points") or ""
    assert 100 < len(line.split()) <= 601
    assert heap_mb(page) < MOST_HEAP_MB


def test_page_asks_once_for_what_is_missing_and_waits_out_a_portal_that_has_enough(
    visit: Visit, story: Story, home: Path
) -> None:
    run = story.start(rounds=1)
    with held_back(story, home) as (gate, devices):
        gate.open_to(1)
        for device in devices:
            device.join()
    story.completed(run, 60)
    page = visit()
    asks: list[str | bytes] = []
    sockets: list[WebSocketRoute] = []

    def answered(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.on_message(lambda ask: asks.append(ask))

    page.route_web_socket("**/ws/runs/*", answered)
    page.goto(f"/runs/{run}?only=refused")
    expect(page.locator("[data-live]")).to_have_text("live")
    first, lines = first_number(page), page.locator("[data-log] > li")
    expect(page.locator("[data-log-empty]")).to_be_visible()
    expect(page.locator("[data-older]")).to_be_hidden()

    def tell(*numbers: int) -> None:
        for number in numbers:
            message = {"sequence": first + number, "kind": "assignment.refused", "at": "2026-01-01T00:00:00Z"}
            sockets[-1].send(json.dumps({**message, "text": f"line {number}", "data": {}}))

    for number in range(1, 121, 2):  # each is overtaken by the next, which is no reason to ask
        tell(number + 1, number)
    expect(lines.first).to_have_attribute("data-sequence", str(first + 120))
    expect(lines).to_have_count(100)
    expect(page.locator("[data-log-empty]")).to_be_hidden()
    expect(page.locator("[data-older]")).to_have_attribute("href", re.compile(rf"before={first + 21}#log$"))
    page.wait_for_timeout(500)
    assert len(asks) < 6  # a slow machine may keep a pair apart for long enough; sixty would be one for each
    asks.clear()
    tell(122, 124, 126)  # what is between does not come
    page.wait_for_timeout(900)
    assert [json.loads(str(ask)) for ask in asks] == [{"ask": "since", "sequence": first + 120}]
    tell(121, 123, 125)
    expect(lines.first).to_have_attribute("data-sequence", str(first + 126))
    sockets[-1].close(code=4429, reason="")
    expect(page.locator("[data-live]")).to_have_text("reconnecting…")
    expect(page.locator("[data-live]")).to_have_text("live")
    assert len(sockets) == 2


# The last one: its devices would be asked to take part in the others.
def test_every_message_of_twenty_rounds_with_ten_devices_comes_once_and_in_order(
    visit: Visit, story: Story, tmp_path: Path
) -> None:
    run = story.start(rounds=ROUNDS, devices=DEVICES)
    page = visit()
    record(page)
    page.goto(f"/runs/{run}")
    expect(page.locator("[data-live]")).to_have_text("live", timeout=20_000)
    with many(story, tmp_path / "many", DEVICES) as devices:
        story.completed(run, 180)
        came = dict(shows_all(page, story, run))
        for device in devices:
            device.join()
    told = [event for event in events(story.doors["acme"], run) if event["sequence"] in came]
    assert sum(event["kind"] == "round.done" for event in told) == ROUNDS + 2  # statistics, and the last measurement
    late = [
        came[event["sequence"]] - 1000 * datetime.fromisoformat(event["at"]).timestamp()
        for event in told
        if event["sequence"] > first_number(page)
    ]
    assert median(late) < 5000  # how fast it is, `dev.py bench live` says
    expect(page.locator("[data-run-state]")).to_have_text("completed")
    expect(page.locator("[data-participants] > .part")).to_have_count(DEVICES)
