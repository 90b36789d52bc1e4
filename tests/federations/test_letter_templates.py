"""Every kind of letter, rendered: in text and HTML, complete in both, in one design that dark readers can read."""

from __future__ import annotations

import html
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings
from django.template import engines

from federations.models import Letter
from federations.services import letters
from fedportal.common.transactions import unit
from tests.cast import Cast

FOLDER = Path(settings.BASE_DIR) / "templates" / "federations" / "letters"
KINDS = sorted(path.stem for path in FOLDER.glob("*.txt"))
# Everything that a letter may say; a letter that says something else is added here, for the preview to be whole.
SAID: dict[str, Any] = {
    "link": "https://portal.example/somewhere/Xy_1-2",
    "person": "Vera",
    "inviter": "North Hospital",
    "invited_by": "Olga",
    "federation": "healthcare-consortium",
    "federation_id": "fed_00000000000000000000",
    "organization_name": "Valley Clinic",
    "agreement": "Study agreement of the three hospitals",
    "invitation": SimpleNamespace(email="vera@valley.example"),
    "role": "data scientist",
    "hours": 72,
    "code": "ABC-123",
    "keys": 2,
    "left": 3,
    "provider": "Hospital sign-in",
    "title": "An organization joined a federation you own",
    "short": "Valley Clinic joined healthcare-consortium.",
    "lines": [
        {"sentence": "Valley Clinic joined healthcare-consortium.", "link": "https://portal.example/somewhere/Xy_1-2"}
    ],
    "count": 1,
    "more": 0,
    "unsubscribe": "https://portal.example/unsubscribe/Ab-3",
}
MARK = "!missing!"


@pytest.fixture
def letter(request: pytest.FixtureRequest, db: None, settings: Any) -> Letter:
    """The letter of this kind; what its context lacks is marked."""
    settings.TEMPLATES = [
        {**one, "OPTIONS": {**one["OPTIONS"], "string_if_invalid": MARK}} for one in settings.TEMPLATES
    ]
    engines._engines = {}
    with unit():
        return letters.write("vera@valley.example", request.param, **SAID)


def visible(page: str) -> str:
    """The words of a page, without its head."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.partition("<body")[2])).split())


def test_every_kind_has_both_forms() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.html") if path.stem != "base") == KINDS


@pytest.mark.parametrize("letter", KINDS, indirect=True, ids=KINDS)
def test_a_letter_is_whole_in_both_forms(letter: Letter) -> None:
    assert letter.subject
    assert "\n" not in letter.subject
    assert MARK not in letter.subject + letter.text + letter.html
    assert not re.search(r"{[{%]|[%}]}", letter.text + letter.html)
    assert not re.search(r"\n{3,}", letter.text)
    assert letter.html.count("<h1") == 1
    addresses = set(re.findall(r"https?://[^\s\"<]+[\w/]", letter.html))
    assert addresses == set(re.findall(r"https?://[^\s\"<]+[\w/]", letter.text))
    assert SAID["link"] in addresses
    assert "&" not in letter.text.replace(SAID["link"], "")


@pytest.mark.parametrize("letter", KINDS, indirect=True, ids=KINDS)
def test_the_text_says_what_the_page_says(letter: Letter) -> None:
    for name in ("North Hospital", "Olga", "Valley Clinic", "vera@valley.example", "ABC-123", "72 hours"):
        if name in visible(letter.html):
            assert name in f"{letter.subject}\n{letter.text}", name


@pytest.mark.parametrize("letter", KINDS, indirect=True, ids=KINDS)
def test_a_letter_loads_nothing_and_can_be_read_in_the_dark(letter: Letter) -> None:
    assert not re.search(r"<(img|script|link|iframe|form)\b|url\(|@import|@font-face", letter.html)
    assert "prefers-color-scheme: dark" in letter.html
    assert 'content="light dark"' in letter.html
    for name in ("paper", "card", "press", "soft"):  # what dark readers get, something light has
        assert re.search(rf'class="[^"]*\b{name}\b', letter.html), name


def test_names_chosen_by_a_sender_are_escaped_in_every_letter(cast: Cast) -> None:
    evil = 'x"><a href=https://evil.example>'
    with unit():
        for kind in KINDS:
            written = letters.write("a@x.example", kind, **{**SAID, "federation": evil, "inviter": evil})
            assert "<a href=https://evil" not in written.html
