"""The whole story in the browser, by keyboard alone, with the letters of a real mail server.

A new owner signs up, founds a federation, invites two hospitals, makes a model, starts a run and watches it to its end;
two newcomers open their letters, make an account on the way, set a policy and register a device by the pasted line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.hands import Hands
from tests.cast import PASSWORD
from tests.journeys.pasting import pasted
from tests.journeys.story import FEDERATION, MODEL, patients
from tests.journeys.test_readme import serve_sdk
from tests.postbox import Postbox
from tests.running import Portal

ROUNDS = 20
TOGETHER = ("metro", "valley")


class Stage:
    """A fresh portal with a mail server, and browsers of their own for each person."""

    def __init__(self, browser: Browser, portal: Portal, post: Postbox) -> None:
        self.portal, self.post = portal, post
        self._browser = browser

    def person(self) -> Hands:
        """Somebody who has never been here."""
        context = self._browser.new_context(viewport={"width": 1280, "height": 900}, base_url=self.portal.url)
        page = context.new_page()
        page.set_default_timeout(30_000)
        return Hands(page)


@pytest.fixture
def stage(browser: Browser) -> Iterator[Stage]:
    with Postbox() as post, Portal(EMAIL_URL=post.url) as portal:
        serve_sdk(portal)
        yield Stage(browser, portal, post)


def test_two_hospitals_join_a_new_owner_and_train_together(stage: Stage, tmp_path: Path) -> None:
    owner = stage.person()
    sign_up(owner, stage.post, "olga@acme.example", "Olga", "acme")
    found(owner, FEDERATION)
    invite(owner, *(f"lead@{name}.example" for name in TOGETHER))
    make_model(owner)
    invite_viewer(owner, "otto@acme.example")

    with ExitStack() as machines:
        for number, name in enumerate(TOGETHER):
            newcomer = stage.person()
            accept(newcomer, stage.post, f"lead@{name}.example", name)
            set_policy(newcomer)
            folder = tmp_path / name
            folder.mkdir()
            patients(folder / "patients.csv", number)
            line = line_to_paste(newcomer, f"{name}-001")
            machines.enter_context(pasted(line, folder))
            arrived(newcomer.page, f"{name}-001")
        run = start_run(owner)
        watch(owner.page)
        see_lineage(owner, run)
    refuse_a_viewer(stage, run)
    refuse_a_stranger(stage, run)


def sign_up(hands: Hands, post: Postbox, address: str, name: str, organization: str) -> None:
    """An account, proven by the letter's code, and an organization."""
    hands.page.goto("/sign-up")
    hands.write("Your name", name)
    hands.write("Email", address)
    hands.write("Password", PASSWORD)
    hands.write("Your organization (optional)", organization)
    hands.press("Create the account")
    hands.write("Code from the letter", post.next_to(address, "your code").code)
    hands.press("Go on")
    expect(hands.page.get_by_role("banner")).to_contain_text(organization)


def found(hands: Hands, name: str) -> None:
    """A federation."""
    hands.go("Federations")
    hands.follow("Found a federation")
    hands.write("Name", name)
    hands.press("Found it")
    expect(hands.page.get_by_role("heading", level=1)).to_contain_text(name)


def invite(hands: Hands, *addresses: str) -> None:
    """People of other organizations, by letter."""
    hands.write("Organization ids or email addresses", " ".join(addresses))
    hands.press("Invite")
    for address in addresses:
        expect(hands.page.get_by_role("main")).to_contain_text(address)


def make_model(hands: Hands) -> None:
    """A described model with first weights, shared with the federation."""
    hands.go("Models")
    hands.follow("New model")
    hands.write("Name", MODEL)
    hands.choose("Architecture", "Logistic regression")
    hands.write("Input columns", "6")
    hands.tick("Standardise the columns")
    hands.press("Make the model")
    expect(hands.page.get_by_role("heading", level=1)).to_have_text(MODEL)
    hands.press("Share")
    expect(hands.page.get_by_role("status")).to_contain_text("sees radiology-v1 now")


