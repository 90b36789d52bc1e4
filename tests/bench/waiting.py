"""How much 2,000 idle devices cost, and how fast they wake: `python -m tests.bench.waiting`.

The real embedded portal runs in its own process, the devices are sockets of this one. All devices wait; a task for each
is offered in one unit inside the portal; the time runs from the bell to the last byte of each device's task.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from typing import Any

import uvloop

from fedwire import routes
from tests.protocol.wire import manifest
from tests.running import Portal

DEVICES = 2000
WAKES = 5
SETTLE_SECONDS = 2.0


class Waiting(asyncio.Protocol):
    """A device on one connection, which it keeps."""

    def __init__(self, key: str) -> None:
        self._request = (
            f"GET {routes.TASK_NEXT}?wait=25 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            "User-Agent: fedportal-sdk/0.1\r\nAccept: application/json\r\nAccept-Encoding: identity\r\n\r\n"
        ).encode()
        self._buffer = b""
        self.woken = asyncio.Event()
        self.at = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def wait(self) -> None:
        """Ask for work."""
        self.woken.clear()
        self._buffer = b""
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, gap, body = self._buffer.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 204") and gap:
            self.wait()
        elif gap and len(body) == int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]):
            assert head.startswith(b"HTTP/1.1 200"), self._buffer
            self.at = time.time()
            self.woken.set()


async def measure(portal: Portal, count: int) -> dict[str, object]:
    """Let `count` devices wait and wake."""
    made = portal.do("enrol", count=count)
    loop = asyncio.get_running_loop()
    await warm_up(portal)
    before = portal.rss_kib()
    devices = []
    for one in made:
        _, protocol = await loop.create_connection(lambda key=one["key"]: Waiting(key), "127.0.0.1", portal.port)
        devices.append(protocol)
        protocol.wait()
    await settle(portal, count)
    cost, threads = portal.rss_kib() - before, portal.threads()
    seconds: list[float] = []
    for _ in range(WAKES):
        seconds += await wake(portal, [one["pk"] for one in made], devices)
    seconds.sort()
    return {
        "name": "waiting",
        "devices": count,
        "kib_per_device": round(cost / count, 2),
        "threads": threads,
        "wake_p50_ms": round(1000 * seconds[len(seconds) // 2], 1),
        "wake_p99_ms": round(1000 * seconds[int(len(seconds) * 0.99)], 1),
    }


async def wake(portal: Portal, pks: list[int], devices: list[Waiting]) -> list[float]:
    """Offer every device a task; the seconds from the bell to each device. They wait again afterwards."""
    offered = await asyncio.to_thread(portal.do, "offer", device_pks=pks, manifest=manifest().to_json())
    await asyncio.wait_for(asyncio.gather(*(device.woken.wait() for device in devices)), 30)
    await asyncio.to_thread(portal.do, "close", task_ids=offered["ids"])
    for device in devices:
        device.wait()
    await settle(portal, len(devices))
    return [device.at - offered["at"] for device in devices]


async def settle(portal: Portal, count: int) -> None:
    """Until all devices wait, and everything that their arrival brought about is done."""
    while await asyncio.to_thread(portal.do, "waiting") < count:
        await asyncio.sleep(0.1)
    await asyncio.sleep(SETTLE_SECONDS)


async def warm_up(portal: Portal) -> None:
    """Let other devices ask first, so that threads, connections and the database's cache are there."""

    async def once(key: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", portal.port)
        writer.write(f"GET {routes.TASK_NEXT}?wait=0 HTTP/1.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        assert (await reader.read(100)).startswith(b"HTTP/1.1 204")
        writer.close()

    others = await asyncio.to_thread(portal.do, "enrol", count=400, organization="rival")
    for start in range(0, len(others), 50):
        await asyncio.gather(*(once(one["key"]) for one in others[start : start + 50]))
    await asyncio.sleep(1.0)


def main() -> None:
    """Print one JSON line."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEVICES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Portal(module="tests.driving") as portal:
        print(json.dumps(uvloop.run(measure(portal, count))))


if __name__ == "__main__":
    main()
