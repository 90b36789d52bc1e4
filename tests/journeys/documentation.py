"""The fenced blocks of the documentation, and how a person would run them: pasted, with their own values filled in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.running import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "sdk").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.M | re.S)
PROGRAMS = Path(sys.executable).parent
SECONDS = 120


@dataclass(frozen=True)
class Block:
    """A fenced block: the page it stands on (from the root), its language, its text."""

    page: str
    language: str
    text: str

    def filled(self, values: Mapping[str, str]) -> str:
        """The text with each of the `values` put in for its placeholder. Raises AssertionError where one is missing."""
        text = self.text
        for placeholder, value in values.items():
            assert placeholder in text, f"{self.page} no longer says {placeholder}:\n{self.text}"
            text = text.replace(placeholder, value)
        return text


def blocks(language: str, page: str = "") -> list[Block]:
    """Every fenced block in this language, on one page or on all."""
    found = []
    for path in PAGES:
        name = path.relative_to(ROOT).as_posix()
        if page in ("", name):
            text = path.read_text(encoding="utf-8")
            found += [Block(name, kind, body) for kind, body in BLOCK.findall(text) if kind == language]
    return found


def block(page: str, language: str, word: str) -> Block:
    """The page's first block in this language that holds `word`."""
    return next(found for found in blocks(language, page) if word in found.text)


def pasted(script: str, folder: Path, environment: Mapping[str, str]) -> str:
    """What a shell in `folder` prints when `script` is pasted into it; every line must succeed."""
    done = subprocess.run(
        ["bash", "-e"],
        input=script,
        cwd=folder,
        env=with_programs(environment),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def with_programs(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with python, fedportal and celery of this venv first on the path."""
    return {**environment, "PATH": f"{PROGRAMS}{os.pathsep}{environment.get('PATH', os.defpath)}"}