def accept(hands: Hands, post: Postbox, address: str, organization: str) -> None:
    """Open the letter, make an account and an organization on the way."""
    answered = hands.page.goto(post.next_to(address, FEDERATION).link)
    assert answered is not None
    assert answered.status == 200
    expect(hands.page.get_by_role("heading", level=1)).to_contain_text(FEDERATION)
    hands.write("Your name", f"Lead of {organization}")
    hands.write("Password", PASSWORD)
    hands.write("Your organization", organization)
    hands.press("Accept")
    expect(hands.page.get_by_role("heading", level=1)).to_contain_text(FEDERATION)


def set_policy(hands: Hands) -> None:
    """The organization's own limits: no device trains on fewer than fifty rows."""
    hands.go("Organization")
    hands.reach(hands.page.get_by_role("navigation", name="Organization").get_by_role("link", name="Policy"))
    hands.page.keyboard.press("Enter")
    hands.reach(hands.page.locator("#least_records"))
    hands.page.keyboard.press("Control+A")
    hands.page.keyboard.type("50")
    hands.press("Set the policy")
    expect(hands.page.locator("#least_records")).to_have_value("50")
    expect(hands.page.get_by_role("listitem").filter(has_text="50").first).to_contain_text("Lead of")


def invite_viewer(hands: Hands, address: str) -> None:
    """A colleague who looks on."""
    hands.go("Organization")
    hands.write("Email", address)
    hands.press("Invite")
    expect(hands.page.get_by_role("main")).to_contain_text(address)


def refuse_a_viewer(stage: Stage, run: str) -> None:
    """The colleague sees the run and may start none, and is told who may."""
    viewer = stage.person()
    viewer.page.goto(stage.post.next_to("otto@acme.example", "acme").link)
    viewer.write("Your name", "Otto")
    viewer.write("Password", PASSWORD)
    viewer.press("Accept")
    viewer.page.get_by_role("banner").filter(has_text="Otto").wait_for()
    viewer.page.goto(run)
    expect(viewer.page.get_by_role("heading", level=1)).to_contain_text(MODEL)
    refused = viewer.page.goto(f"{run}/stop")
    assert refused is not None
    assert refused.status == 403
    main = viewer.page.get_by_role("main")
    expect(main).to_contain_text("owner")
    expect(main).to_contain_text("Olga")


def line_to_paste(hands: Hands, identifier: str) -> str:
    """What the portal says to paste."""
    hands.go("Devices")
    hands.follow("Register a device")
    hands.write("Name of the device", identifier)
    hands.write("File of rows", "patients.csv")
    hands.write("Column to predict", "diagnosis")
    hands.press("Make the line")
    return hands.page.locator("#line").inner_text()


def arrived(page: Page, identifier: str) -> None:
    """The page says so by itself."""
    expect(page.get_by_role("main")).to_contain_text(f"{identifier} has registered", timeout=120_000)


def start_run(hands: Hands) -> str:
    """From the form; the run's address."""
    hands.go("Runs")
    hands.follow("Start a run")
    hands.write("Rounds", str(ROUNDS))
    hands.write("Least devices a round", "2")
    hands.press("Start training")
    hands.page.wait_for_url(re.compile(r"/runs/run_"))
    return hands.page.url


def watch(page: Page) -> None:
    """Without a reload, to the end."""
    page.evaluate("window.never_reloaded = true")
    expect(page.locator("[data-run-state]")).to_have_text("completed", timeout=120_000)
    expect(page.locator("[data-version]")).to_have_text(re.compile("2.0.0"))
    assert page.evaluate("window.never_reloaded")


def see_lineage(hands: Hands, run: str) -> None:
    """From the version back to the run."""
    hands.reach(hands.page.locator("[data-version]"))
    hands.page.keyboard.press("Enter")
    main = hands.page.get_by_role("main")
    expect(main).to_contain_text("2.0.0")
    expect(main).to_contain_text("20 rounds")
    for name in TOGETHER:
        expect(main).to_contain_text(name)


def refuse_a_stranger(stage: Stage, run: str) -> None:
    """Somebody of no organization in the federation sees neither the run nor that it exists."""
    stranger = stage.person()
    sign_up(stranger, stage.post, "rex@rival.example", "Rex", "rival")
    assert stranger.page.goto(run).status == 404  # type: ignore[union-attr]
    assert stranger.page.goto(run[:-4] + "none").status == 404  # type: ignore[union-attr]
