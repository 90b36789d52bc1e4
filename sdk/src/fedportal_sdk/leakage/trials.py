"""The trials of an audit: rows whose updates are made as a device makes them, guarded as a run guards them, attacked.

Inversion: each device takes one step over one row, which is the worst case of a small device and the one in which an
attack shows whether it works at all. Membership: each device trains as the run says, on some rows, and others like them
are told from those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fedportal_sdk.leakage import inversion, membership
from fedportal_sdk.leakage.canaries import Canaries
from fedportal_sdk.leakage.chains import Chain, Floats
from fedportal_sdk.leakage.guards import Guard, held, masked
from fedportal_sdk.leakage.inversion import Prior
from fedportal_sdk.leakage.membership import Verdict
from fedportal_sdk.trainers import Plan, trainer_for
from fedwire.tensors import Float32, unflatten

# An attack that gains no more than this over knowing the mean tells nothing of a row.
TOLERANCE = 0.5
# Somebody who knows a row sees it again in what is nearer to it than this.
SEEN = 20.0
DEVICES = 4
LEAST_EACH = 5
# With fewer rows of a class its spread is not known.
LEAST_OF_CLASS = 10
RATIOS, SEARCH, INFORMED, CLASSWISE = "ratios", "search", "informed", "classwise"


@dataclass(frozen=True)
class Inverted:
    """How well rows were found again, in dB, as means over the rows.

    `attacks`: by name. `floor`: of the better of the two guesses that need no update, the mean of all rows and of the
    row's class. `closest`: of that among everything which the attacks extracted that is nearest to the row; the
    attacker cannot choose it, but somebody whose row it is would know it again. `share`: of rows that are found so,
    better than by 20 dB. `told`: of an attacker who knows from elsewhere of which class each row is; None where there
    is no noise or no class. `guesses`: the rows found by the best attack [n, d].
    """

    rows: int
    attacks: Mapping[str, float]
    floor: float
    closest: float
    share: float
    told: float | None
    guesses: Floats = field(repr=False)

    @property
    def best(self) -> str:
        """The attack that does best."""
        return max(self.attacks, key=lambda name: self.attacks[name])

    @property
    def above(self) -> float:
        """By how much the best attack is above the floor, in dB."""
        return self.attacks[self.best] - self.floor


@dataclass(frozen=True)
class Bench:
    """What all trials of an audit share: the model, its weights [P] and how devices train."""

    chain: Chain
    weights: Float32
    plan: Plan

    def updates(self, rows: Floats, labels: Any) -> Floats:
        """-η·g of each row alone [n, P], in float32 as a device computes it."""
        trainer, manifest = trainer_for(self.chain.architecture), self.chain.architecture.manifest()
        arrays = unflatten(manifest, self.weights)
        one = Plan(learning_rate=self.plan.learning_rate, batch_size=1)
        found = np.empty((len(rows), self.chain.parameters))
        for index, (row, label) in enumerate(zip(rows.astype(np.float32), labels, strict=True)):
            after = trainer.train(arrays, row[None], np.array([label]), one, _silent)
            found[index] = _flat(manifest, after) - self.weights
        return found


def invert(
    bench: Bench, guard: Guard, canaries: Canaries, places: Any, random: np.random.Generator, *, mask: bool = False
) -> Inverted:
    """Attack what the portal holds of devices that have one of these rows each; `mask`: before the sum is made."""
    updates = bench.updates(canaries.rows[places], canaries.labels[places])
    rate = bench.plan.learning_rate
    if mask:
        return attacked(bench, Guard(), masked(guard, updates), canaries, places, random)
    seen = held(guard, bench.chain.architecture.manifest(), updates, rate, random)
    return attacked(bench, guard, seen, canaries, places, random)


def attacked(
    bench: Bench, guard: Guard, seen: Floats, canaries: Canaries, places: Any, random: np.random.Generator
) -> Inverted:
    """Every attack on what the portal holds [n, P] of devices that have one of the rows at `places` each."""
    chain, prior = bench.chain, Prior.of(canaries.rows)
    truth, labels = canaries.rows[places], canaries.labels[places]
    sigma = guard.sigma(len(seen), bench.plan.learning_rate)
    guesses, told = {RATIOS: inversion.least_squares(chain, seen)}, None
    read = inversion.labels_of(chain, seen)
    if sigma > 0:
        guesses[INFORMED] = inversion.informed(chain, seen, prior, sigma)
    if sigma > 0 and read is not None:
        moves, priors = _classes(bench, guard, canaries, len(seen))
        known = np.where(np.isin(read, list(moves)), read, next(iter(moves)))
        guesses[CLASSWISE] = inversion.classwise(chain, seen, known, moves, priors, sigma)
        told = inversion.classwise(chain, seen, labels, moves, priors, sigma)
    found = inversion.searched(chain, bench.weights.astype(np.float64), seen, prior, random)
    if found is not None:
        guesses[SEARCH] = found
    guesses = {name: prior.within(rows) for name, rows in guesses.items()}
    reached = {name: inversion.psnr(rows, truth, prior.span) for name, rows in guesses.items()}
    blind = (prior.mean, canaries.class_means()[places])
    nearest = np.max([*reached.values(), _nearest(chain, seen, truth, prior)], axis=0)
    means = {name: float(values.mean()) for name, values in reached.items()}
    return Inverted(
        rows=len(truth),
        attacks=means,
        floor=max(float(inversion.psnr(guess, truth, prior.span).mean()) for guess in blind),
        closest=float(nearest.mean()),
        share=float((nearest > SEEN).mean()),
        told=None if told is None else float(inversion.psnr(prior.within(told), truth, prior.span).mean()),
        guesses=guesses[max(means, key=lambda name: means[name])],
    )


def _classes(
    bench: Bench, guard: Guard, canaries: Canaries, devices: int
) -> tuple[dict[int, Floats], dict[int, Prior]]:
    """How the mean row of each class moves the first layer's biases in what the portal holds, and what is known of rows
    of the class. Of a class with few rows the spread of all is taken."""
    moves, priors, every = dict[int, Floats](), dict[int, Prior](), Prior.of(canaries.rows)
    for value in np.unique(canaries.labels):
        own = canaries.rows[canaries.labels == value]
        mean = own.mean(axis=0)
        step = bench.updates(mean[None], np.array([value]))[0]
        if guard.clips:
            step = step * min(1.0, guard.clip / max(float(np.linalg.norm(step)), 1e-300))
        moves[int(value)] = bench.chain.layer(step, 0)[1] / guard.cohort(devices)
        spread = np.atleast_2d(np.cov(own.T)) if len(own) >= LEAST_OF_CLASS else every.covariance
        priors[int(value)] = replace(every, mean=mean, covariance=spread)
    return moves, priors


def _nearest(chain: Chain, seen: Floats, truth: Floats, prior: Prior) -> Floats:
    """For each row the PSNR of the neuron whose ratio is nearest to it [n]."""
    found = np.empty(len(truth))
    for index, (vector, row) in enumerate(zip(seen, truth, strict=True)):
        candidates = prior.within(inversion.ratios(chain, vector))
        found[index] = inversion.psnr(candidates, row, prior.span).max() if len(candidates) else -np.inf
    return found


def tell_members(bench: Bench, guard: Guard, canaries: Canaries, random: np.random.Generator) -> dict[str, Verdict]:
    """Each attack's verdict over devices that train on some of the rows as the run says; others are held against them.

    Rows are dealt to DEVICES devices and as many of others. Each device's update is what the portal holds of it, alone
    or in the sum of all of them. `after`: the model that came of it.
    """
    each = len(canaries) // (2 * DEVICES)
    if each < LEAST_EACH:
        return {}
    order = random.permutation(len(canaries))[: 2 * DEVICES * each].reshape(2, DEVICES, each)
    updates = np.stack([_trained(bench, canaries, places) for places in order[0]])
    manifest = bench.chain.architecture.manifest()
    seen = held(guard, manifest, updates, bench.plan.learning_rate, random)
    scores: dict[str, list[Floats]] = {}
    before = bench.weights.astype(np.float64)
    for places in order:
        for own, vector in zip(places, seen, strict=True):
            for name, values in scored(bench.chain, before, vector, canaries, own).items():
                scores.setdefault(name, []).append(values)
    return {
        name: membership.judged(np.concatenate(found[:DEVICES]), np.concatenate(found[DEVICES:]))
        for name, found in scores.items()
    }


def scored(chain: Chain, before: Floats, update: Floats, canaries: Canaries, places: Any) -> dict[str, Floats]:
    """The scores of these rows by each attack."""
    rows, labels = canaries.rows[places], canaries.labels[places]
    after = before + update
    return {
        "loss": membership.by_loss(chain, after, rows, labels),
        "gain": membership.by_gain(chain, before, after, rows, labels),
        "update": membership.by_update(chain, before, update, rows, labels),
    }


def _trained(bench: Bench, canaries: Canaries, places: Any) -> Floats:
    manifest = bench.chain.architecture.manifest()
    arrays = unflatten(manifest, bench.weights)
    rows, labels = canaries.rows[places].astype(np.float32), canaries.labels[places]
    after = trainer_for(bench.chain.architecture).train(arrays, rows, labels, bench.plan, _silent)
    return np.asarray(_flat(manifest, after) - bench.weights, np.float64)


def _flat(manifest: Any, arrays: Mapping[str, Any]) -> Floats:
    return np.concatenate([np.asarray(arrays[spec.name], np.float64).ravel() for spec in manifest.weights])


def _silent(done: int, of: int) -> None:
    """Nobody waits for a single device of a trial."""
