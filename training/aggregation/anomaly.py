"""Which updates of a round are unlike the others, how much, and why in words. Data only: nothing is left out for it.

Everything comes from the Gram matrix of the round. Updates are compared with medians, also with the geometric one, so
that fewer than half of them cannot decide what is usual. The thresholds are on the safe side: devices whose data differ
send updates that differ, and a flag is a reason to look, not a proof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fedwire.codecs import Codec
from training.aggregation.assembly import vectors_of
from training.aggregation.gram import Float64, gram, norms
from training.aggregation.kernels import opened
from training.aggregation.layout import Layout
from training.aggregation.selecting import geometric_median
from training.aggregation.transforms import Update, in_order

# With fewer there is no telling which of them is unusual.
LEAST_UPDATES = 3
# A norm, or a distance of directions, is unusual when it is so many times the median and so many robust deviations
# above it. Directions nearer than NEAR are as near as is usual anywhere.
MOST_TIMES, MOST_DEVIATIONS, NEAR = 2.5, 5.0, 0.15
# A norm is also unusual when the median is so many times it: whoever did not train sends next to nothing.
MOST_TIMES_BELOW = 20.0
# A direction is also unusual when its cosine is below -AWAY while three quarters of the updates have one above AGREED.
AWAY, AGREED = 0.5, 0.5
# The deviation is at least this share of the median, so that in a round of nearly equal updates nobody stands out.
LEAST_DEVIATION = 0.05
# The median absolute deviation of a normal distribution times this is its standard deviation.
NORMAL = 1.4826
HIGHEST = 100.0


@dataclass(frozen=True)
class Anomaly:
    """How an update compares with the others of its round.

    `times`: its norm over the median of the norms; `deviations`: how many robust deviations its norm is above it;
    `cosine`: between it and the geometric median, 0 where one of them is 0; `distance`: between their directions,
    √(2 - 2·cosine), over the median of such distances; `score`: 0 to 100, flagged from 1 on; `reason`: in words, ""
    for one that is not flagged.
    """

    norm: float
    times: float
    deviations: float
    cosine: float
    distance: float
    score: float
    reason: str

    @property
    def flagged(self) -> bool:
        """Whether somebody should look at it."""
        return self.score >= 1


def anomalies(products: Float64) -> list[Anomaly]:
    """One for each update, in the order of the matrix; nobody is flagged among fewer than three."""
    lengths = norms(products)
    weights = geometric_median(products)
    cosines = _cosines(products, weights)
    apart = np.where(lengths > 0, np.sqrt(2 - 2 * cosines), 0)
    agreed = bool(np.quantile(cosines, 0.25, method="higher") >= AGREED)
    columns = (lengths, *_compared(lengths), cosines, *_compared(np.maximum(apart, NEAR)))
    return [
        _judged(*map(float, row), agreed=agreed, enough=len(lengths) >= LEAST_UPDATES)
        for row in zip(*columns, strict=True)
    ]


def of_updates(
    updates: Sequence[Update], layout: Layout, codec: Codec | None = None, threads: int = 1
) -> list[Anomaly]:
    """One for each update, in the order given; neither that order nor `threads` leaves a trace.

    It reads the files once. Raises kernels.Truncated, OSError.
    """
    ordered = in_order(updates)
    vectors = vectors_of(ordered, layout, codec)
    with opened(vectors):
        found = anomalies(gram(vectors, threads))
    by_update = dict(zip(map(id, ordered), found, strict=True))
    return [by_update[id(update)] for update in updates]


def _judged(
    norm: float,
    times: float,
    deviations: float,
    cosine: float,
    distance: float,
    distance_deviations: float,
    *,
    agreed: bool,
    enough: bool,
) -> Anomaly:
    long = min(times / MOST_TIMES, deviations / MOST_DEVIATIONS)
    short = min(1 / (MOST_TIMES_BELOW * times), HIGHEST) if times > 0 else HIGHEST
    size = max(long, min(short, -deviations / MOST_DEVIATIONS))
    away = -cosine / AWAY if agreed else 0.0
    far = min(distance / MOST_TIMES, distance_deviations / MOST_DEVIATIONS)
    reasons = [
        f"its norm is {_number(times)} times the median of the round" if size >= 1 else "",
        f"it points away from the others (cosine {cosine:.2f})".replace("-", "−") if away >= 1 else "",
        f"its direction is {_number(distance)} times as far from the others' as is usual in this round"
        if far >= 1 and away < 1
        else "",
    ]
    score = min(max(size, away, far, 0.0), HIGHEST) if enough else 0.0
    return Anomaly(norm, times, deviations, cosine, distance, score, "; ".join(filter(None, reasons)) if enough else "")


def _compared(values: Float64) -> tuple[Float64, Float64]:
    """Times the median, and robust deviations above it; 1 and 0 for all when the median is 0."""
    middle = float(np.median(values))
    if not middle > 0:
        return np.ones_like(values), np.zeros_like(values)
    deviation = max(NORMAL * float(np.median(np.abs(values - middle))), LEAST_DEVIATION * middle)
    return values / middle, (values - middle) / deviation


def _cosines(products: Float64, weights: Float64) -> Float64:
    """Of each update to the weighted sum of all; 0 where there is no direction."""
    towards = products @ weights
    scale = np.sqrt(np.diagonal(products) * max(float(weights @ towards), 0))
    return np.clip(np.divide(towards, scale, out=np.zeros_like(scale), where=scale > 0), -1, 1)


def _number(value: float) -> str:
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"
