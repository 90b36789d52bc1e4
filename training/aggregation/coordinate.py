"""Rules that combine the numbers of each coordinate by themselves: of a matrix with a row for each update, one row.

They bound what f faulty updates can do in each coordinate: the result lies between numbers that honest updates sent.
Every update counts the same, because the number of rows behind it is its device's own claim. All overwrite their rows.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from fedwire.tensors import Float32
from training.aggregation.networks import Want, arranged, summed


def median(rows: Float32, out: Float32) -> None:
    """outₖ = the middle one of the k-th numbers; of an even count the mean of the two in the middle.

    Yin et al. 2018, arXiv:1803.01498. Holds for n ≥ 2f + 1.
    """
    low, high = (len(rows) - 1) // 2, len(rows) // 2
    sorted_rows = arranged(rows, _middle)
    _mean_of_two(sorted_rows[low], sorted_rows[high], out)


def trimmed_mean(rows: Float32, cut: int, out: Float32) -> None:
    """outₖ = the mean of the k-th numbers without the `cut` smallest and the `cut` largest.

    Yin et al. 2018, arXiv:1803.01498. Holds for n ≥ 2·cut + 1, with cut ≥ f. Raises ValueError when nothing would be
    left.
    """
    count = len(rows)
    if 2 * cut >= count:
        raise ValueError("nothing is left after trimming")
    kept = arranged(rows, partial(_between, cut))[cut : count - cut]
    np.multiply(summed(kept), np.float32(1 / len(kept)), out=out)


def mean_near_median(rows: Float32, keep: int, out: Float32) -> None:
    """outₖ = the mean of the `keep` numbers nearest the median of the k-th ones; of two equally near ones the smaller.

    The second half of Bulyan, El Mhamdi et al. 2018, arXiv:1802.07927.
    """
    count = len(rows)
    ordered = arranged(rows, _all)
    middle, near, far = (np.empty_like(out) for _ in range(3))
    _mean_of_two(ordered[(count - 1) // 2], ordered[count // 2], middle)
    # The nearest ones lie side by side, so of all places that are `keep` apart exactly one is among them.
    for place in range(keep):
        best = ordered[place]
        for other in ordered[place + keep :: keep]:
            np.abs(np.subtract(best, middle, out=near), out=near)
            np.abs(np.subtract(other, middle, out=far), out=far)
            np.copyto(best, other, where=far < near)
    np.multiply(summed(ordered[:keep]), np.float32(1 / keep), out=out)


def _mean_of_two(low: Float32, high: Float32, out: Float32) -> None:
    """Of halves, whose sum does not overflow."""
    np.multiply(low, np.float32(0.5), out=out)
    np.add(out, high * np.float32(0.5), out=out)


def _middle(count: int) -> tuple[Want, ...]:
    middle = ((count - 1) // 2, count // 2)
    return tuple(Want.EXACT if place in middle else Want.NOTHING for place in range(count))


def _between(cut: int, count: int) -> tuple[Want, ...]:
    return (Want.NOTHING,) * cut + (Want.SUMMED,) * (count - 2 * cut) + (Want.NOTHING,) * cut


def _all(count: int) -> tuple[Want, ...]:
    return (Want.EXACT,) * count
