"""Into which groups a large cohort is divided: drawn by all of its devices together, so that nobody can choose.

Each device thinks of a number, and sends the end of a chain that leads to it: its commitment. When the list of all
commitments is fixed, each shows its number, and what all of them give is the seed of the groups. A device whose own
number is among them knows that nobody knew the seed when the list was made. Who does not show its number is left out,
and the others draw again with the number before in their chains; after `DRAWS` numbers a chain is at its end.

Why chains and not new numbers: a device cannot be made to draw more often, whatever it forgets.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fedwire.masking import statements
from fedwire.masking.statements import Advert, refused
from fedwire.masking.terms import MOST_DEVICES, check_enough, least_threshold

DRAWS = 3
NUMBER_BYTES = 32
# The list is a file that each device reads, of at most 1 MiB.
MOST_LOTS = 4096


@dataclass(frozen=True)
class Lot:
    """A device of the cohort, and what it committed itself to (SHA-256, hexadecimal)."""

    device: str
    organization: str
    commitment: str


@dataclass(frozen=True)
class Drawing:
    """What is drawn for: the groups of at most `size` devices of an attempt of a round, whose devices trained the model
    `base_model` (SHA-256). `lots`: the cohort, by the devices' ids. `draw`: 0, 1, …: which number of the chains."""

    session: str  # 16 random bytes, hexadecimal
    run: str
    round: int
    attempt: int
    base_model: str
    size: int
    draw: int
    lots: tuple[Lot, ...]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Drawing:
        """What `fields` gave. Raises KeyError, TypeError, ValueError for what is none."""
        return cls(**{**fields, "lots": tuple(Lot(*lot) for lot in fields["lots"])})

    def fields(self) -> dict[str, Any]:
        """As it is sent and signed; a lot is a list of three."""
        return {**asdict(self), "lots": [[lot.device, lot.organization, lot.commitment] for lot in self.lots]}

    @property
    def digest(self) -> str:
        """The list in what is drawn from it."""
        return statements.digest(self.fields())

    @property
    def groups(self) -> int:
        """How many groups there are: the fewest that hold all."""
        return -(-len(self.lots) // self.size)


class Chain:
    """The numbers of one device for one update; they live in this object alone."""

    def __init__(self) -> None:
        links = [secrets.token_bytes(NUMBER_BYTES)]
        while len(links) <= DRAWS:
            links.append(_before(links[-1]))
        self._links = links[::-1]

    @property
    def commitment(self) -> str:
        """What is sent before anything is drawn."""
        return self._links[0].hex()

    def number(self, draw: int) -> str:
        """The number for this draw, hexadecimal. Raises `masking_refused` beyond the end of the chain."""
        if not 0 <= draw < DRAWS:
            raise refused(f"a device draws {DRAWS} times for an update, and not more often.")
        return self._links[draw + 1].hex()


def opens(commitment: str, draw: int, number: str) -> bool:
    """Whether this is the number that the device of this commitment has for the draw."""
    try:
        link = bytes.fromhex(number)
    except ValueError:
        return False
    if len(link) != NUMBER_BYTES or not 0 <= draw < DRAWS:
        return False
    for _ in range(draw + 1):
        link = _before(link)
    return link.hex() == commitment


def seed(drawing: Drawing, numbers: Sequence[str]) -> str:
    """What all numbers give, in the order of the lots: SHA-256, hexadecimal.

    Raises `masking_refused` unless each is the one of its lot.
    """
    if len(numbers) != len(drawing.lots):
        raise refused("the numbers of a draw are not as many as its lots.")
    for lot, number in zip(drawing.lots, numbers, strict=True):
        if not opens(lot.commitment, drawing.draw, number):
            raise refused(f"the number of {lot.device} is not the one that it committed itself to.")
    return statements.digest({"drawing": drawing.digest, "numbers": list(numbers)})


def divided(drawing: Drawing, drawn: str) -> list[tuple[Lot, ...]]:
    """The groups that the seed `drawn` gives, all but equal in size, each in the order of the devices' ids.

    Organizations come in the order of their hashes with the seed, and so do the devices of each; then all are dealt
    out, one by one. So of an organization no group has more than one device more than another.
    """
    dealt = sorted(
        drawing.lots,
        key=lambda lot: (
            statements.digest([drawn, "organization", lot.organization]),
            lot.organization,
            statements.digest([drawn, "device", lot.device]),
        ),
    )
    count = drawing.groups
    return [tuple(sorted(dealt[first::count], key=lambda lot: lot.device)) for first in range(count)]


def check(drawing: Drawing, mine: Lot, before: Drawing | None = None) -> None:
    """Raises `masking_refused` for a list in which a device does not show its number: one that is not whole, that has
    not its own lot as it sent it, or that is no part of the list `before`, from which was drawn last."""
    names = [lot.device for lot in drawing.lots]
    if mine not in drawing.lots:
        raise refused("this device is not in the list with what it committed itself to.")
    if names != sorted(set(names)) or len({lot.commitment for lot in drawing.lots}) != len(names):
        raise refused("the list of a draw is not in order, or names a device or a commitment twice.")
    if not 1 < drawing.size <= MOST_DEVICES or len(names) > MOST_LOTS:
        raise refused(f"groups are of 2 to {MOST_DEVICES} devices, and drawn by at most {MOST_LOTS}.")
    if drawing.draw != (0 if before is None else before.draw + 1):
        raise refused("this device did not draw, or drew already, as often as the portal says.")
    if before is not None and (drawing.size != before.size or not set(drawing.lots) < set(before.lots)):
        raise refused("those who draw again are not those who are left.")


def group_of(drawing: Drawing, numbers: Sequence[str], device: str) -> tuple[str, dict[str, str]]:
    """The seed, and the devices of the device's own group with the organization of each. Raises `masking_refused`."""
    drawn = seed(drawing, numbers)
    for group in divided(drawing, drawn):
        owners = {lot.device: lot.organization for lot in group}
        if device in owners:
            return drawn, owners
    raise refused("this device is in none of the groups.")


def most(devices: int, size: int, least: int) -> int:
    """How many of so many devices can be divided into groups of at most `size` and of `least` devices at least."""
    devices = min(devices, MOST_LOTS)
    return devices if devices <= size or devices // -(-devices // size) >= least else devices // size * size


def check_roster(owners: Mapping[str, str], roster: Iterable[Advert]) -> None:
    """Raises `masking_refused` for a roster with a device that is not of the group `owners`, as `group_of` gave it."""
    for advert in roster:
        if owners.get(advert.device) != advert.organization:
            raise refused(f"{advert.device} is not in the group that this device drew.")


def check_groups(groups: Sequence[Sequence[str]], least_devices: int, least_organizations: int) -> None:
    """Raises `masking_refused` with the reason when one of the groups, given by its devices' organizations, could not
    make a sum: too few devices, too few organizations, or nearly all of one of them."""
    for owners in groups:
        check_enough(owners, least_devices, least_organizations)
        if least_threshold(owners) > len(owners):
            raise refused("most devices are of one organization, which could take the masks off with the portal alone.")


def _before(link: bytes) -> bytes:
    return hashlib.sha256(b"fp-sa/1 lot\0" + link).digest()
