"""What the floors above know about a policy and about a device, for the pages of this floor.

This floor knows nothing of runs. Whoever does registers a function here when Django starts; without one there is
nothing to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from federations.models import Device, Organization, Policy


@dataclass(frozen=True)
class LeftOut:
    """Something that is under way and leaves the organization's devices out under a policy."""

    name: str
    federation: str
    address: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """What a device was asked to do lately, and what came of it."""

    name: str
    address: str
    work: str  # "round 3", "statistics", …
    state: str
    reason: str
    at: datetime


Foresight = Callable[[Organization, Policy], Sequence[LeftOut]]
Parts = Callable[[Device, int], Sequence[Part]]
Strategies = Callable[[], Sequence[str]]

_foresights: list[Foresight] = []
_parts: list[Parts] = []
_strategies: list[Strategies] = []


def register(*, foresight: Foresight, parts: Parts, strategies: Strategies) -> None:
    """Let a floor above tell what it knows; registering the same functions again changes nothing."""
    if foresight not in _foresights:
        _foresights.append(foresight)
        _parts.append(parts)
        _strategies.append(strategies)


def left_out(organization: Organization, policy: Policy) -> list[LeftOut]:
    """What is under way and would leave the organization's devices out, in whole or in part, under this policy."""
    return [found for foresight in _foresights for found in foresight(organization, policy)]


def parts_of(device: Device, most: int = 10) -> list[Part]:
    """What the device was asked to do lately, newest first."""
    return [part for parts in _parts for part in parts(device, most)][:most]


def strategies() -> list[str]:
    """The names of the strategies that there are."""
    return sorted({name for names in _strategies for name in names()})
