"""What happens to the updates before they are combined: here, to their weights.

A transform is a function from updates with weights to weights; a strategy names a chain of them. Weights begin as 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedwire.errors import FedportalError


@dataclass(frozen=True)
class Update:
    """An update as the portal knows it without reading it. `norm`: L2, measured when it arrived. `reports`: what the
    device said of its local training, by the names of `fedwire.messages.Answer`. `base`: the model it began from, where
    that is not the one it is added to; `discount`: how much it counts for that."""

    path: Path
    sha256: str
    samples: int
    norm: float | None = None
    reports: Mapping[str, float] = field(default_factory=dict)
    base: Path | None = None
    discount: float = 1.0
    trusted: bool = False  # of the organization that the run trusts


# The smallest loss that `by_loss` tells from none.
FLAT = 1e-10
Transform = Callable[[Sequence[Update], Sequence[float]], Sequence[float]]


def by_samples(updates: Sequence[Update], weights: Sequence[float]) -> Sequence[float]:
    """wᵢ·nᵢ: an update counts by the rows it comes from."""
    return [weight * update.samples for update, weight in zip(updates, weights, strict=True)]


def trusted_only(updates: Sequence[Update], weights: Sequence[float]) -> Sequence[float]:
    """wᵢ for updates of the trusted organization, 0 for the others. Raises `trusted_missing` when there are none."""
    if not any(update.trusted for update in updates):
        raise FedportalError("trusted_missing", reason="no device of the trusted organization has answered.")
    return [weight if update.trusted else 0.0 for update, weight in zip(updates, weights, strict=True)]


def normalised(updates: Sequence[Update], weights: Sequence[float]) -> Sequence[float]:
    """wᵢ / Σw, in float64. Raises ValueError when they add up to nothing."""
    total = float(sum(weights))
    if not total > 0:
        raise ValueError("the weights add up to nothing")
    return [weight / total for weight in weights]


def by_normaliser(updates: Sequence[Update], weights: Sequence[float]) -> Sequence[float]:
    """wᵢ·(Σⱼ wⱼ·aⱼ)/aᵢ: each update divided by how often its gradients count, then all stretched to the mean of that.

    With weights that add up to 1 this is the normalised averaging of Wang et al. 2020, τ_eff being Σ wⱼ·aⱼ. Where all
    aᵢ are equal the weights stay as they are, but for rounding. aᵢ is the report `normaliser`.
    """
    normalisers = [update.reports["normaliser"] for update in updates]
    effective = math.fsum(weight * a for weight, a in zip(weights, normalisers, strict=True))
    return [weight * (effective / a) for weight, a in zip(weights, normalisers, strict=True)]


def by_loss(q: float, lipschitz: float) -> Transform:
    """wᵢ·L·Fᵢ^q / Σⱼ wⱼ·(q·Fⱼ^(q-1)·‖L·Δⱼ‖² + L·Fⱼ^q): q-FedAvg's weights (Li et al. 2020, Algorithm 2).

    Fᵢ is the report `base_loss`, ‖Δᵢ‖ the norm measured when the update arrived. For q = 0 weights that add up to 1
    stay as they are, but for rounding. All losses are divided by the largest, which cancels out and lets no power
    overflow; a loss below FLAT counts as FLAT, because F^(q-1) has no value at 0 for q < 1.
    """

    def transform(updates: Sequence[Update], weights: Sequence[float]) -> Sequence[float]:
        losses = [max(update.reports["base_loss"], FLAT) for update in updates]
        top = max(losses)
        shares = [(loss / top) ** q for loss in losses]
        curves = [
            q * share / loss * (lipschitz * _norm(update)) ** 2 + lipschitz * share
            for update, loss, share in zip(updates, losses, shares, strict=True)
        ]
        total = math.fsum(weight * curve for weight, curve in zip(weights, curves, strict=True))
        return [weight * lipschitz * share / total for weight, share in zip(weights, shares, strict=True)]

    return transform


def _norm(update: Update) -> float:
    if update.norm is None:
        raise ValueError("the norm of an update is not known")
    return update.norm


def in_order(updates: Sequence[Update]) -> list[Update]:
    """The order in which updates are folded: by digest, so that the order of arrival leaves no trace.

    Equal updates are told apart by what gives them their weight, and by where they began, so their order among one
    another does not matter either.
    """

    def place(update: Update) -> tuple[str, int, list[tuple[str, float]], float, bool, str]:
        began = update.base.name if update.base is not None else ""
        return update.sha256, update.samples, sorted(update.reports.items()), update.discount, update.trusted, began

    return sorted(updates, key=place)
