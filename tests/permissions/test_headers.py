"""What the answers to all addresses have in common: a browser runs nothing inline and loads nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fedportal.security_headers import POLICY
from tests.permissions import addresses
from tests.permissions.stage import Stage, build
from tests.permissions.table import ROWS

# Scripts that are data may stand in a page; what a browser would run or apply may not.
INLINE = re.compile(r"<style|<script(?![^>]*(?:\bsrc=|type=\"application/json\"))|<[^>]+\s(?:style|on[a-z]+)=", re.I)
PLACES = {row.route: dict(row.places) for row in ROWS}


@pytest.fixture
def stage(db: None, settings: Any, tmp_path: Path) -> Stage:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.FEDPORTAL_DATA_DIR = tmp_path
    return build()


def everything(stage: Stage) -> list[str]:
    """Every address that can be asked with GET, with the ids of acme's world where it has places for them."""
    found = []
    for method, route in addresses.django_addresses():
        places = PLACES.get(route, {})
        if method == "GET" and all(places.get(place, place) in stage.own for place in addresses.places(route)):
            found.append(addresses.filled(route, stage.own, places))
    return [address for address in found if "(" not in address]  # a pattern for whatever is left


@pytest.mark.parametrize("who", ["olga_session", "staff", "anonymous"])
def test_nothing_runs_inline_on_any_page(who: str, stage: Stage) -> None:
    asked, client = everything(stage), stage.clients[who]
    assert len(asked) > 50
    for address in [*asked, "/api/docs?script=", "/nowhere", "/static/nowhere"]:
        response = client.get(address)
        policy = response.headers["Content-Security-Policy"]
        assert (address, policy) == (address, POLICY)
        if response.headers["Content-Type"].startswith("text/html") and not response.streaming:
            assert (address, INLINE.findall(response.content.decode())) == (address, [])
    assert "unsafe-inline" not in POLICY
