"""How fast a model of 100 MB goes out: `python -m tests.bench.download`.

The real embedded portal runs in its own process, the reader is this one; the file is in the system's cache, as it is
when a round's model goes to many devices. The memory is the most the portal grew during any of the downloads.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from fedwire import routes
from tests.protocol.conftest import enrol
from tests.protocol.wire import Device
from tests.running import Portal

MB = 100
TIMES = 9


def measure(portal: Portal, mb: int) -> dict[str, object]:
    """The median speed of several downloads."""
    device = enrol(portal)
    small = device.offered(base=portal.do("put_blob", size=1000))
    device.request("GET", routes.TASK_MODEL.format(task=small))  # starts the threads
    task = device.offered(base=portal.do("make_blob", size=mb * 1_000_000))
    portal.forget_peak()
    before = portal.rss_kib()
    speeds = [fetch(device, task, mb * 1_000_000) for _ in range(TIMES)]
    return {
        "name": "download",
        "mb": mb,
        "mb_per_s": round(statistics.median(speeds), 1),
        "rss_growth_mb": round((portal.peak_rss_kib() - before) / 1024, 2),
    }


def fetch(device: Device, task: str, size: int) -> float:
    """Megabytes per second of one download, read into one buffer and thrown away."""
    buffer = bytearray(1 << 20)
    with device.wire() as wire:
        began = time.perf_counter()
        wire.head("GET", routes.TASK_MODEL.format(task=task), {"Connection": "close"})
        came = 0
        while count := wire.socket.recv_into(buffer):
            came += count
        seconds = time.perf_counter() - began
    assert size < came < size + 2000, came
    return size / 1e6 / seconds


def main() -> None:
    """Print one JSON line."""
    mb = int(sys.argv[1]) if len(sys.argv) > 1 else MB
    with Portal(module="tests.driving") as portal:
        print(json.dumps(measure(portal, mb)))


if __name__ == "__main__":
    main()
