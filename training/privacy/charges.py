"""What a training round costs each unit that takes part in it, by how the run protects its updates. Pure.

Which devices take part is no secret: the portal chooses and tells it, so nothing is gained by sampling them (rate 1),
and the number of updates that a sum is divided by is known. Two data sets are neighbours when one has the unit's update
and the other has zeros in its place; Kairouz et al. 2021 (arXiv:2103.00039) call this zero-out. The clip bounds how far
apart their sums are. Whatever becomes of a noisy sum afterwards costs nothing more.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from fedwire import gradients
from fedwire.masking.rings import Ring
from fedwire.masking.terms import MOST_DEVICES
from training.privacy.accounting import Mechanism
from training.privacy.protection import DISTRIBUTED, RECORDS, Protection


def of(protection: Protection, parameters: int = 0, epochs: int = 1) -> Mechanism | None:
    """The cost of a round to every unit in it; None for a run without noise.

    Noise of the portal, or whole noise of a device, is worth what was asked for: updates on its grid are within the
    clip (`fedwire.grids`). Shares of devices add up to noise · clip at least, over the sensitivity of the ring
    for `parameters` numbers. Noisy gradients: as many steps as are `epochs` passes, in each of which a row comes by a
    coin of its own that nobody but its device sees (`fedwire.gradients`).
    """
    if not protection.spends:
        return None
    if protection.mechanism == RECORDS:
        rate = protection.rate or 1.0  # what says none gains nothing
        return Mechanism(protection.noise, rate, gradients.steps_of(epochs, rate))
    if protection.mechanism == DISTRIBUTED:
        return Mechanism(protection.noise * protection.clip / coarsest(protection).sensitivity(parameters))
    return Mechanism(protection.noise)


def share(noise: float, owners: Sequence[str], threshold: int, least: int) -> float:
    """The noise, over the clip, of each device's share in a sum of devices of these organizations: what stays is
    `noise` at least when no more are left than a sum needs (`threshold` and `least` of them) and the shares of the
    largest organization are known to whoever looks: σ_share = noise / √(max(threshold, least) - c)."""
    known = max(Counter(owners).values(), default=0)
    return noise / math.sqrt(max(max(threshold, least) - known, 1))


def coarsest(protection: Protection) -> Ring:
    """The ring of a sum of as many devices as there may be, with room for all of the noise from each of them: no sum of
    the run is rounded to a coarser grid."""
    return Ring(protection.bits, protection.clip, MOST_DEVICES, protection.most_weight, protection.noise)
