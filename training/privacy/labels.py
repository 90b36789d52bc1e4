"""The privacy label of a run: what is protected from whom, made of what happened and not of what was meant. Pure.

It may be less than what the run was set to do, never more: an update that the portal saw by itself counts as seen,
whatever the setting; ε is told only where noise was added and rounds were counted; and it is told towards whom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from training.privacy import ledgers
from training.privacy.protection import CENTRAL, DISTRIBUTED, GROUPED, LOCAL, NONE, RECORDS, UNIT_RECORD, Protection

EACH, SOME, SUMS, NOTHING = "each update", "some updates", "sums only", "nothing yet"
PORTAL, OTHERS = "the portal", "members and whoever gets the model"
TIGHT = "the Gaussian mechanism's own formula, or privacy loss distributions; tight for rounds that were planned"
NO_SAMPLING = "none: each is taken to take part in every round"
CURIOUS = (
    "This holds against a portal that is curious and keeps to the protocol: it vouches for the devices' keys itself, "
    "so one that lies could put devices of its own among them."
)
CERTIFIED = (
    "The devices' keys are certified by their organizations. A device whose policy asks for that takes part with no "
    "others, so not even a portal that lies could put devices of its own among those."
)
BY: Mapping[str, str] = {
    NONE: "nobody",
    CENTRAL: "the portal, to the sum",
    LOCAL: "each device, to its own update",
    DISTRIBUTED: "each device, its share of what the sum needs",
    RECORDS: "each device, to the gradients it trains with",
}


@dataclass(frozen=True)
class Spent:
    """What a run's rounds amount to for an organization; `counts` as in `training.privacy.ledgers`, open rounds too.
    `rounds`: how many rounds that are; where gradients have noise each is of several steps, which the counts count."""

    id: str
    name: str
    counts: Mapping[str, int]
    rounds: int


@dataclass(frozen=True)
class Facts:
    """What happened. `updates`: accepted answers to training rounds; `hidden`: how many of those the portal never saw
    by themselves. `certified`: every key behind a hidden one was certified by its organization. `added`: whether the
    noise that the run was set to have was really there."""

    protection: Protection
    updates: int = 0
    hidden: int = 0
    spent: tuple[Spent, ...] = ()
    evaluates: bool = True
    standardises: bool = False
    checks: bool = False
    personal: bool = False
    certified: bool = False
    added: bool = True


def label(facts: Facts) -> dict[str, Any]:
    """The label as JSON. `organizations` is for the members of the run's federation, the rest for whoever sees the
    model; `sentences` say it in words."""
    spent = [_spent(one, facts.protection) for one in facts.spent if one.counts]
    found = {"sums": _sums(facts), "noise": _noise(facts, spent), "unprotected": unprotected(facts)}
    return {**found, "sentences": _sentences(found), "organizations": spent if facts.added else []}


def unprotected(facts: Facts) -> list[str]:
    """What leaves devices, or is shown, as it is."""
    named = {
        "how many rows each device trained on, and when it took part": True,
        "how far each update lies from the others, to those who answer for the run": is_open(facts.protection),
        "loss, accuracy, AUC and score histograms over held-out rows": facts.evaluates,
        "the same of the devices' own models": facts.evaluates and facts.personal,
        "mean and spread of each column, and its number of rows": facts.standardises,
        "what devices found when they checked themselves": facts.checks,
    }
    return [what for what, leaves in named.items() if leaves]


def is_open(protection: Protection) -> bool:
    """Whether single updates come as they are, and are compared with each other."""
    return not protection.hides and not protection.spends


def _sums(facts: Facts) -> dict[str, Any]:
    updates = facts.updates
    hidden = min(facts.hidden, updates) if facts.protection.hides else 0
    if not facts.protection.hides:
        sees = EACH
    else:
        sees = NOTHING if not updates else SUMS if hidden == updates else SOME if hidden else EACH
    return {
        "setting": facts.protection.sums,
        "sees": sees,
        "updates": updates,
        "hidden": hidden,
        "coverage": hidden / updates if updates else None,
        "certified": facts.certified and hidden > 0,
        "sentence": _seen(facts, sees, hidden),
    }


def _seen(facts: Facts, sees: str, hidden: int) -> str:
    protection, updates = facts.protection, facts.updates
    if sees == NOTHING:
        return "No update has come yet. The run is set to show the portal sums only."
    if sees == EACH:
        noised = ", with the noise in it" if protection.mechanism in (LOCAL, RECORDS) and facts.added else ""
        return f"The portal, and so whoever runs it, sees every update by itself{noised}."
    of = f"{hidden} of {updates} updates" if sees == SOME else f"any of the {updates} updates"
    what = "sums of groups" if protection.sums == GROUPED else "sums"
    least = f"{protection.least_devices} devices of {protection.least_organizations} organizations"
    sentence = f"The portal never saw {of} by itself, only {what} over at least {least}."
    if sees == SOME:
        sentence += f" The other {updates - hidden} it saw one by one."
    return f"{sentence} {protection.counted} {CERTIFIED if facts.certified else CURIOUS}"


def _noise(facts: Facts, spent: list[dict[str, Any]]) -> dict[str, Any]:
    protection = facts.protection
    towards = _towards(facts) if spent and facts.added else []
    known = [one["epsilon"] for one in spent]
    worst = max(known) if towards and known and None not in known else None
    unit = max((one["unit"] for one in spent), default=protection.unit)
    return {
        "mechanism": protection.mechanism,
        "by": BY[protection.mechanism],
        "noise": protection.noise if protection.spends else None,
        "clip": protection.clip if protection.spends else None,
        "towards": towards,
        "epsilon": worst,
        "delta": protection.delta if worst is not None else None,
        "unit": unit if worst is not None else None,
        "adjacency": adjacency(unit) if worst is not None else None,
        "sampling": sampling(_all(facts)) if worst is not None else None,
        "accountant": TIGHT if worst is not None else None,
        "sentence": _told(facts, towards, worst, unit, bool(spent)),
    }


def _towards(facts: Facts) -> list[str]:
    """Towards whom the noise counts: who sees nothing that has less of it."""
    protection = facts.protection
    if protection.mechanism in (LOCAL, RECORDS):
        return [PORTAL, OTHERS]
    if protection.mechanism == DISTRIBUTED:  # a share is less than the sum needs, so a single one is not protected
        whole = 0 < facts.updates == facts.hidden and protection.hides
        return [PORTAL, OTHERS] if whole else [OTHERS]
    return [OTHERS] if protection.mechanism == CENTRAL else []


def _told(facts: Facts, towards: list[str], worst: float | None, unit: str, counted: bool) -> str:
    protection = facts.protection
    if not protection.spends:
        return "No noise is added, so no ε holds towards anybody."
    added = f"Noise of {protection.noise:g} times the clip is added by {BY[protection.mechanism]}."
    if not facts.added:
        return f"Noise of {protection.noise:g} times the clip was asked for and nobody adds it, so no ε holds."
    if not counted:
        return f"{added} No round has been counted yet, so no ε is claimed."
    if worst is None:
        return f"{added} It is too little for an ε that says anything."
    of = f"ε {worst:.3g} for δ {protection.delta:g}, {adjacency(unit)}"
    gain = "none" if sampling(_all(facts)) == NO_SAMPLING else sampling(_all(facts))
    sentence = f"{added} So far {of}, at most, towards {' and '.join(towards)}; gain from sampling: {gain}."
    sentence += " It counts this run only, not what its first model was trained on."
    if protection.mechanism == CENTRAL:
        sentence += " It does not hold towards the portal, which adds the noise and is trusted to do so."
    if protection.mechanism == RECORDS:
        sentence += " It rests on devices that train so, and counts a record that lies on two of them for one only."
    if protection.mechanism in (LOCAL, RECORDS):
        sentence += " A device that is stopped before it hears of its answer and trains the round again shows it twice."
    if protection.mechanism == DISTRIBUTED:
        if PORTAL not in towards:
            sentence += " It does not hold towards the portal, which saw updates with one share only."
        sentence += " It rests on devices that add their share; those that do not are not found out."
    return sentence


def _spent(one: Spent, protection: Protection) -> dict[str, Any]:
    epsilon, unit = ledgers.planned(one.counts, protection.delta), ledgers.unit_of(one.counts)
    return {
        "organization": {"id": one.id, "name": one.name},
        "rounds": one.rounds,
        "epsilon": epsilon if math.isfinite(epsilon) else None,
        "delta": protection.delta,
        "unit": unit,
        "adjacency": adjacency(unit),
        "sampling": sampling(one.counts),
        "accountant": TIGHT,
    }


def adjacency(unit: str) -> str:
    """Which two data sets a bound on ε compares; see `training.privacy.charges`."""
    whole = "with the update of one device, and with zeros in its place"
    return "with and without one record, all others in their places" if unit == UNIT_RECORD else whole


def sampling(counts: Mapping[str, int]) -> str:
    """What is taken for granted of who takes part in a round."""
    rates = sorted({one.rate for one in ledgers.mechanisms(counts)} - {1.0})
    if not rates:
        return NO_SAMPLING
    told = " and ".join(f"{rate:g}" for rate in rates)
    return (
        f"each tosses a coin of its own on its device, with the probability {told}, and nobody learns which took part"
    )


def _all(facts: Facts) -> dict[str, int]:
    """Every kind of round that was counted, of whichever organization."""
    return {key: rounds for one in facts.spent for key, rounds in one.counts.items()}


def _sentences(found: Mapping[str, Any]) -> list[str]:
    bare = f"Not protected by any of this: {'; '.join(found['unprotected'])}."
    return [found["sums"]["sentence"], found["noise"]["sentence"], bare]
