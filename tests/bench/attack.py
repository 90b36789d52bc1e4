"""What attackers do to each strategy, through the real portal: `python -m tests.bench.attack` prints a JSON line each.

scikit-learn's digits, 70 % to train on, spread evenly over 20 simulated devices, 30 % to test the last model on; a
softmax regression, 30 rounds of 2 epochs in batches of 16 with the learning rate 0.5. Four of the devices send their
update times -4. Everything is done for five seeds, with and without the attack, and the worst accuracy counts.

`target`: what the strategy should keep under attack, or at most for the mean; `points_lost`: to the mean, without an
attack, over the worst seeds; `flagged`: how many of the attackers the portal flagged in how many of their updates, by
name; `false_flags`: updates of honest devices that were flagged, of all. `met` says whether the targets are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from fedportal_sdk.simulation import Attackers, Outcome, Settings, Simulation
from fedportal_sdk.simulation.fleet import Place
from fedportal_sdk.simulation.owner import Owner, Wish
from tests.running import Portal

DEVICES, ATTACKERS, FACTOR = 20, 4, -4.0
ROUNDS, SEEDS = 30, 5
LEARNING = {"learning_rate": 0.5, "epochs": 2, "batch_size": 16}
# strategy → the accuracy that it should keep under attack, and the most points it may lose to the mean without one
TARGETS = {
    "median": (0.88, 2.0),
    "trimmed_mean": (0.88, 2.0),
    "multi_krum": (0.88, 2.0),
    "geometric_median": (0.88, 2.0),
    "krum": (0.82, 9.0),
}
MEAN, COLLAPSED = "fedavg", 0.30


def play(portal: Portal, key: str, home: Path, strategy: str, seed: int, rounds: int, *, attacked: bool) -> Outcome:
    """One run from its first to its last model."""
    attackers = (Attackers(ATTACKERS, "sign-flip", FACTOR),) if attacked else ()
    settings = Settings(devices=DEVICES, data="digits", attackers=attackers, seed=seed)
    faulty = {} if strategy == MEAN else {"faulty": ATTACKERS}
    wish = Wish(strategy=strategy, rounds=rounds, min_devices=DEVICES, config={**LEARNING, **faulty})
    owner = Owner(portal.url, key, home=home)
    outcome = Simulation(owner, Place(portal.url, key), settings, wish).play()
    if outcome.state != "completed":
        raise RuntimeError(f"{outcome.state}: {outcome.reason}\n{portal.tail()}")
    return outcome


def measured(strategy: str, attacked: list[Outcome], calm: list[Outcome]) -> dict[str, Any]:
    """A line but for what needs the mean's."""
    updates = sum(len(one.rounds) for one in attacked)
    honest = sum(suspect.flagged for one in (*attacked, *calm) for suspect in one.false_flags)
    return {
        "name": "attack",
        "strategy": strategy,
        "seeds": len(attacked),
        "attacked": round(min(one.accuracy or 0.0 for one in attacked), 4),
        "attacked_best": round(max(one.accuracy or 0.0 for one in attacked), 4),
        "unattacked": round(min(one.accuracy or 0.0 for one in calm), 4),
        "flagged_devices": sum(suspect.flagged > 0 for one in attacked for suspect in one.attackers),
        "attackers": sum(len(one.attackers) for one in attacked),
        "flagged_share": round(sum(s.flagged for one in attacked for s in one.attackers) / (ATTACKERS * updates), 4),
        "false_flags": honest,
        "honest_updates": (DEVICES - ATTACKERS) * updates + DEVICES * sum(len(one.rounds) for one in calm),
    }


def judged(line: dict[str, Any], mean: dict[str, Any]) -> dict[str, Any]:
    """The line with its targets, and whether they are met."""
    if line["strategy"] == MEAN:
        return {**line, "target": f"<= {COLLAPSED}", "met": line["attacked_best"] <= COLLAPSED}
    least, most = TARGETS[line["strategy"]]
    lost = round(100 * (mean["unattacked"] - line["unattacked"]), 2)
    met = line["attacked"] >= least and lost <= most
    return {**line, "points_lost": lost, "target": f">= {least}, at most {most:g} points lost", "met": met}


def main(arguments: list[str] | None = None) -> None:
    """Print one line per strategy."""
    parser = argparse.ArgumentParser(prog="attack", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--only", choices=TARGETS, action="append", help="beside the mean only this; repeatable")
    options = parser.parse_args(arguments)
    mean: dict[str, Any] = {}
    with Portal() as portal, tempfile.TemporaryDirectory(prefix="fedportal-bench-") as home:
        key = portal.found("acme", "olga@acme.example")["api_key"]
        for strategy in (MEAN, *(options.only or TARGETS)):
            attacked, calm = (
                [
                    play(portal, key, Path(home), strategy, seed, options.rounds, attacked=attack)
                    for seed in range(options.seeds)
                ]
                for attack in (True, False)
            )
            line = measured(strategy, attacked, calm)
            mean = mean or line
            print(json.dumps(judged(line, mean)), flush=True)


if __name__ == "__main__":
    main()
