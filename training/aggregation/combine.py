"""Ways of combining updates. Each is a `Combine`; a strategy names one.

There are two kinds. *By coordinate*: `weigh` leaves the weights as they are and `tile` does the work on one tile after
the other, so memory does not grow with the number of updates. *Selecting*: `weigh` looks at the updates as wholes and
gives new weights, and `tile` is the mean's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fedwire.tensors import Float32
from training.aggregation.kernels import Rows, Vector, weighted_sum
from training.aggregation.layout import Range


class Combine(Protocol):
    """A rule. It changes none of its arguments but `out`, and gives the same for the same."""

    def weigh(self, vectors: Sequence[Vector], weights: Sequence[float]) -> Sequence[float]:
        """The weights that count, from those the transforms gave."""

    def tile(self, rows: Rows, part: Range, out: Float32) -> None:
        """Combine the numbers of `part` into `out`, which has its length."""


@dataclass(frozen=True)
class Mean:
    """out = Σ wᵢ·Δᵢ, folded in the order given."""

    def weigh(self, vectors: Sequence[Vector], weights: Sequence[float]) -> Sequence[float]:
        """The weights as they are."""
        return weights

    def tile(self, rows: Rows, part: Range, out: Float32) -> None:
        """The weighted sum of this part."""
        weighted_sum(rows.of(part), rows.weights, out)
