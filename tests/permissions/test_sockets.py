"""Every socket × everybody who may knock × own, foreign and missing objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from channels.layers import channel_layers

from fedportal.common import live
from tests.live.conftest import Watcher
from tests.permissions import addresses
from tests.permissions.stage import Stage, build
from tests.permissions.table import SOCKET_ROWS
from training.routing import websocket_urlpatterns

NOT_SIGNED_IN, NOT_THERE = 4401, 4404


@pytest.fixture
async def stage(transactional_db: None, settings: Any, tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage whose rows other threads see."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.FEDPORTAL_DATA_DIR = tmp_path
    channel_layers.backends.clear()  # the layer of an earlier test belongs to that test's event loop
    live.attach_loop(asyncio.get_running_loop())
    yield await asyncio.to_thread(build)
    live.attach_loop(None)


def everybody(stage: Stage) -> dict[str, list[tuple[bytes, bytes]]]:
    """Who → the headers they knock with."""
    keys = {who: [(b"authorization", f"Bearer {token}".encode())] for who, token in stage.tokens.items()}
    sessions = {who: [(b"cookie", f"sessionid={cookie}".encode())] for who, cookie in stage.sessions.items()}
    return {"anonymous": [], **keys, **sessions}


async def knock(path: str, headers: list[tuple[bytes, bytes]]) -> str | int:
    """What comes first: the kind of the first message, or the code of the refusal."""
    watcher = Watcher(path, headers)
    first = await watcher.arrive()
    await watcher.leave()
    return str(first["kind"]) if "kind" in first else int(first["closed"])


def test_every_socket_stands_in_the_table() -> None:
    assert {str(found.pattern) for found in websocket_urlpatterns} == set(SOCKET_ROWS)


@pytest.mark.parametrize("route", SOCKET_ROWS)
async def test_who_may_listen(route: str, stage: Stage) -> None:
    row = SOCKET_ROWS[route]
    for who, headers in everybody(stage).items():
        name = who.removesuffix("_session")
        worlds = (stage.own, stage.foreign, stage.missing)
        paths = [addresses.filled(route, world, dict(row.places)) for world in worlds]
        own, foreign, missing = [await knock(path, headers) for path in paths]
        strange = NOT_SIGNED_IN if name == "anonymous" else NOT_THERE
        wanted = row.first if name in row.who else strange
        if name == "rex":
            assert (who, own, foreign, missing) == (who, NOT_THERE, row.first, NOT_THERE)
        else:
            assert (who, own, foreign, missing) == (who, wanted, strange, strange)
