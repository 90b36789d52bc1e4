"""The mean of the variates that devices keep: what SCAFFOLD calls c and FedDyn h.

Device i keeps a vector sᵢ and changes it by a known multiple of its update and of the mean s, so the server, which has
both, keeps s = (1/N)·Σ sᵢ exact without a second upload. N counts the devices that have answered a round of the run
that counted; a device that has not yet has sᵢ = 0 and is not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from training.aggregation.transforms import Update


@dataclass(frozen=True)
class Cohort:
    """How many devices kept a variate before the round, and how many after it, with those that answered it."""

    before: int = 0
    after: int = 0


NOBODY = Cohort()


@dataclass(frozen=True)
class Fold:
    """s ← keep·s + Σᵢ weightsᵢ·Δᵢ, in the order of the updates."""

    keep: float
    weights: tuple[float, ...]


Folding = Callable[[Sequence[Update], Cohort], Fold]


def scaffold(rate: float) -> Folding:
    """How c follows from the updates of one round (Karimireddy et al. 2020, Algorithm 1, option II).

    A device takes Kᵢ steps y ← y - η·(gₖ - cᵢ + c) from x, so x - yᵢ = η·Σ gₖ + η·Kᵢ·(c - cᵢ). Its variate becomes
    cᵢ⁺ = cᵢ - c + (x - yᵢ)/(Kᵢ·η), which is therefore the mean (1/Kᵢ)·Σ gₖ of its gradients. With Δᵢ = yᵢ - x

        cᵢ⁺ - cᵢ = -c - Δᵢ/(Kᵢ·η),

    in which cᵢ does not stand: c, η and Δᵢ are at hand here, and Kᵢ is reported. So over the set S that answered

        N⁺·c⁺ = N·c + Σ_S (cᵢ⁺ - cᵢ) = (N - |S|)·c - Σ_S Δᵢ/(Kᵢ·η).

    It holds for steps without momentum; weight decay is part of gₖ.
    """

    def folding(updates: Sequence[Update], cohort: Cohort) -> Fold:
        weights = tuple(-1 / (update.reports["steps"] * rate * cohort.after) for update in updates)
        return Fold((cohort.before - len(updates)) / cohort.after, weights)

    return folding


def feddyn(alpha: float) -> Folding:
    """How h follows from the updates of one round (Acar et al. 2021, Algorithm 1).

    A device's variate, its gradient at its last optimum, becomes gᵢ⁺ = gᵢ - α·Δᵢ, and the paper's
    h ← h - (α/N)·Σ_S Δᵢ is their mean: N⁺·h⁺ = N·h - α·Σ_S Δᵢ.
    """

    def folding(updates: Sequence[Update], cohort: Cohort) -> Fold:
        return Fold(cohort.before / cohort.after, (-alpha / cohort.after,) * len(updates))

    return folding
