"""How many devices the portal bears: `python -m tests.bench.simulate` prints one JSON line per setting.

The whole portal runs in its own process, simulated devices in another, over HTTP; all of them take part in every round.
`ms_per_device` is the time from the first round's opening to the last one's end over the updates that were
acknowledged: it should not grow with the number of devices. `rss_mb` is the most memory that the portal held.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from pathlib import Path

from fedportal_sdk.simulation import Settings, Simulation
from fedportal_sdk.simulation.fleet import Place
from fedportal_sdk.simulation.owner import Owner, Wish
from tests.running import Portal

SETTINGS = ((100, 10), (1_000, 10), (2_000, 10), (10_000, 3))
ROWS = 20
ROUND_SECONDS = 1800


def measure(devices: int, rounds: int) -> dict[str, object]:
    """One line of the benchmark."""
    with Portal() as portal, tempfile.TemporaryDirectory(prefix="fedportal-bench-") as home:
        key = portal.found("acme", "olga@acme.example")["api_key"]
        settings = Settings(devices=devices, rows=ROWS)
        wish = Wish(rounds=rounds, min_devices=devices, round_seconds=ROUND_SECONDS)
        owner = Owner(portal.url, key, home=Path(home))
        # The portal goes with its data, so nobody needs to be retired.
        outcome = Simulation(owner, Place(portal.url, key), settings, wish, keep=True).play()
        if outcome.state != "completed" or outcome.answered != devices * rounds:
            raise RuntimeError(f"{outcome.state}: {outcome.reason} {outcome.counts}\n{portal.tail()}")
        return {
            "name": "simulate",
            "devices": devices,
            "rounds": rounds,
            "rounds_per_minute": round(outcome.rounds_per_minute or 0.0, 2),
            "ms_per_device": round(outcome.ms_per_device or 0.0, 2),
            "enrolling_ms_per_device": round(1000 * outcome.enrolling_seconds / devices, 2),
            "rss_mb": round(portal.peak_rss_kib() * 1024 / 1e6),
        }


def main(arguments: list[str] | None = None) -> None:
    """Print one line per setting."""
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("--only", type=int, action="append", help="so many devices; repeatable")
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for devices, rounds in SETTINGS:
        if not options.only or devices in options.only:
            print(json.dumps(measure(devices, rounds)), flush=True)


if __name__ == "__main__":
    main()
