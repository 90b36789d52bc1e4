"""What happens to the updates before they are combined: here, to their weights.

A transform is a function from updates with weights to weights; a strategy names a chain of them. Weights begin as 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Update:
    """An update as the portal knows it without reading it. `norm`: L2, measured when it arrived."""

    path: Path
    sha256: str
    samples: int
    norm: float | None = None


Transform = Callable[[Sequence[Update], Sequence[float]], Sequence[float]]


def by_samples(updates: Sequence[Update], weights: Sequence[float]) -> Sequence[float]:
    """wᵢ·nᵢ: an update counts by the rows it comes from."""
    return [weight * update.samples for update, weight in zip(updates, weights, strict=True)]


def normalised(updates: Sequence[Update], weights: Sequence[float]) -> Sequence[float]:
    """wᵢ / Σw, in float64. Raises ValueError when they add up to nothing."""
    total = float(sum(weights))
    if not total > 0:
        raise ValueError("the weights add up to nothing")
    return [weight / total for weight in weights]


def in_order(updates: Sequence[Update]) -> list[Update]:
    """The order in which updates are folded: by digest, so that the order of arrival leaves no trace.

    Equal updates are told apart by their weight only, so their order among one another does not matter either.
    """
    return sorted(updates, key=lambda update: (update.sha256, update.samples))
