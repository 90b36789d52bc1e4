"""Which devices of a fleet get a version, and which arm of an experiment a device is in.

A device's place is a hash of the rollout's id and its own, so every rollout draws anew who is first, nobody chooses,
and anybody can work it out again. Of n devices, a share takes those with the lowest places, rounded up: 10 % of ten
devices are one device and not, as a threshold on the hash would have it, none in a third of all rollouts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Literal

Arm = Literal["control", "treatment"]
# Shares are told in hundredths of a percent, so that 12.5 % is a whole number.
WHOLE = 10_000


def place(of: str, device: str) -> int:
    """The device's place among all in the rollout or experiment `of`: 64 bits, the lowest is first.

    The first eight bytes, as a big-endian number, of SHA-256 over both ids with a zero byte between them.
    """
    return int.from_bytes(hashlib.sha256(f"{of}\0{device}".encode()).digest()[:8], "big")


def wanted(fleet: int, share: int) -> int:
    """How many of `fleet` devices a share of so many hundredths of a percent is, rounded up. Raises ValueError."""
    if not 0 <= share <= WHOLE:
        raise ValueError(f"a share is from 0 to {WHOLE} hundredths of a percent, not {share}")
    return -(-fleet * share // WHOLE)


def joining(of: str, fleet: Collection[str], share: int, members: Collection[str]) -> list[str]:
    """The devices that join `members` when the rollout is to have this share of the fleet, first places first.

    Nobody ever leaves: members count towards the share, also those that a fleet has grown around. Those that are not of
    the fleet any more do not count. Without members these are the lowest places.
    """
    inside = set(members)
    missing = wanted(len(fleet), share) - len(inside.intersection(fleet))
    if missing <= 0:
        return []
    outside = [device for device in fleet if device not in inside]
    return sorted(outside, key=lambda device: (place(of, device), device))[:missing]


def arms(of: str, owner: str, devices: Iterable[str], share: int, placed: Mapping[str, Arm]) -> dict[str, Arm]:
    """The arms of those of the devices of one organization that have none yet, so that `share` of them are treated.

    Within an organization the treated differ from the share by less than one device, so a difference between the arms
    is none between organizations. Who has an arm keeps it. Devices come in the order of their places. Where counting
    begins is drawn for each organization (systematic sampling), so that of a hundred organizations with one device
    each the share is treated too, and not all or none.
    """
    treated = sum(arm == "treatment" for arm in placed.values())
    first = place(of, owner) * WHOLE >> 64  # uniform from 0 to WHOLE - 1
    found: dict[str, Arm] = {}
    for device in sorted(set(devices) - set(placed), key=lambda device: (place(of, device), device)):
        due = ((len(placed) + len(found) + 1) * share + first) // WHOLE
        found[device] = "treatment" if treated < due else "control"
        treated += treated < due
    return found
