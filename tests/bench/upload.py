"""How fast an update of 100 MB comes in, checked, hashed and synced: `python -m tests.bench.upload`.

The real embedded portal runs in its own process, the sender is this one. The time runs from the first byte sent to the
acknowledgement; the memory is the most the portal grew during any of the uploads.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

from fedwire import routes
from tests.protocol.conftest import enrol
from tests.protocol.wire import manifest, sha256, update
from tests.running import Portal

MB = 100
TIMES = 7


def measure(portal: Portal, mb: int) -> dict[str, object]:
    """The median speed of several uploads, each of new content."""
    shape = manifest(mb * 250_000)
    device = enrol(portal)
    device.put(device.offered(manifest()), update(manifest()))  # starts the threads
    portal.forget_peak()
    before = portal.rss_kib()
    speeds = []
    for seed in range(TIMES):
        body = update(shape, seed)
        digest, task = sha256(body), device.offered(shape)
        with device.wire() as wire:
            began = time.perf_counter()
            wire.head(
                "PUT", routes.TASK_UPDATE.format(task=task), {"Content-Length": len(body), "Upload-Digest": digest}
            )
            wire.send(body)
            reply = wire.reply()
            speeds.append(len(body) / 1e6 / (time.perf_counter() - began))
        assert reply.json()["complete"], reply
        assert portal.do("task", task_id=task)["upload_sha256"] == digest
    return {
        "name": "upload",
        "mb": mb,
        "mb_per_s": round(statistics.median(speeds), 1),
        "rss_growth_mb": round((portal.peak_rss_kib() - before) / 1024, 2),
    }


def main() -> None:
    """Print one JSON line."""
    mb = int(sys.argv[1]) if len(sys.argv) > 1 else MB
    with Portal(module="tests.driving") as portal:
        print(json.dumps(measure(portal, mb)))


if __name__ == "__main__":
    main()
