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
    "SECRET_KEY": "0123456789" * 5,
    "PEPPER": "abcdefghijklmnop" * 2,
    "ALLOWED_HOSTS": "portal.example",
    "DATABASE_URL": "postgresql://portal@127.0.0.1:1/portal",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "PUBLIC_URL": "https://portal.example",
    "EMAIL_URL": "smtps://portal@mail.example",
}
UNSAFE = [
    ("SECRET_KEY", "0123456789" * 4),
    ("SECRET_KEY", "s" * 50),
    ("PEPPER", "abcdefghijklmnop"),
    ("PEPPER", "p" * 32),
    ("PEPPER", SAFE["SECRET_KEY"]),
    ("DEBUG", "1"),
    ("ALLOWED_HOSTS", ""),
    ("ALLOWED_HOSTS", "*"),
    ("ALLOWED_HOSTS", "portal.example,*.example"),
    ("DATABASE_URL", "sqlite"),
    ("REDIS_URL", ""),
    ("FAULT", "after_commit:1"),
    ("WEBHOOK_TEST_HOSTS", "127.0.0.1:9000"),
    ("PUBLIC_URL", "http://portal.example"),
    ("EMAIL_URL", ""),
]
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


@pytest.mark.parametrize(("name", "value"), UNSAFE)
def test_production_refuses_what_is_not_safe(tmp_path, name, value):
    done = run(tmp_path, "import fedportal.settings", **{name: value})
    assert done.returncode != 0
    assert "Unsafe production settings" in done.stderr
    assert f"FEDPORTAL_{name}" in done.stderr.splitlines()[-1]


def test_production_makes_no_secret_of_its_own(tmp_path):
    assert run(tmp_path, "import fedportal.settings").returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_the_database_address_keeps_its_options(tmp_path):
    program = "from fedportal.settings import DATABASES; print(DATABASES['default']['OPTIONS'])"
    strict = SAFE["DATABASE_URL"] + "?sslmode=verify-full&sslrootcert=/etc/ca.pem"
    done = run(tmp_path, program, DATABASE_URL=strict)
    assert done.stdout.strip() == "{'sslmode': 'verify-full', 'sslrootcert': '/etc/ca.pem'}"
    assert "ssl_mode" in run(tmp_path, program, DATABASE_URL=SAFE["DATABASE_URL"] + "?ssl_mode=require").stderr


def test_a_mail_address_of_another_kind_is_refused(tmp_path):
    assert "smtp+tls" in run(tmp_path, "import fedportal.settings", EMAIL_URL="mail://mail.example").stderr


def test_pages_with_details_of_errors_are_for_this_machine_only(tmp_path):
    local = {"MODE": "embedded", "DEBUG": "1", "ALLOWED_HOSTS": ""}
    assert run(tmp_path, "import fedportal.settings", **local, PUBLIC_URL="http://127.0.0.1:8000").returncode == 0
    assert "DEBUG" in run(tmp_path, "import fedportal.settings", **local, PUBLIC_URL="https://portal.example").stderr


def test_secrets_of_an_installation_are_whole_private_and_kept(tmp_path):
    program = "from fedportal.settings import FEDPORTAL_PEPPER, SECRET_KEY; print(SECRET_KEY, FEDPORTAL_PEPPER)"
    own = {"MODE": "embedded", "SECRET_KEY": "", "PEPPER": "", "PUBLIC_URL": ""}
    first, second = (run(tmp_path, program, **own).stdout for _ in range(2))
    assert first == second
    assert all(len(word) > 50 for word in first.split())
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    (tmp_path / "pepper").write_text("")
    assert "damaged" in run(tmp_path, program, **own).stderr


def test_an_unknown_mode_is_refused(tmp_path):
    assert "FEDPORTAL_MODE" in run(tmp_path, "import fedportal.settings", MODE="fast").stderr


def test_every_variable_is_documented():
    settings = (ROOT / "fedportal" / "settings.py").read_text()
    page = (ROOT / "docs" / "settings.md").read_text()
    asked = {f"FEDPORTAL_{name}" for name in re.findall(r'env\("([A-Z_]+)"', settings)}
    asked |= set(re.findall(r'environ(?:\.get)?[(\[]"(FEDPORTAL_[A-Z_]+)"', settings))
    assert asked
    assert {name for name in asked if f"`{name}`" not in page} == set()


@pytest.mark.parametrize("entry", ["fedportal.settings", "fedportal.celery", "fedportal.asgi", "manage"])
def test_numpy_multiplies_in_one_thread_wherever_the_portal_runs(entry: str) -> None:
    """So that a round has the same bits on every machine. It is read when numpy is loaded, and not later."""
    code = (
        "import builtins, os; plain = builtins.__import__\n"
        "def watch(name, *more, **named):\n"
        "    if name == 'numpy':\n"
        "        print(os.environ.get('OPENBLAS_NUM_THREADS'), flush=True); os._exit(0)\n"
        "    return plain(name, *more, **named)\n"
        f"builtins.__import__ = watch; import django, {entry}; django.setup(); import numpy"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    environment |= {"DJANGO_SETTINGS_MODULE": "fedportal.settings", "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk' / 'src'}"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1"]
