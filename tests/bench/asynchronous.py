"""What waiting for slow devices costs: `python -m tests.bench.asynchronous` prints one JSON line per schedule.

scikit-learn's digits, spread evenly over 20 simulated devices whose trainings take log-normal times (σ = 1, median
1 s); a softmax regression. By the virtual clock it is measured when a model of at least 90 % on the test set was first
handed out: by synchronous rounds, by FedBuff with a buffer of five, by FedAsync. `seconds` is the median over the
seeds, `sooner` how many times sooner than by synchronous rounds; `met` says whether that is at least the target.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from fedportal_sdk.simulation import Settings, Simulation, Speeds
from fedportal_sdk.simulation.fleet import Place
from fedportal_sdk.simulation.owner import Owner, Wish
from tests.running import Portal

DEVICES, SEEDS, ACCURACY, TARGET = 20, 5, 0.90, 2.5
LEARNING = {"learning_rate": 0.5, "epochs": 2, "batch_size": 16}
ASYNCHRONOUS = {"schedule": "asynchronous"}
# schedule → (strategy, rounds that are enough, further parameters, plan)
SCHEDULES: dict[str, tuple[str, int, dict[str, Any], dict[str, Any]]] = {
    "synchronous": ("fedavg", 15, {}, {}),
    "fedbuff": ("fedbuff", 60, {}, {**ASYNCHRONOUS, "buffer": 5}),
    "fedasync": ("fedasync", 300, {}, ASYNCHRONOUS),
}


def reached(portal: Portal, key: str, home: Path, schedule: str, seed: int) -> float:
    """When the accuracy was reached, in seconds of the virtual clock. Raises RuntimeError when it was not."""
    strategy, rounds, more, plan = SCHEDULES[schedule]
    settings = Settings(devices=DEVICES, data="digits", speeds=Speeds("lognormal", (1.0, 1.0)), seed=seed, virtual=True)
    least = DEVICES if schedule == "synchronous" else 1
    config = {**LEARNING, **more}
    wish = Wish(strategy=strategy, rounds=rounds, min_devices=least, round_seconds=3600, config=config, plan=plan)
    outcome = Simulation(Owner(portal.url, key, home=home), Place(portal.url, key), settings, wish).play()
    at = outcome.reached(ACCURACY)
    if at is None:
        raise RuntimeError(f"{schedule} reached {outcome.accuracy} in {rounds} rounds ({outcome.state})")
    return at


def main(arguments: list[str] | None = None) -> None:
    """Print one line per schedule."""
    parser = argparse.ArgumentParser(prog="asynchronous", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args(arguments)
    before = 0.0
    with Portal() as portal, tempfile.TemporaryDirectory(prefix="fedportal-bench-") as home:
        key = portal.found("acme", "olga@acme.example")["api_key"]
        for schedule in SCHEDULES:
            seconds = [reached(portal, key, Path(home), schedule, seed) for seed in range(options.seeds)]
            middle = statistics.median(seconds)
            before = before or middle
            line = {"name": "asynchronous", "schedule": schedule, "devices": DEVICES, "seeds": len(seconds)}
            line |= {"seconds": round(middle, 2), "each": [round(one, 2) for one in seconds]}
            if schedule != "synchronous":
                line |= {"sooner": round(before / middle, 2), "target": TARGET, "met": before / middle >= TARGET}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
