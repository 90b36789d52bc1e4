"""Privacy in the form that starts a run: only what matters is asked, and what is refused says why, as one types."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.conftest import Visit, overflow
from tests.journeys.story import Story

REGION = "What will happen"


def test_the_form_asks_for_what_matters_and_says_what_epsilon_comes_to(visit: Visit, story: Story) -> None:
    page = visit()
    page.goto(f"/runs/new?model={story.model}")
    preview = page.get_by_role("region", name=REGION)
    page.get_by_text("Privacy", exact=True).last.click()
    expect(page.get_by_label("Noise", exact=True)).to_have_count(0)
    page.get_by_label("Noise is added by").select_option("central")
    noise = page.locator('[id="privacy.noise"]')
    expect(noise).to_be_visible()
    expect(preview).to_contain_text("It cannot start like this.")
    noise.fill("2")
    page.get_by_label("Rounds", exact=True).fill("3")
    # Three rounds of noise 2 are one of noise 2/√3: 3.71 by the formula of the Gaussian mechanism.
    expect(preview).to_contain_text("3.71")
    noise.fill("4")
    expect(preview).to_contain_text("1.7")
    expect(noise).to_be_focused()


def test_what_does_not_go_together_is_refused_with_its_reason(visit: Visit, story: Story) -> None:
    page = visit(width=360)
    page.goto(f"/runs/new?model={story.model}&strategy=krum&privacy.mechanism=central&privacy.noise=1")
    preview = page.get_by_role("region", name=REGION)
    expect(preview).to_contain_text("It cannot start like this.")
    expect(preview).to_contain_text("no sum of updates")
    page.locator("#strategy").select_option("fedavg")
    expect(preview).not_to_contain_text("no sum of updates")
    assert overflow(page) == 0
