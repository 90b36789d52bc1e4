"""Pages on a phone: long names keep their letters together, wide things say that they scroll."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import Visit, overflow
from tests.journeys.story import Story

LONG = "Universitätsklinikum"
PHONE = 360


def lines_of(page: Page, selector: str) -> int:
    """On how many lines the words of the first element stand."""
    return int(
        page.evaluate(
            """(selector) => {
                const range = document.createRange();
                range.selectNodeContents(document.querySelector(selector));
                return new Set([...range.getClientRects()].map((one) => Math.round(one.top))).size;
            }""",
            selector,
        )
    )


def test_a_long_word_stays_whole_in_the_list_of_members(visit: Visit, story: Story) -> None:
    page = visit(width=PHONE)
    page.goto(f"/federations/{story.federation['id']}")
    cell = 'td[data-label="Organization"] strong'
    page.evaluate("([at, name]) => { document.querySelector(at).textContent = name }", [cell, LONG])
    assert lines_of(page, cell) == 1
    assert overflow(page) <= 0


def test_the_table_of_rights_says_that_it_scrolls_and_keeps_its_first_column(visit: Visit) -> None:
    page = visit(width=PHONE)
    page.goto("/team/roles")
    assert page.get_by_text("scroll the table sideways").first.is_visible()
    table = page.locator(".table:has(table.rights)").first
    table.evaluate("(one) => { one.scrollLeft = 120 }")
    first, place = table.locator("tbody th").first.bounding_box(), table.bounding_box()
    assert first
    assert place
    assert abs(first["x"] - place["x"]) < 1
    wide = visit(width=1280)
    wide.goto("/team/roles")
    assert not wide.get_by_text("scroll the table sideways").first.is_visible()


@pytest.mark.parametrize("path", ["", "/versions/1.0.0"])
def test_a_lineage_starts_with_a_whole_box(visit: Visit, story: Story, path: str) -> None:
    page = visit(width=PHONE)
    page.goto(f"/models/{story.model}{path}")
    cut = page.evaluate(
        """() => {
            const place = document.querySelector(".lineage"), edge = place.getBoundingClientRect().left;
            return [...place.querySelectorAll("rect")].filter((one) => {
                const box = one.getBoundingClientRect();
                return box.left < edge && box.right > edge;
            }).length;
        }"""
    )
    assert cut == 0
