"""What the floors above know about a policy and about a device, for the pages of this floor.

This floor knows nothing of runs. Whoever does registers a function here when Django starts; without one there is
nothing to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from federations.models import Device, Organization, Policy
from federations.permissions import Actor


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
Strategies = Callable[[], Mapping[str, str]]
Names = Callable[[Actor, Iterable[str]], Mapping[str, str]]

_foresights: list[Foresight] = []
_parts: list[Parts] = []
_strategies: list[Strategies] = []
_names: list[Names] = []


def register(*, foresight: Foresight, parts: Parts, strategies: Strategies) -> None:
    """Let a floor above tell what it knows; registering the same functions again changes nothing."""
    if foresight not in _foresights:
        _foresights.append(foresight)
        _parts.append(parts)
        _strategies.append(strategies)


def register_names(names: Names) -> None:
    """Let a floor above name what it keeps, by id; registering the same function again changes nothing."""
    if names not in _names:
        _names.append(names)


def names_of(actor: Actor, ids: Iterable[str]) -> dict[str, str]:
    """The names of those ids of things above that the actor may see."""
    asked = list(ids)
    return {public_id: name for names in _names for public_id, name in names(actor, asked).items()}


def left_out(organization: Organization, policy: Policy) -> list[LeftOut]:
    """What is under way and would leave the organization's devices out, in whole or in part, under this policy."""
    return [found for foresight in _foresights for found in foresight(organization, policy)]


def parts_of(device: Device, most: int = 10) -> list[Part]:
    """What the device was asked to do lately, newest first."""
    return [part for parts in _parts for part in parts(device, most)][:most]


def strategies() -> dict[str, str]:
    """The strategies that there are → what people call them."""
    return dict(sorted((name, title) for titles in _strategies for name, title in titles().items()))
