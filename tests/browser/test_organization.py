"""A hospital gets ready: it sets its policy, registers a device by pasting one line, and is handed over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, account, keep, overflow
from tests.cast import PASSWORD
from tests.journeys.pasting import pasted
from tests.journeys.story import Story, patients
from tests.journeys.test_readme import serve_sdk
from tests.running import Portal

OTTO = "otto@metro.example"


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """A federation on a portal that serves its SDK."""
    with Portal() as portal:
        serve_sdk(portal)
        yield Story(portal, password=PASSWORD)


def test_a_hospital_sets_limits_registers_a_device_and_changes_hands(
    visit: Visit, story: Story, tmp_path: Path
) -> None:
    mia = visit("mia@metro.example")
    otto = comes_by_letter(mia, visit(""))
    sees_the_policy_and_may_not_set_it(otto)
    sets_the_policy(mia)
    keep(mia, "policy", tmp_path)
    registers_a_device(mia, story, tmp_path)
    becomes_privacy_officer(mia, otto)
    becomes_owner(mia)
    sees_the_policy_and_may_not_set_it(mia)
    mia.goto("/team/roles")
    expect(mia.locator("#why")).to_contain_text("change the policy?")


def comes_by_letter(mia: Page, otto: Page) -> Page:
    """A colleague is invited as a viewer and makes an account by the letter's link."""
    mia.goto("/team")
    mia.get_by_label("Email").fill(OTTO)
    mia.get_by_role("button", name="Invite").click()
    expect(mia.get_by_role("status")).to_contain_text("is viewer here")
    otto.goto(mia.locator("pre").first.inner_text())
    otto.get_by_label("Your name").fill("Otto")
    otto.get_by_label("Password").fill(PASSWORD)
    otto.get_by_role("button", name="Accept").click()
    account(otto).wait_for()
    return otto


def sees_the_policy_and_may_not_set_it(page: Page) -> None:
    page.goto("/policy")
    expect(page.get_by_role("main")).to_contain_text("privacy officer of metro may do this")
    expect(page.get_by_role("button", name="Set the policy")).to_have_count(0)
    expect(page.get_by_label("Fewest rows of a device")).to_be_disabled()


def sets_the_policy(mia: Page) -> None:
    """Looked at first, then set; a mistake is said beside its field."""
    mia.goto("/policy")
    mia.get_by_label("Fewest rows of a device").fill("fifty")
    mia.get_by_role("button", name="Preview what it means").click()
    expect(mia.get_by_label("Fewest rows of a device")).to_have_attribute("aria-invalid", "true")
    mia.get_by_label("Fewest rows of a device").fill("50")
    mia.get_by_label("Data residency").fill("EU")
    mia.get_by_label("Lifetime of device keys").fill("30")
    mia.get_by_role("button", name="Preview what it means").click()
    expect(mia.get_by_label("Preview")).to_contain_text("Fewest rows of a device: 50")
    mia.get_by_role("button", name="Set the policy").click()
    expect(mia.get_by_role("status")).to_contain_text("The policy is set")
    expect(mia.get_by_role("main")).to_contain_text("Fewest rows of a device: 50 (before: none)")


def registers_a_device(mia: Page, story: Story, folder: Path) -> None:
    """One line, pasted on the machine that has the data; the page shows the device by itself, and it takes part."""
    mia.goto("/devices")
    mia.get_by_role("link", name="Register a device").first.click()
    mia.get_by_label("Name of the device").fill("ward-3")
    mia.get_by_label("Group").fill("production")
    mia.get_by_role("button", name="Make the line").click()
    arrivals = mia.get_by_label("Arrivals")
    expect(arrivals).to_contain_text("Waiting for the device")
    machine = folder / "machine"
    machine.mkdir()
    patients(machine / "patients.csv", 1)
    with pasted(mia.locator("#line").inner_text(), machine):
        expect(arrivals).to_contain_text("ward-3 has registered", timeout=60_000)
        story.completed(story.start(rounds=2, devices=1))
        arrivals.get_by_role("link", name="ward-3").click()
        expect(mia.get_by_role("heading", level=1)).to_have_text("ward-3")
        expect(mia.get_by_role("main")).to_contain_text("round 2")
        expect(mia.get_by_role("main")).to_contain_text("in use")
        keep(mia, "device", folder)
        mia.get_by_role("link", name="Quarantine").click()
        expect(mia.get_by_role("main")).to_contain_text("no more work until you restore it")
        mia.get_by_role("button", name="Quarantine").click()
        expect(mia.get_by_role("status")).to_contain_text("ward-3 is in quarantine")
        mia.get_by_role("link", name="Restore").click()
        mia.get_by_role("button", name="Restore").click()
        expect(mia.get_by_role("status")).to_contain_text("takes part again")


def becomes_privacy_officer(mia: Page, otto: Page) -> None:
    """A role is changed on the page, and holds at once."""
    mia.goto("/team")
    mia.get_by_label("Role of Otto", exact=True).select_option("privacy_officer")
    mia.get_by_role("button", name="Save the role of Otto").click()
    expect(mia.get_by_role("status")).to_contain_text("Otto is now privacy officer")
    otto.goto("/policy")
    otto.get_by_label("Fewest rows of a device").fill("100")
    otto.get_by_role("button", name="Set the policy").click()
    expect(otto.get_by_role("status")).to_contain_text("The policy is set")


def becomes_owner(mia: Page) -> None:
    """The last owner cannot leave; she hands the organization over."""
    mia.goto("/team")
    expect(mia.get_by_role("main")).to_contain_text("To leave, transfer the ownership first")
    mia.get_by_role("link", name="Transfer ownership").click()
    expect(mia.get_by_role("main")).to_contain_text("Otto becomes owner of metro, and you become admin")
    mia.get_by_role("button", name="Transfer the ownership").click()
    expect(mia.get_by_role("status")).to_contain_text("Otto is now owner of metro")


def test_without_scripts_a_reload_shows_who_has_registered(visit: Visit) -> None:
    page = visit("vera@valley.example", java_script_enabled=False)
    page.goto("/devices/new")
    page.get_by_role("button", name="Make the line").click()
    page.get_by_role("link", name="Look again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Who has registered")
    expect(page.get_by_role("main")).to_contain_text("Waiting for the device")


@pytest.mark.parametrize(
    "where", ["/team", "/team/roles", "/team/name", "/policy", "/devices", "/devices/new", "/devices/groups/names"]
)
def test_the_organizations_pages_fit_a_phone(where: str, visit: Visit) -> None:
    page = visit("vera@valley.example", width=360, dark=True)
    page.goto(where)
    assert overflow(page) <= 0
