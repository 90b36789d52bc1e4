"""What is kept under version control is the project's and nobody's machine's."""

from __future__ import annotations

import re

import pytest

import dev
from tests.architecture import source

# Written so that this file does not match itself.
FORBIDDEN = {
    "a folder of somebody's machine": re.compile(r"(?<![\w.$}/-])/(?:home|root|work|Users)/\w+"),
    "the address of a package registry": re.compile(r"py[p]i\.org|pythonh[o]sted|anac[o]nda\.org"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIV[A]TE KEY-----"),
    "a key of the portal": re.compile(r"\bedg_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}"),
    "something left to do": re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X])\b"),
}
NAMED = re.compile(r"\d{4}_(?!auto_)[a-z0-9_]+")


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what):
    found = []
    for path in source.tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(source.ROOT)}: {match[0]}" for match in FORBIDDEN[what].finditer(text)]
    assert found == []


def test_every_migration_is_named_after_what_it_does():
    files = [path for room in source.FLOORS for path in (source.ROOT / room).glob("migrations/[0-9]*.py")]
    assert files
    assert [path.name for path in files if not NAMED.fullmatch(path.stem)] == []


def test_the_top_level_holds_what_the_design_names_and_no_more():
    allowed = {
        *("manage.py", "pyproject.toml", "constraints.txt", "dev.py", "README.md", "CONTRIBUTING.md", "LICENSE"),
        *("fedportal", "federations", "registry", "training", "templates", "static", "tests", "sdk", "docs", "deploy"),
        *(".ci", ".gitignore", ".gitattributes", ".editorconfig"),
    }
    assert {path.relative_to(source.ROOT).parts[0] for path in source.tracked()} - allowed == set()


def test_what_is_tested_on_services_is_there():
    """Folders with tests in them, or single files of tests."""
    places = [source.ROOT / place for place in dev.ON_SERVICES]
    assert [place for place in places if not place.is_file() and not list(place.glob("test_*.py"))] == []
