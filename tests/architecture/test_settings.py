"""Settings come from the environment only; production refuses what is not safe, by name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import ROOT

SAFE = {
    "MODE": "production",
    "SECRET_KEY": "s" * 50,
    "PEPPER": "p" * 32,
    "ALLOWED_HOSTS": "portal.example",
    "DATABASE_URL": "postgresql://portal@127.0.0.1:1/portal",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "PUBLIC_URL": "https://portal.example",
}
UNSAFE = {
    "SECRET_KEY": "s" * 49,
    "PEPPER": "p" * 31,
    "DEBUG": "1",
    "ALLOWED_HOSTS": "",
    "DATABASE_URL": "sqlite",
    "REDIS_URL": "",
    "FAULT": "after_commit:1",
    "PUBLIC_URL": "http://portal.example",
}
PROBE = """
import django
django.setup()
from django.urls import get_resolver
import fedportal.asgi, fedportal.urls
get_resolver().url_patterns
assert get_resolver().reverse_dict is not None
import sys
print(sorted(name for name in ("torch", "sklearn", "fedportal_sdk") if name in sys.modules))
"""


def run(folder: Path, program: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run `program` in a process whose only settings are the safe ones with `changes`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FEDPORTAL_", "DJANGO_"))}
    chosen = SAFE | {"DATA_DIR": str(folder)} | changes
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=inherited
        | {"DJANGO_SETTINGS_MODULE": "fedportal.settings"}
        | {f"FEDPORTAL_{name}": value for name, value in chosen.items()},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_production_web_process_never_imports_torch_nor_the_sdk(tmp_path):
    done = run(tmp_path, PROBE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", UNSAFE)
def test_production_refuses_what_is_not_safe(tmp_path, name):
    done = run(tmp_path, "import fedportal.settings", **{name: UNSAFE[name]})
    assert done.returncode != 0
    assert "Unsafe production settings" in done.stderr
    assert f"FEDPORTAL_{name}" in done.stderr.splitlines()[-1]


def test_production_makes_no_secret_of_its_own(tmp_path):
    assert run(tmp_path, "import fedportal.settings").returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_mode_is_refused(tmp_path):
    assert "FEDPORTAL_MODE" in run(tmp_path, "import fedportal.settings", MODE="fast").stderr


def test_every_variable_is_documented():
    settings = (ROOT / "fedportal" / "settings.py").read_text()
    page = (ROOT / "docs" / "settings.md").read_text()
    asked = {f"FEDPORTAL_{name}" for name in re.findall(r'env\("([A-Z_]+)"', settings)}
    asked |= set(re.findall(r'environ(?:\.get)?[(\[]"(FEDPORTAL_[A-Z_]+)"', settings))
    assert asked
    assert {name for name in asked if f"`{name}`" not in page} == set()
