"""Every page in a real browser: it fits a phone, it has one heading, it works by keyboard and nothing complains."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit, account, keep, overflow
from tests.journeys.story import FEDERATION, MODEL, Story

PAGES = (
    *("/", "/federations", "/federations/new", "/federations/{federation}"),
    *(f"/federations/{{federation}}/{page}" for page in ("agreements", "agreements/new", "activity", "settings")),
    "/federations/{federation}/dissolve",
    *("/models", "/models/new", "/models/{model}", "/models/{model}/versions/1.0.0"),
    *("/runs", "/runs?state=failed", "/runs/new", "/devices", "/team", "/keys", "/audit"),
)
OPEN_PAGES = ("/sign-in", "/sign-up", "/password-reset", "/invitations/nobody-wrote-this", "/no-such-page")


def address(pattern: str, story: Story) -> str:
    return pattern.format(federation=story.federation["id"], model=story.model)


def check(page: Page, where: str) -> None:
    """What holds for every page."""
    page.goto(where)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("main")).to_have_count(1)
    assert overflow(page) <= 0
    unnamed = page.evaluate(
        """[...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a[href]")]
           .filter((one) => one.checkVisibility() && !(one.labels?.length || one.textContent.trim()
                            || one.getAttribute("aria-label") || one.title))
           .map((one) => one.outerHTML)"""
    )
    assert unnamed == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_pages_fit_and_every_control_has_a_name(
    width: int, dark: bool, visit: Visit, story: Story, tmp_path: Path
) -> None:
    page = visit(width=width, dark=dark)
    for number, pattern in enumerate(PAGES):
        check(page, address(pattern, story))
        expect(page.get_by_role("banner")).to_contain_text("acme")
        expect(page.get_by_role("banner")).not_to_contain_text("another organization")  # nothing to choose from
        keep(page, f"{number:02d}", tmp_path)


@pytest.mark.parametrize("width", [1280, 360])
def test_pages_for_everybody_fit(width: int, visit: Visit, tmp_path: Path) -> None:
    page = visit("", width=width)
    for number, where in enumerate(OPEN_PAGES):
        check(page, where)
        keep(page, f"{number:02d}", tmp_path)


def test_the_first_key_leads_past_the_menu(visit: Visit) -> None:
    page = visit()
    page.goto("/models")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    assert skip.bounding_box()["x"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")


def test_dark_is_chosen_and_remembered(visit: Visit) -> None:
    page = visit()
    page.goto("/models")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    account(page).click()
    page.get_by_role("button", name="Light / dark").click()
    after = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert after != before
    page.goto("/runs")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == after


def test_a_federation_leads_to_its_models_and_runs(visit: Visit, story: Story) -> None:
    page = visit("mia@metro.example")
    page.goto("/federations")
    page.get_by_role("link", name=FEDERATION).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(FEDERATION)
    page.goto(f"/models?federation={story.federation['id']}")
    page.get_by_role("link", name=MODEL).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(MODEL)
    expect(page.get_by_text("Owned by acme")).to_be_visible()


def test_a_new_model_gets_its_first_weights_and_is_shared(visit: Visit) -> None:
    page = visit()
    page.goto("/models/new")
    page.get_by_label("Name").fill("cardiology")
    page.get_by_label("Architecture").select_option("logistic")
    page.get_by_label("Input columns").fill("6")
    page.get_by_role("button", name="Make the model").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("cardiology")
    expect(page.get_by_role("cell", name="1.0.0")).to_be_visible()
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_role("status")).to_contain_text("sees cardiology now")


def test_a_colleague_is_invited_and_a_key_is_shown_once(visit: Visit) -> None:
    page = visit()
    page.goto("/team")
    page.get_by_label("Email").fill("otto@acme.example")
    page.get_by_role("button", name="Invite").click()
    expect(page.get_by_role("status")).to_contain_text("otto@acme.example")
    page.goto("/keys")
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Make").click()
    secret = page.locator("pre").first.inner_text()
    assert secret.startswith("edg_")
    page.goto("/keys")
    expect(page.get_by_role("cell", name="laptop edg_")).to_be_visible()
    assert secret not in page.content()
