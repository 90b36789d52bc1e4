"""The pictures of the README: `python3 dev.py docs --pictures`.

Plays the demonstration with its full cast and photographs it with an installed Chromium or Chrome. What is on the
pictures is real; names, numbers and times differ a little from run to run.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MOST_BYTES = 200_000
WIDTH, HEIGHT = 1200, 1000
# What the demonstration tells a newcomer, and how long it may take.
TOLD = re.compile(r"\s+(Open|Sign in|Password|with trouble)\s+(\S+)\s*$")
LAST = "with trouble"
SECONDS = 300
# So long the run with stragglers and attackers goes on before it is photographed.
ROUNDS_SEEN = 6


def main() -> int:
    """Take all pictures; 1 without a browser."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        sys.stderr.write(f"None of {', '.join(BROWSERS)} is installed.\n")
        return 1
    FOLDER.mkdir(exist_ok=True)
    with demonstration() as told, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for dark in (False, True):
            context = browser.new_context(
                base_url=told["Open"],
                viewport={"width": WIDTH, "height": HEIGHT},
                color_scheme="dark" if dark else "light",
                locale="en-GB",
            )
            page = context.new_page()
            sign_in(page, told["Sign in"], told["Password"])
            (take_dark if dark else take_light)(page, told[LAST])
        browser.close()
    return 0


def take_light(page: Page, run: str) -> None:
    """Home, the run as it goes on, the federation, a model with its versions."""
    page.goto(run)
    page.get_by_text(re.compile(rf"Round ({ROUNDS_SEEN}|\d\d+) of")).first.wait_for(timeout=SECONDS * 1000)
    keep(page, "run")
    page.goto("/")
    keep(page, "home")
    page.goto("/federations")
    page.get_by_role("main").get_by_role("link", name="healthcare-consortium").first.click()
    keep(page, "federation")
    page.goto("/models")
    page.get_by_role("main").get_by_role("link", name="pathology-v1").first.click()
    keep(page, "model")


def take_dark(page: Page, run: str) -> None:
    """The run once more, for those who work at night."""
    page.goto(run)
    keep(page, "run-dark")


def sign_in(page: Page, address: str, password: str) -> None:
    """As everybody does."""
    page.goto("/sign-in")
    page.get_by_label("Email").fill(address)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/")


def keep(page: Page, name: str) -> None:
    """Write docs/pictures/<name>.png. Raises SystemExit when it is too large for a repository."""
    page.wait_for_timeout(1000)
    path = FOLDER / f"{name}.png"
    size = len(page.screenshot(path=path, animations="disabled"))
    if size > MOST_BYTES:
        raise SystemExit(f"{path.relative_to(ROOT)} has {size} bytes; at most {MOST_BYTES} are wanted.")
    sys.stdout.write(f"{path.relative_to(ROOT)} ({size // 1000} KB)\n")


@contextmanager
def demonstration() -> Iterator[dict[str, str]]:
    """The full cast, up and running, and what it told: where it is, how to sign in, which run goes on."""
    with tempfile.TemporaryDirectory(prefix="fedportal-pictures-") as folder:
        options = ("--cast", "full", "--port", "0", "--start-after", "0", "--folder", str(Path(folder) / "demo"))
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.demo", *options],
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield _listen(process)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _listen(process: subprocess.Popen[str]) -> dict[str, str]:
    told: dict[str, str] = {}

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:  # also what comes later: a full pipe would stop the demonstration
            if found := TOLD.match(line):
                told[found[1]] = found[2]

    threading.Thread(target=read, daemon=True).start()
    give_up = time.monotonic() + SECONDS
    while LAST not in told:
        if process.poll() is not None or time.monotonic() > give_up:
            raise SystemExit("The demonstration did not come up.")
        time.sleep(0.5)
    return told


if __name__ == "__main__":
    sys.exit(main())
