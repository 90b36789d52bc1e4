"""The documentation says what the code says."""

from __future__ import annotations

import re

import pytest

from docs import generate
from tests.architecture.source import ROOT

LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
NAMED = re.compile(r"`((?:fedportal|federations|registry|training|sdk|tests|deploy|docs)/[\w./-]+)`")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "sdk").glob("*.md")])


@pytest.mark.parametrize("name", sorted(generate.pages()))
def test_generated_pages_are_up_to_date(name):
    assert (ROOT / "docs" / name).read_text() == generate.pages()[name], "run `python3 dev.py docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    named = re.findall(
        r"`((?:fedportal|federations|registry|training|sdk|tests|deploy|docs)/[\w./-]+)`", page.read_text()
    )
    missing = [name for name in named if not (ROOT / name).exists() and not (ROOT / "sdk" / "src" / name).exists()]
    assert missing == []
