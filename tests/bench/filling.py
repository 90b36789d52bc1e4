"""How long it takes to let devices into a round that is short of them: `python -m tests.bench.filling` prints JSON.

The round waits for more devices than there are, so each that comes is let in. They come one by one, the dearest way, or
so many at once as the portal hears of in the busiest moments. `first_ms` and `last_ms`, per device among the first and
the last tenth, say whether it depends on how many are in already.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from pathlib import Path

from fedportal_sdk.portal import Portal as Owner
from tests.running import Portal

MODEL = "bench"
DEVICES = 1000
LOTS = (1, 50)


def main() -> None:
    """Print one JSON line for each size of a lot."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEVICES
    with tempfile.TemporaryDirectory(prefix="fedportal-bench-") as folder, Portal(module="tests.driving") as portal:
        owner = Owner(portal.url, portal.found("acme", "olga@acme.example")["api_key"], home=Path(folder))
        owner.found_federation("benchmark")
        owner.create_model(MODEL, architecture={"kind": "logistic", "inputs": 30, "classes": 2})
        owner.push_initial(MODEL)
        owner.share(MODEL, "benchmark")
        devices = [one["pk"] for one in portal.do("enrol", count=count, organization="acme")]
        for at_once in LOTS:
            print(json.dumps(measure(portal, owner, devices, at_once)), flush=True)


def measure(portal: Portal, owner: Owner, devices: list[int], at_once: int) -> dict[str, object]:
    """Let all of them into the first round of a run, so many at once."""
    portal.do("only", device_pks=[])
    run = owner.start(MODEL, rounds=1, min_devices=len(devices) + 1)
    took = [1000 * seconds / at_once for seconds in portal.do("come", device_pks=devices, at_once=at_once)]
    joined = owner.status(run["id"])["tally"]["total"]
    owner.stop(run["id"])
    tenth = max(len(took) // 10, 1)
    return {
        "name": "filling",
        "devices": len(devices),
        "joined": joined,
        "at_once": at_once,
        "ms_per_device": round(statistics.fmean(took), 2),
        "first_ms": round(statistics.fmean(took[:tenth]), 2),
        "last_ms": round(statistics.fmean(took[-tenth:]), 2),
    }


if __name__ == "__main__":
    main()
