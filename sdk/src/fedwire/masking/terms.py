"""What a session is held under, and what a device demands of it whatever the server says."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fedwire.masking import rings, statements
from fedwire.masking.rings import Ring
from fedwire.masking.statements import DIGEST_BYTES, Advert, refused

SESSION_BYTES = 16
# Larger cohorts are divided into groups (`groups`), a session for each, so that what a device does never grows.
MOST_DEVICES = 128
# What no two devices of a roster may have alike.
OWN = ("device", "identity", "seal_key", "mask_key", "commitment")
OWN_SETTINGS = ("seed", "share")
# Of a device's share, over the clip; with more nothing would be left of the update.
MOST_NOISE = 1024.0


@dataclass(frozen=True)
class Terms:
    """S0: what the server announces and signs. `base_model` and `task` (`told`): SHA-256, hexadecimal.

    `threshold`: so many devices together can take masks off. `least_devices`, `least_organizations`: with fewer vectors
    there is no sum. `noise`: the standard deviation of each device's share of the noise, over the clip; 0 without.
    `beacon`: of a cohort that was divided into groups, the digest of what its devices drew the groups from.
    """

    session: str  # 16 random bytes, hexadecimal
    federation: str
    run: str
    round: int
    task: str
    base_model: str
    parameters: int
    bits: int
    clip: float
    most_weight: int
    devices: int  # of the roster, at most
    threshold: int
    least_devices: int
    least_organizations: int
    noise: float = 0.0
    beacon: str = ""
    signature: str = ""

    @property
    def ring(self) -> Ring:
        return Ring(self.bits, self.clip, self.devices, self.most_weight, self.noise)

    @property
    def multiplier(self) -> float:
        """The standard deviation of the noise that the smallest sum has, over the clip; 0 without noise."""
        return self.noise * math.sqrt(self.least_devices)

    def fields(self) -> dict[str, Any]:
        """What the server's signature covers."""
        return {name: value for name, value in statements.by_name(self).items() if name != "signature"}

    @cached_property
    def digest(self) -> str:
        """The terms in every later statement."""
        return statements.digest(self.fields())


@dataclass(frozen=True)
class Policy:
    """What a device demands. Its owner keeps it beside the device, where no server can weaken it."""

    least_devices: int = 10
    least_organizations: int = 3
    least_difference: int = 10  # devices, between two sums of updates of the same model
    most_clip: float = 1000.0
    most_weight: int = 1 << 20
    bits: tuple[int, ...] = rings.BITS
    least_noise: float = 0.0  # standard deviation of the noise in the smallest sum, over the clip; 0: none is asked for
    federations: frozenset[str] = field(default_factory=frozenset)  # empty: any

    def check(self, terms: Terms) -> None:
        """Raises `masking_refused` with the reason for terms that the device does not take part under."""
        for reason, wrong in self._objections(terms):
            if wrong:
                raise refused(reason)

    def _objections(self, terms: Terms) -> Iterable[tuple[str, bool]]:
        yield "the session has no name of 16 bytes.", not statements.is_hex(terms.session, SESSION_BYTES)
        yield "the model has no SHA-256.", not statements.is_hex(terms.base_model, DIGEST_BYTES)
        yield "the ring is none that this device takes part in.", terms.bits not in self.bits
        yield "the clip is not a positive number within this device's policy.", not 0 < terms.clip <= self.most_clip
        yield "the largest weight is not within this device's policy.", not 0 < terms.most_weight <= self.most_weight
        yield f"a session has 1 to {MOST_DEVICES} devices.", not 0 < terms.devices <= MOST_DEVICES
        yield "there are no parameters.", terms.parameters < 1
        yield "the noise is no number from 0 to 1024.", not 0 <= terms.noise <= MOST_NOISE
        yield "the ring has no room for so many devices and weights.", terms.ring.room < rings.LEAST_ROOM
        yield "a weight multiplies what noise is to hide.", terms.noise > 0 and terms.most_weight != 1
        yield "the ring is too coarse for the noise.", 0 < terms.ring.sigma < rings.LEAST_SIGMA
        least = max(self.least_devices, 2)
        yield f"fewer than {least} devices could make a sum.", terms.least_devices < least
        few = terms.least_organizations < self.least_organizations
        yield f"fewer than {self.least_organizations} organizations could make a sum.", few
        yield "there is less noise than this device asks for.", terms.multiplier < self.least_noise
        yield (
            "the federation is none that this device works for.",
            bool(self.federations and terms.federation not in self.federations),
        )

    def check_roster(self, terms: Terms, roster: Sequence[Advert], mine: Advert) -> None:
        """Raises `masking_refused` for a roster of which one may not trust that the sum hides this device.

        The threshold must be more than half of all and of the devices of the largest organization, (n + c) / 2: then
        two lists that a lying server gives to two halves, with the help of that organization, cannot both find it.
        """
        if mine not in roster:
            raise refused("this device is not in the roster with the keys that it sent.")
        if len(roster) > terms.devices:
            raise refused("the roster is longer than the terms say.")
        for name in OWN:
            if len({getattr(advert, name) for advert in roster}) != len(roster):
                raise refused(f"two devices of the roster have the same {name.replace('_', ' ')}.")
        for advert in roster:
            if not advert.is_signed(terms.digest):
                raise refused(f"the entry of {advert.device} is not signed by its key for these terms.")
        check_cohort(terms, [advert.organization for advert in roster])
        if not threshold_holds(terms.threshold, [advert.organization for advert in roster]):
            raise refused("the threshold is too low for so many devices of one organization.")
        if terms.threshold > len(roster):
            raise refused("the threshold is larger than the roster.")


def told(task: Mapping[str, Any]) -> str:
    """`Terms.task`: the digest of what a training task says to all devices of its round alike. `task` has the fields of
    `fedwire.messages.Task`; of its training the seed and the share of the local steps are a device's own."""
    training = {name: value for name, value in task["training"].items() if name not in OWN_SETTINGS}
    alike = {name: task.get(name) for name in ("run", "round", "attempt", "architecture", "manifest", "state_digest")}
    return statements.digest({**alike, "training": training})


def check_cohort(terms: Terms, organizations: Sequence[str]) -> None:
    """Raises `masking_refused` when devices of these organizations are too few, or of too few, to make a sum."""
    check_enough(organizations, terms.least_devices, terms.least_organizations)


def check_enough(organizations: Sequence[str], least_devices: int, least_organizations: int) -> None:
    """The same for a sum that needs so many devices, and devices of so many organizations."""
    if len(organizations) < least_devices:
        raise refused(f"{len(organizations)} devices are fewer than the {least_devices} of the terms.")
    if len(set(organizations)) < least_organizations:
        count = len(set(organizations))
        raise refused(f"{count} organizations are fewer than the {least_organizations} of the terms.")


def least_threshold(organizations: Sequence[str]) -> int:
    """The least threshold that holds against a lying server with the largest organization on its side: the smallest
    whole number greater than (n + c) / 2."""
    largest = max(Counter(organizations).values(), default=0)
    return (len(organizations) + largest) // 2 + 1


def threshold_holds(threshold: int, organizations: Sequence[str]) -> bool:
    """Whether the threshold is at least `least_threshold`."""
    return threshold >= least_threshold(organizations)


def pinned(identities: Mapping[str, str], roster: Iterable[Advert]) -> None:
    """Raises `masking_refused` when a device that was known by one key appears with another."""
    for advert in roster:
        if identities.get(advert.device, advert.identity) != advert.identity:
            raise refused(f"{advert.device} has another key than before.")
