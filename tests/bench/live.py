"""How soon a browser shows what was committed: `python -m tests.bench.live` prints one JSON line.

The real portal, real devices and a real Chromium. The time of a message runs from the event's row (`at`, the portal's
clock) to the line in the page's log (the page's clock, the same machine); of what was committed while the page was
still loading, from the moment at which it was connected. The heap is measured after a thousand rounds, which are the
last one told again by the portal.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

from fedportal_sdk import FederatedClient
from tests.browser.recorder import events, first_number, heap_mb, heard, live_since, record
from tests.journeys.story import MEMBERS, MODEL, Device, Story, patients
from tests.running import Portal

DEVICES, ROUNDS, MANY_ROUNDS = 10, 20, 1000
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PASSWORD = "a long and quiet password"


def main() -> int:
    """Print the line; 1 without a browser."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        print(f"none of {', '.join(BROWSERS)} is installed", file=sys.stderr)
        return 1
    with ExitStack() as stack:
        portal = stack.enter_context(Portal(module="tests.driving"))
        story = Story(portal, password=PASSWORD)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedportal-bench-")))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        stack.callback(browser.close)
        print(json.dumps(measure(browser, story, folder)), flush=True)
    return 0


def measure(browser: Browser, story: Story, folder: Path) -> dict[str, object]:
    """The whole line."""
    devices = [begin(story, folder, number) for number in range(DEVICES)]
    time.sleep(3.0)  # all of them wait for work
    page = browser.new_context(base_url=story.portal.url).new_page()
    page.goto("/sign-in")
    page.get_by_label("Email").fill("olga@acme.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")
    record(page)
    run = story.start(rounds=ROUNDS, devices=DEVICES)
    page.goto(f"/runs/{run}")
    story.completed(run, 300)
    page.wait_for_timeout(2000)
    came = heard(page)
    told = events(story.doors["acme"], run, came[0][0] - 1)
    at, connected = dict(came), live_since(page)
    live = [event for event in told if event["sequence"] > first_number(page) and event["sequence"] in at]
    late = [at[event["sequence"]] - max(connected, _committed(event)) for event in live]
    loading = [at[event["sequence"]] - _committed(event) for event in live if _committed(event) < connected]
    for device in devices:
        device.client.close()
    return {
        "name": "live",
        "rounds": ROUNDS,
        "devices": DEVICES,
        "p50_ms": round(float(np.percentile(late, 50)), 1),
        "p95_ms": round(float(np.percentile(late, 95)), 1),
        "max_ms": round(max(late), 1),
        "max_ms_from_commit_while_loading": round(max(loading, default=0.0), 1),
        "lost": len({event["sequence"] for event in told} - set(at)),
        "repeated": len(came) - len(at),
        "heap_mb_after_1000_rounds": round(heap(page, story, run), 1),
    }


def _committed(event: dict[str, Any]) -> float:
    """When it was, in milliseconds."""
    return 1000 * datetime.fromisoformat(event["at"]).timestamp()


def begin(story: Story, folder: Path, number: int) -> Device:
    """A device that is there."""
    kind = number % len(MEMBERS)
    csv_file = patients(folder / f"{number}.csv", kind)
    client = FederatedClient(story.keys[MEMBERS[kind]], f"bench-{number:03d}", story.portal.url, folder / str(number))
    client.register()
    return Device(client, lambda one: one.train(MODEL, csv_file, "diagnosis", forever=True))


def heap(page: Page, story: Story, run: str) -> float:
    """Megabytes of script after a thousand further rounds."""
    page.reload()
    last = story.portal.do("replay", run=run, rounds=MANY_ROUNDS)
    page.locator(f'[data-log] > li[data-sequence="{last}"]').wait_for(timeout=300_000)
    page.evaluate("window.heard = []")
    page.wait_for_timeout(1000)
    return heap_mb(page)


if __name__ == "__main__":
    sys.exit(main())
