"""Ways of combining updates. Each is a `Combine`; a strategy names one.

A rule first looks at the updates as wholes and makes a plan; the plan is then carried out tile by tile. There are two
kinds. *By coordinate*: no look is needed, all the work is in the tiles. *Selecting*: the look gives new weights, and
the tiles are the mean's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from fedwire.tensors import Float32
from training.aggregation.gram import Float64
from training.aggregation.kernels import Rows, weighted_sum
from training.aggregation.layout import Range

# Combines the numbers of a range into an array of its length.
Tile = Callable[[Rows, Range, Float32], None]
# Gives the Gram matrix of the updates, which takes a pass over their files.
Products = Callable[[], Float64]


@dataclass(frozen=True)
class Plan:
    """What is done tile by tile. `weights` go with the updates; `tile` never sees an update whose weight is 0."""

    weights: Sequence[float]
    tile: Tile


class Combine(Protocol):
    """A rule. It changes none of its arguments, and gives the same for the same."""

    @property
    def looks(self) -> bool:
        """Whether its plan depends on the Gram matrix."""

    def plan(self, weights: Sequence[float], products: Products) -> Plan:
        """What to do with the updates to which the transforms gave these weights."""


@dataclass(frozen=True)
class Mean:
    """out = Σ wᵢ·Δᵢ, folded in the order given."""

    looks: ClassVar[bool] = False

    def plan(self, weights: Sequence[float], products: Products) -> Plan:
        """The weights as they are."""
        return Plan(weights, mean)


def mean(rows: Rows, part: Range, out: Float32) -> None:
    """The weighted sum of this part."""
    weighted_sum(rows.of(part), rows.weights, out)
