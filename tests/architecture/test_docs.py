"""The documentation says what the code says."""

from __future__ import annotations

import re
import struct

import pytest

from docs import generate, pictures
from fedportal.door import pages, threads
from tests.architecture.source import ROOT

LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
NAMED = re.compile(r"`((?:fedportal|federations|registry|training|sdk|tests|deploy|docs)/[\w./-]+)`")
ROOTS = (ROOT, ROOT / "sdk" / "src")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "sdk").glob("*.md")])


@pytest.mark.parametrize("name", sorted(generate.pages()))
def test_generated_pages_are_up_to_date(name):
    assert (ROOT / "docs" / name).read_text() == generate.pages()[name], "run `python3 dev.py docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    assert [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    missing = [name for name in NAMED.findall(page.read_text()) if not any((root / name).exists() for root in ROOTS)]
    assert missing == []


def test_the_readmes_pictures_are_pictures_of_a_modest_size():
    named = set(re.findall(r"docs/pictures/([\w-]+\.png)", (ROOT / "README.md").read_text()))
    assert 2 <= len(named) <= 5
    for path in sorted((ROOT / "docs" / "pictures").iterdir()):
        whole = path.read_bytes()
        width, height = struct.unpack(">II", whole[16:24])
        assert (whole[:8], whole[12:16]) == (b"\x89PNG\r\n\x1a\n", b"IHDR"), path.name
        assert (800 <= width <= 2000, 500 <= height <= 2000) == (True, True), path.name
        assert len(whole) <= pictures.MOST_BYTES, path.name
        named.discard(path.name)
    assert named == set()


def test_operators_learn_how_many_connections_the_database_must_allow():
    """Every thread that may ask the database keeps a connection; the last are those of the sockets."""
    each = pages.THREADS + threads.READERS + threads.WRITERS + 1
    text = (ROOT / "docs" / "operating.md").read_text()
    workers, celery = (int(re.search(rf"{name} (\d+)", text)[1]) for name in ("--workers", "--concurrency"))
    assert f"at most {each} for each worker" in text
    assert f"up to {workers * each + (1 + celery) + 1} of the 100" in text
