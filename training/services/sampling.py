"""Which of the devices that are there a round asks: drawn by rank, within quota, cap and the floors of policies. Pure.

A device's rank is a hash of the run's seed, the round, and the names of the device. So a draw is a random one, it
depends on who is there and not on the order in which they came, and whoever joins later to fill a hole is the next of
the same draw. Two portals with the same names and seed draw the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Candidate(NamedTuple):
    """A device that could be asked."""

    key: int
    organization: int
    rank: int


@dataclass(frozen=True)
class Limits:
    """How many may be asked. `room`: all in all, None without end; `quota`, `cap` (0: none): of each organization,
    those counted that take part already (`have`); `floors`: organization → so many of its devices, or none."""

    room: int | None = None
    quota: int = 0
    cap: int = 0
    floors: Mapping[int, int] = field(default_factory=dict)
    have: Mapping[int, int] = field(default_factory=dict)


def rank(seed: int, number: int, attempt: int, organization: str, identifier: str) -> int:
    """The device's place in the draw of this attempt: uniform on 64 bits, as good as independent of all others."""
    text = f"draw\n{seed}\n{number}\n{attempt}\n{organization}\n{identifier}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def drawn(candidates: Sequence[Candidate], limits: Limits) -> set[int]:
    """The keys of those that are asked: first what the quotas need, even beyond `room`, then by rank while there is
    room. Devices of an organization with a floor come together or not at all."""
    queue = sorted(candidates, key=lambda one: (one.rank, one.key))
    draw = _Draw(queue, limits)
    for organization, own in draw.queues.items():
        draw.take(organization, min(limits.quota - draw.count[organization], len(own)))
    for one in queue:
        room = None if limits.room is None else limits.room - len(draw.taken)
        if room is not None and room <= 0:
            break
        if one.key not in draw.taken:
            draw.take(one.organization, 1, room)
    return draw.taken


def expected(present: Mapping[int, int], limits: Limits) -> dict[int, int]:
    """How many devices of each organization a draw is expected to ask, of so many that are there: what its quota needs,
    then a share of the room like its share of the devices. The whole numbers add up to what is asked."""
    fits = {key: min(count, limits.cap or count) for key, count in present.items()}
    fits = {key: count if count >= limits.floors.get(key, 0) else 0 for key, count in fits.items()}
    if limits.room is None or limits.room >= sum(fits.values()):
        return fits
    least = {key: min(count, max(limits.quota, 0)) for key, count in fits.items()}
    shares = {key: float(count) for key, count in least.items()}
    _pour(shares, fits, present, limits.room - sum(least.values()))
    return _whole(shares, max(limits.room, sum(least.values())))


def _pour(shares: dict[int, float], fits: Mapping[int, int], present: Mapping[int, int], room: float) -> None:
    """Spread the room by how many are present, until nobody who still fits is left or the room is used up."""
    while room > 1e-9:
        open_ones = [key for key in shares if shares[key] < fits[key] - 1e-9]
        weight = sum(present[key] for key in open_ones)
        if not weight:
            return
        level = min(room / weight, *((fits[key] - shares[key]) / present[key] for key in open_ones))
        for key in open_ones:
            shares[key] += level * present[key]
        room -= level * weight


def _whole(shares: Mapping[int, float], total: int) -> dict[int, int]:
    """The shares as whole numbers with this sum: those with the largest remainders are rounded up."""
    found = {key: int(share + 1e-9) for key, share in shares.items()}
    order = sorted(shares, key=lambda key: (found[key] - shares[key], key))
    for key in order[: max(total - sum(found.values()), 0)]:
        found[key] += 1
    return found


class _Draw:
    """What is taken so far; `count` of each organization, with those that take part already."""

    def __init__(self, queue: Sequence[Candidate], limits: Limits) -> None:
        self.queues: dict[int, deque[Candidate]] = {}
        for one in queue:
            self.queues.setdefault(one.organization, deque()).append(one)
        self.limits = limits
        self.count = Counter(limits.have)
        self.taken: set[int] = set()

    def take(self, organization: int, wanted: int, room: int | None = None) -> None:
        """Take the organization's next `wanted` devices, or as many as its floor asks for; none when that is more than
        it has, than the cap lets in, or than there is room for."""
        have, own = self.count[organization], self.queues[organization]
        block = max(wanted, self.limits.floors.get(organization, 0) - have) if wanted > 0 else 0
        most = self.limits.cap or have + block
        if not 0 < block <= len(own) or have + block > most or (room is not None and block > room):
            return
        self.count[organization] += block
        self.taken.update(own.popleft().key for _ in range(block))
