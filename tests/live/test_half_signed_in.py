"""A socket opens only for who has taken every step of a sign-in."""

from __future__ import annotations

import asyncio

from django.test import Client

from federations.services import second_factor
from tests.cast import PASSWORD
from tests.federations.authenticator import code
from tests.live.conftest import Watch, Watcher
from tests.training.conftest import Stage


async def test_before_the_second_factor_no_socket_opens(watch: Watch, stage: Stage) -> None:
    """`watch` lends the event loop and the layer."""
    await asyncio.to_thread(stage.three)
    run = await asyncio.to_thread(stage.start)
    browser, secret = Client(), second_factor.new_secret()

    def first_step() -> None:
        second_factor.turn_on(stage.cast.olga, secret, code(secret, -1), "192.0.2.1")
        browser.post("/sign-in", {"email": "olga@acme.example", "password": PASSWORD})

    def second_step() -> None:
        browser.post("/sign-in/second-factor", {"code": code(secret)})

    async def arrive() -> dict[str, object]:
        cookie = f"sessionid={browser.cookies['sessionid'].value}".encode()
        watcher = Watcher(f"/ws/runs/{run.public_id}", [(b"cookie", cookie)])
        try:
            return await watcher.arrive()
        finally:
            await watcher.leave()

    await asyncio.to_thread(first_step)
    assert await arrive() == {"closed": 4401}
    await asyncio.to_thread(second_step)
    assert (await arrive())["kind"] == "snapshot"
