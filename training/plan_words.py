"""The plan of a run's rounds as a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from training import wording


class PlanLike(Protocol):
    """The terms of a run's rounds, see `training.services.terms`."""

    @property
    def sample(self) -> float | None: ...
    @property
    def quota(self) -> int: ...
    @property
    def cap(self) -> int: ...
    @property
    def stragglers(self) -> str: ...
    @property
    def grace_seconds(self) -> int: ...
    @property
    def asynchronous(self) -> bool: ...
    @property
    def buffer(self) -> int: ...
    @property
    def most_staleness(self) -> int: ...
    def target(self, need: int, available: int) -> int | None: ...


def told(terms: PlanLike, need: int, available: int | None = None) -> str:
    """Whom a round asks and when it closes, in words; `available`: how many devices are there now."""
    if terms.asynchronous:
        return _asynchronous(terms, available)
    asked = terms.target(need, available or 0)
    if asked is None:
        whom = "Asks everybody who is there"
    elif isinstance(terms.sample, float) and available is None:
        whom = f"Asks {terms.sample:.0%} of the devices that are there, at least {need}"
    else:
        whom = f"Asks {asked}{f' of {available}' if available is not None else ''} devices"
    limits = [f"at least {terms.quota} of each organization"] if terms.quota else []
    if terms.cap:
        limits.append(f"at most {terms.cap} of each{'' if limits else ' organization'}")
    enough = "the first" if need == 1 else f"{need} answers are in"
    closes = {
        "cut": f"closes with {need} answer{'' if need == 1 else 's'}",
        "grace": f"closes {wording.span(terms.grace_seconds)} after {enough}",
    }.get(terms.stragglers, f"closes when all have answered and needs {need}")
    return f"{', '.join([f'{whom} each round', *limits, closes])}."


def lessened(shares: Mapping[str, float], devices: Mapping[str, int]) -> str:
    """Which devices are asked for less work, in words; "" where none are. `devices`: how many each group has."""
    told = [
        f"{count} device{'' if count == 1 else 's'} in {name} {share:.0%}"
        for name, share in shares.items()
        if share < 1 and (count := devices.get(name, 0))
    ]
    return f"Less than all of the local steps: {wording.listed(told)}." if told else ""


def _asynchronous(terms: PlanLike, available: int | None) -> str:
    buffer, most = max(terms.buffer, 1), terms.most_staleness
    asked = terms.target(buffer, available or 0)
    if asked is None:
        whom = "Keeps everybody who is there at work"
    elif isinstance(terms.sample, float) and available is None:
        whom = f"Keeps {terms.sample:.0%} of the devices that are there at work, at least {buffer}"
    else:
        whom = f"Keeps {asked}{f' of {available}' if available is not None else ''} devices at work"
    limits = [f"at most {terms.cap} of each organization"] if terms.cap else []
    every = "every answer" if buffer == 1 else f"every {buffer} answers"
    models = "model" if most == 1 else "models"
    closes = f"makes a model of {every}, of which none began from one more than {most} {models} older"
    return f"{', '.join([whom, *limits, closes])}."
