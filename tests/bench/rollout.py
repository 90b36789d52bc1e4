"""How long a rollout's step from 10 % to 20 % takes: `python -m tests.bench.rollout [devices]` prints JSON.

The real service in the real portal on SQLite; the devices are rows as registering makes them, and nobody waits.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from fedportal_sdk.portal import Portal as Owner
from tests.running import Portal

MODEL = "bench"
DEVICES = 10_000
SHARES = (1_000, 2_000, 10_000)


def main() -> None:
    """Print one JSON line."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else DEVICES
    with tempfile.TemporaryDirectory(prefix="fedportal-bench-") as folder, Portal(module="tests.driving") as portal:
        owner = Owner(portal.url, portal.found("acme", "olga@acme.example")["api_key"], home=Path(folder))
        owner.create_model(MODEL, architecture={"kind": "logistic", "inputs": 30, "classes": 2})
        owner.push_initial(MODEL)
        portal.do("enrol", count=count, organization="acme")
        first, step, rest, back = portal.do("roll_out", organization="acme", model=MODEL, shares=SHARES)
        seconds = {"first_s": first, "step_s": step, "rest_s": rest, "rollback_s": back}
        print(json.dumps({"name": "rollout", "devices": count, **seconds}), flush=True)


if __name__ == "__main__":
    main()
