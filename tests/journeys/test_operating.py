"""The page on operating, played: its settings, its commands and its processes make a portal that answers."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests import services
from tests.journeys.documentation import block, pasted, with_programs
from tests.protocol.wire import eventually
from tests.running import ROOT, STOP_SECONDS, free_port

pytestmark = [pytest.mark.services, pytest.mark.slow]

PAGE = "docs/operating.md"
PASSWORD = "a long and quiet password"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """What the page exports, with values of this machine."""
    with ExitStack() as stack:
        try:
            database = stack.enter_context(services.postgresql())
            broker = stack.enter_context(services.valkey())
        except services.Unavailable as reason:
            pytest.skip(f"NOT TESTED on real PostgreSQL and Valkey/Redis: {reason}")
        values = {
            "/srv/fedportal ": f"{tmp_path} ",
            "SECRET_KEY=…": f"SECRET_KEY={secrets.token_urlsafe(50)}",
            "PEPPER=…": f"PEPPER={secrets.token_urlsafe(32)}",
            "postgresql://fedportal:…@db.example:5432/fedportal": database,
            "redis://redis.example:6379/0": broker,
            "…@mail.example:465": "…@127.0.0.1:9",
        }
        exports = block(PAGE, "sh", "FEDPORTAL_MODE").filled(values)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FEDPORTAL_")}
        shown = pasted(f"{exports}\nenv -0", ROOT, clean)
        yield dict(line.split("=", 1) for line in shown.split("\0") if "=" in line)


def test_what_the_page_says_makes_a_portal(environment: dict[str, str]) -> None:
    pasted(block(PAGE, "sh", "manage.py migrate").text, ROOT, environment)
    port = free_port()
    web, worker, sweeper = block(PAGE, "sh", "fedportal.serve").filled({"8001": str(port)}).strip().splitlines()
    with running(web, environment), running(worker, environment) as working, running(sweeper, environment) as sweeping:
        eventually(lambda: answers(port), 60)
        found, staff, verify = block(PAGE, "sh", "found_organization").text.strip().splitlines()
        made = json.loads(re.search(r"\{.*\}", pasted(found, ROOT, environment), re.S)[0])  # type: ignore[index]
        assert made["api_key"].startswith("edg_")
        asked = {"DJANGO_SUPERUSER_EMAIL": "rex@portal.example", "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
        pasted(f"{staff} --noinput", ROOT, environment | asked)
        assert pasted(verify, ROOT, environment)
        assert [working.poll(), sweeping.poll()] == [None, None]


@contextmanager
def running(line: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """One of the page's processes."""
    process = subprocess.Popen(["bash", "-c", f"exec {line}"], cwd=ROOT, env=with_programs(environment))
    try:
        yield process
    finally:
        process.terminate()
        process.wait(STOP_SECONDS)


def answers(port: int) -> bool:
    """Whether a proxy that ended TLS gets a page."""
    forwarded = {"Host": "portal.example", "X-Forwarded-Proto": "https"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/sign-in", headers=forwarded)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
