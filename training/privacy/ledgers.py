"""An organization's rounds of noise, added up: what they come to, and whether another fits into a budget. Pure.

Counts are a mapping {"device 1.5 1.0": 12, …} of unit, noise and rate → rounds, so that adding and taking back are
exact and what they come to costs the same after ten rounds and after ten thousand.

A budget binds rounds that are chosen with the earlier ones in view, so it is held by a filter over Rényi divergences
(Feldman and Zrnic, NeurIPS 2021, arXiv:2008.11193; Lécuyer, arXiv:2103.01379): another round is allowed as long as the
sum of the divergences of all, at one order at least, says an ε within the budget.

Devices and records are one budget. As soon as a round was about records, all are: a record that comes or goes changes
the update of its device, which stays, by up to twice the clip, so a round about devices counts with half its noise,
and without anything gained by sampling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from training.privacy import accounting
from training.privacy.accounting import Mechanism
from training.privacy.protection import UNIT_DEVICE, UNIT_RECORD

Counts = Mapping[str, int]


def added(counts: Counts, unit: str, mechanism: Mechanism, sign: int = 1) -> dict[str, int]:
    """The counts with this mechanism more, or with `sign` -1 less. Raises ValueError where less than none would be."""
    key = f"{unit} {float(mechanism.noise)!r} {float(mechanism.rate)!r}"
    count = counts.get(key, 0) + sign * mechanism.rounds
    if count < 0:
        raise ValueError(f"{key} was never counted so often")
    rest = {name: number for name, number in counts.items() if name != key}
    return {**rest, key: count} if count else rest


def unit_of(counts: Counts) -> str:
    """Whose presence the ε of these rounds is about."""
    return UNIT_RECORD if any(key.startswith(UNIT_RECORD) for key in counts) else UNIT_DEVICE


def mechanisms(counts: Counts, unit: str | None = None) -> tuple[Mechanism, ...]:
    """The rounds as they count for this unit, by default that of the counts; in a fixed order."""
    unit = unit or unit_of(counts)
    return tuple(_mechanism(key, rounds, unit) for key, rounds in sorted(counts.items()))


def spent(counts: Counts, delta: float) -> float:
    """ε of rounds each of which was chosen with the earlier ones in view; 0 for none. Raises ValueError unless
    0 < δ < 1."""
    return _running(mechanisms(counts), delta)


def planned(counts: Counts, delta: float) -> float:
    """ε of the same rounds where they were planned before the first of them, tight."""
    return accounting.epsilon(mechanisms(counts), delta)


def fits(counts: Counts, unit: str, each: Mechanism, budget: float, delta: float) -> bool:
    """Whether such a round is within the budget after all these."""
    return spent(added(counts, unit, each), delta) <= budget


def rounds_left(counts: Counts, unit: str, each: Mechanism, budget: float, delta: float) -> int:
    """How many further rounds like `each` fit into the budget."""
    whole = unit_of(added(counts, unit, each))
    return accounting.rounds_left(mechanisms(counts, whole), _as(unit, each, whole), budget, delta)


def summed(events: Iterable[tuple[str, Mechanism]]) -> dict[str, int]:
    """The counts of these rounds, each with its unit."""
    counts: dict[str, int] = {}
    for unit, mechanism in events:
        counts = added(counts, unit, mechanism)
    return counts


def _mechanism(key: str, rounds: int, whole: str) -> Mechanism:
    unit, noise, rate = key.split()
    return _as(unit, Mechanism(float(noise), float(rate), rounds), whole)


def _as(unit: str, mechanism: Mechanism, whole: str) -> Mechanism:
    """The mechanism about `unit` as it counts where ε is about `whole`."""
    if unit == whole or whole == UNIT_DEVICE:
        return mechanism
    return Mechanism(mechanism.noise / 2, 1.0, mechanism.rounds)


@lru_cache(maxsize=4096)
def _running(found: tuple[Mechanism, ...], delta: float) -> float:
    return accounting.running_epsilon(found, delta)
