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
from contextlib import ExitStack
from functools import cache
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, NamedTuple

from fedportal_sdk.simulation import Attackers, Outcome, Settings, Simulation
from fedportal_sdk.simulation.fleet import Place
from fedportal_sdk.simulation.owner import Owner, Wish
from tests.bench import _jobs
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


class Job(NamedTuple):
    """One run."""

    strategy: str
    seed: int
    rounds: int
    attacked: bool

    def __str__(self) -> str:
        return f"{self.strategy}, seed {self.seed}, {'attacked' if self.attacked else 'calm'}"


@cache
def place() -> tuple[Portal, str, Path]:
    """The portal of this process, with a key and a folder; it ends with the process."""
    stack = ExitStack()
    Finalize(None, stack.close, exitpriority=10)
    portal = stack.enter_context(Portal())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fedportal-bench-")))
    return portal, portal.found("acme", "olga@acme.example")["api_key"], folder


def play(job: Job) -> Outcome:
    """One run from its first to its last model."""
    portal, key, home = place()
    attackers = (Attackers(ATTACKERS, "sign-flip", FACTOR),) if job.attacked else ()
    settings = Settings(devices=DEVICES, data="digits", attackers=attackers, seed=job.seed)
    faulty = {} if job.strategy == MEAN else {"faulty": ATTACKERS}
    wish = Wish(strategy=job.strategy, rounds=job.rounds, min_devices=DEVICES, config={**LEARNING, **faulty})
    outcome = Simulation(Owner(portal.url, key, home=home), Place(portal.url, key), settings, wish).play()
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
    """Print one line per strategy, and on standard error one per run."""
    parser = argparse.ArgumentParser(prog="attack", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--seed", type=int, action="append", help="only this one; repeatable")
    parser.add_argument("--only", choices=TARGETS, action="append", help="beside the mean only this; repeatable")
    _jobs.add_option(parser)
    options = parser.parse_args(arguments)
    strategies, seeds = (MEAN, *(options.only or TARGETS)), options.seed or range(options.seeds)
    jobs = [Job(one, seed, options.rounds, attack) for one in strategies for attack in (True, False) for seed in seeds]
    mean: dict[str, Any] = {}
    found: list[Outcome] = []
    played = _jobs.done(play, jobs, options.jobs, lambda job, outcome: f"{job}: accuracy {outcome.accuracy}")
    for job, outcome in zip(jobs, played, strict=True):
        found.append(outcome)
        if len(found) == 2 * len(seeds):
            line = measured(job.strategy, found[: len(seeds)], found[len(seeds) :])
            mean, found = mean or line, []
            print(json.dumps(judged(line, mean)), flush=True)


if __name__ == "__main__":
    main()
