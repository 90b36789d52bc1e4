"""What a connection does with requests that come one upon another, and what wakes those that wait on it."""

from __future__ import annotations

import asyncio

import pytest

from fedportal.door.protocol import Signal
from fedwire import routes
from tests.protocol.wire import Device, Wire
from tests.running import Portal


def test_requests_that_were_sent_at_once_are_answered_in_their_order(portal: Portal, device: Device) -> None:
    with Wire(portal, device.key) as wire:
        wire.head("GET", "/no/such/page")
        wire.head("GET", routes.TASK_NEXT + "?wait=0")
        wire.head("GET", routes.TASK_NEXT + "?wait=nonsense")
        assert [wire.reply().status for _ in range(3)] == [404, 204, 400]


def test_a_connection_serves_again_after_a_wait(portal: Portal, device: Device) -> None:
    with Wire(portal, device.key) as wire:
        for _ in range(3):
            wire.head("GET", routes.TASK_NEXT + "?wait=0.2")
            assert wire.reply().status == 204


def test_a_signal_wakes_all_who_wait_and_forgets_who_left() -> None:
    async def play() -> tuple[list[bool], bool]:
        signal = Signal()
        waiting = [asyncio.ensure_future(signal.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        signal.set()
        signal.clear()
        woken = await asyncio.gather(*waiting[1:])
        with pytest.raises(TimeoutError):  # cleared: whoever comes now waits
            await asyncio.wait_for(signal.wait(), 0.01)
        signal.set()
        return woken, await signal.wait()

    assert asyncio.run(play()) == ([True, True], True)
