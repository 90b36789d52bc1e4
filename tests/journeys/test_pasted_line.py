"""The line of the page "Register a device", pasted into a shell: the machine is a device and takes part."""

from __future__ import annotations

import html
import re
import time
from pathlib import Path

from deploy.demo.browser import Browser
from tests.cast import PASSWORD
from tests.journeys.pasting import pasted
from tests.journeys.story import Story, patients
from tests.journeys.test_readme import serve_sdk
from tests.running import Portal


def test_the_pasted_line_makes_the_machine_a_device_that_takes_part(tmp_path: Path) -> None:
    with Portal() as portal:
        serve_sdk(portal)
        story = Story(portal, password=PASSWORD)
        browser = Browser(portal.url)
        browser.submit(f"{portal.url}/sign-in", "email", email="mia@metro.example", password=PASSWORD)
        page = browser.submit(f"{portal.url}/devices/new", "data", identifier="ward-3", group="production")
        found = re.search(r'<pre id="line">(.*?)</pre>', page, re.DOTALL)
        assert found
        machine = tmp_path / "machine"
        machine.mkdir()
        patients(machine / "patients.csv", 1)
        with pasted(html.unescape(found[1]), machine, own_pip=True):
            give_up = time.monotonic() + 60
            while not (devices := story.call("metro", "GET", "/api/v1/devices")["devices"]):
                assert time.monotonic() < give_up, (machine / "log").read_text()
                time.sleep(0.2)
            (device,) = devices
            assert (device["device_identifier"], device["groups"]) == ("ward-3", ["production"])
            run = story.start(rounds=2, devices=1)
            assert story.completed(run)["contributions"][0]["organization"]["name"] == "metro"
