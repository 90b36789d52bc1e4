"""What a run's page shows, line by line, written down by the page itself: each number and when it was there."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from fedportal_sdk._http import Http
from fedwire import routes

# The page's clock is the machine's, as the portal's is; `at` of an event is the portal's.
SCRIPT = """
window.heard = [];
addEventListener("DOMContentLoaded", () => {
  const list = document.querySelector("[data-log]");
  if (!list) return;
  const made = performance.timeOrigin + performance.now();
  for (const item of [...list.children].reverse()) window.heard.push([Number(item.dataset.sequence), made]);
  new MutationObserver((changes) => {
    const now = performance.timeOrigin + performance.now();
    for (const change of changes) for (const item of change.addedNodes)
      if (item.dataset?.sequence) window.heard.push([Number(item.dataset.sequence), now]);
  }).observe(list, { childList: true });
  const line = document.querySelector("[data-live]");
  new MutationObserver(() => {
    if (line.textContent === "live") window.liveSince ??= performance.timeOrigin + performance.now();
  }).observe(line, { childList: true });
});
"""


def record(page: Page) -> None:
    """Let every page that is opened from now on write down what its log shows."""
    page.add_init_script(SCRIPT)


def heard(page: Page) -> list[tuple[int, float]]:
    """The numbers with which the page was made and those that came since, in their order, with milliseconds."""
    return [(int(number), float(at)) for number, at in page.evaluate("window.heard")]


def live_since(page: Page) -> float:
    """When the page was connected for the first time, in milliseconds."""
    return float(page.evaluate("window.liveSince"))


def first_number(page: Page) -> int:
    """The number of the last event that the page was made with."""
    found: int = page.evaluate('JSON.parse(document.getElementById("live").textContent).snapshot.sequence')
    return found


def events(door: Http, run: str, after: int = 0) -> list[dict[str, Any]]:
    """The run's events after a number, in order."""
    found: list[dict[str, Any]] = []
    more = True
    while more:
        answer = door.json("GET", routes.SESSION_EVENTS.format(run=run) + f"?after={after}")
        found += answer["events"]
        after, more = (found[-1]["sequence"] if found else after), answer["more"]
    return found


def heap_mb(page: Page) -> float:
    """What the page's scripts hold after everything that nobody needs was thrown away."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return float(used) / 1e6
