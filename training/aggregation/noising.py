"""The noise that the portal adds: to the sum of a round's updates, each clipped as a whole, before it is divided. Pure.

new update = (Σ clip(Δᵢ) + N(0, (noise·clip)²)) / n, in whole numbers up to the division (see `fedwire.grids`); this is
DP-FedAvg of McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR 2018, arXiv:1710.06963,
with every device of the weight 1. How many devices took part, n, is taken to be known to everybody. What the server
step makes of the sum is a function of what was released, and costs nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedwire.grids import Grid
from fedwire.tensors import Float32
from training.aggregation import quantiles
from training.aggregation.combine import Combine, Mean, Tile
from training.aggregation.kernels import Rows, Vector
from training.aggregation.layout import TILE, Range, cut


@dataclass(frozen=True)
class Noise:
    """`clip`: of each update. `noise`: the standard deviation in the sum, over the clip. With a `quantile` the clip
    follows that of the norms, and the noise is what the sum and the count of those within the clip have together."""

    clip: float
    noise: float
    quantile: float | None = None

    def next_clip(self, norms: Sequence[float]) -> float | None:
        """The clip of the next round, where it follows a quantile. Call it once for a round: it draws anew."""
        if self.quantile is None:
            return None
        return quantiles.follow(self.clip, norms, self.quantile, self.noise)

    def tile(self, combine: Combine, norms: Sequence[float], parameters: int) -> Tile:
        """What is done with a tile of updates of these norms. Every call draws anew.

        Raises ValueError for a combination that is no mean, whose sensitivity nobody bounds, and what `Grid` raises.
        """
        if not isinstance(combine, Mean):
            raise ValueError("noise in the sum belongs to a mean")
        adaptive = self.quantile is not None
        noise = quantiles.sum_noise(self.noise, len(norms)) if adaptive else self.noise
        grid = Grid(self.clip, noise, parameters)
        factors = [grid.factor(norm) for norm in norms]

        def tile(rows: Rows, part: Range, out: Float32) -> None:
            total = np.zeros(len(part), np.float64)
            for row, factor in zip(rows.of(part), factors, strict=True):
                total += grid.whole(row, factor)
            total += grid.drawn(len(part))
            np.multiply(total, grid.step / len(factors), out=total)
            out[:] = total

        return tile


def norm_of(vector: Vector) -> float:
    """The L2 norm of the numbers behind a file; nothing that was said of them before counts here."""
    squares, room = 0.0, np.empty(min(TILE, vector.length), np.float32)
    for part in cut(Range(0, vector.length), TILE):
        numbers = vector.read(part, room).astype(np.float64)
        squares += float(numbers @ numbers)
    return float(squares**0.5)
