"""Rules that look at updates as wholes: from their Gram matrix G to the weights with which they are summed.

n updates Δᵢ of which up to f may be anything. All is computed in float64 on n × n matrices, so it costs little beside
the pass over the files that made G. Of equally good updates the first counts; callers give them in the order of their
digests. Every update counts the same, because the number of rows behind it is its device's own claim.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from training.aggregation.gram import Float64, norms, squared_distances

# Weiszfeld's iteration ends when the pull on the point, which n unit vectors make up, is below this share of n.
TOLERANCE = 1e-8
MOST_STEPS = 20_000
# A distance below this share of the typical one is taken to be so long: the iteration must not divide by 0.
SMOOTHING = 1e-9
# Scores that differ by less than this share are equal: mixing makes many of them, and rounding must not choose.
EQUAL = 1e-9


def nearest_neighbour_mixing(products: Float64, faulty: int) -> Float64:
    """M with which each update is replaced by the mean of the n - f nearest to it, itself among them: Yᵢ = Σⱼ Mᵢⱼ·Δⱼ.

    Allouah et al. 2023, arXiv:2302.01772. In front of a robust rule it makes it optimal up to a constant when honest
    updates differ. Raises ValueError unless n > f.
    """
    count = len(products)
    _require(count, faulty + 1)
    nearest = np.argsort(squared_distances(products), axis=1, kind="stable")[:, : count - faulty]
    mixing = np.zeros((count, count))
    np.put_along_axis(mixing, nearest, 1 / (count - faulty), axis=1)
    return mixing


def krum_scores(distances: Float64, neighbours: int) -> Float64:
    """sᵢ = Σ ‖Δᵢ - Δⱼ‖² over the updates j ≠ i nearest to it; Krum's neighbours are n - f - 2.

    Blanchard et al. 2017, arXiv:1703.02757. Some implementations count the update itself, at distance 0, among its
    neighbours, and so sum over one less; others go on with one neighbour where there are too few updates.
    """
    count = len(distances)
    if count == 1:
        return np.zeros(1)
    others = np.sort(distances[~np.eye(count, dtype=bool)].reshape(count, count - 1), axis=1)
    return others[:, :neighbours].sum(axis=1)


def krum(products: Float64, faulty: int) -> Float64:
    """The update with the lowest score. Raises ValueError unless n ≥ 2f + 3."""
    return multi_krum(products, faulty, 1)


def multi_krum(products: Float64, faulty: int, keep: int) -> Float64:
    """The mean of the `keep` updates with the lowest scores; of n - f - 2 if `keep` is 0.

    Blanchard et al. 2017. The paper leaves m open; its guarantee carries over for m ≤ n - f - 2 (El Mhamdi et al. 2018,
    arXiv:1802.07927), which is the default here. Raises ValueError unless n ≥ max(2f + 3, keep).
    """
    count = len(products)
    _require(count, max(2 * faulty + 3, keep))
    keep = keep or count - faulty - 2
    weights = np.zeros(count)
    weights[_ranked(krum_scores(squared_distances(products), count - faulty - 2))[:keep]] = 1 / keep
    return weights


def bulyan_selection(products: Float64, faulty: int) -> NDArray[np.intp]:
    """The θ = n - 2f updates that Krum chooses one after the other, each taken out before the next is chosen; sorted.

    The first half of Bulyan, El Mhamdi et al. 2018, arXiv:1802.07927. Near the end fewer updates are left than Krum
    needs; a score is never over fewer than f + 1 neighbours, the fewest that Krum's own condition grants it. Raises
    ValueError unless n ≥ 4f + 3.
    """
    _require(len(products), 4 * faulty + 3)
    distances = squared_distances(products)
    left, chosen = list(range(len(products))), list[int]()
    while len(chosen) < len(products) - 2 * faulty:
        scores = krum_scores(distances[np.ix_(left, left)], max(len(left) - faulty - 2, faulty + 1))
        chosen.append(left.pop(int(_ranked(scores)[0])))
    return np.sort(np.array(chosen))


def geometric_median(products: Float64) -> Float64:
    """The point with the least sum of distances to all updates, z = Σ cᵢ·Δᵢ.

    Pillutla et al. 2019 (RFA), arXiv:1912.13445: Weiszfeld's iteration, smoothed, on the coefficients c. It goes on
    until ‖Σ (z - Δᵢ)/‖z - Δᵢ‖‖ ≤ 10⁻⁸·n, or for 20,000 steps, where the paper's experiments stop after three. An update
    that is the minimum itself is found as such, without iterating. The paper weighs by samples.
    """
    count = len(products)
    distances = np.sqrt(squared_distances(products))
    centre = int(np.argmin(distances.sum(axis=1)))
    same = distances[centre] == 0
    # Inner products as seen from an honest update: what lies far away is not squared, and nobody's size matters.
    seen = products - products[centre] - products[:, centre, None] + products[centre, centre]
    unit = np.divide(1, distances[centre], out=np.zeros(count), where=~same)
    count_here = int(np.count_nonzero(same))
    # On the verge many points are as good as this one, and the iteration finds one in the middle of them.
    if unit @ seen @ unit < (count_here * (1 - TOLERANCE)) ** 2:
        return same / count_here
    return _weiszfeld(seen, distances)


def _weiszfeld(products: Float64, distances: Float64) -> Float64:
    typical = np.median(distances, axis=1)
    floor = SMOOTHING * float(typical[typical > 0].min(initial=distances.max()))
    # An update far from most begins with next to no weight.
    weights = 1 / np.maximum(typical, floor)
    weights /= weights.sum()
    for _ in range(MOST_STEPS):
        near = 1 / np.sqrt(np.maximum(_squares_from(products, weights), floor**2))
        pull = near.sum()
        new = near / pull
        step = new - weights
        weights = new
        if pull**2 * max(float(step @ products @ step), 0.0) <= (TOLERANCE * len(weights)) ** 2:
            break
    return weights


def norm_clipping(products: Float64, bound: float) -> Float64:
    """The mean of the updates, each shortened to the length `bound`; if that is 0, to the median of the round's norms.

    Sun et al. 2019, arXiv:1911.07963. Weights wᵢ = min(1, bound/‖Δᵢ‖)/n.
    """
    lengths = norms(products)
    return _shrunk(lengths, bound or float(np.median(lengths))) / len(lengths)


def centred_clipping(products: Float64, radius: float, steps: int) -> Float64:
    """v ← v + (1/n)·Σ (Δᵢ - v)·min(1, radius/‖Δᵢ - v‖), `steps` times from v = 0.

    Karimireddy et al. 2021, arXiv:2012.10333. The paper's v begins as the aggregate of the round before; here it begins
    as the update that moves nothing, so a round needs no other round, and steps replace history. If `radius` is 0 it is
    the median of the round's norms.
    """
    count = len(products)
    radius = radius or float(np.median(norms(products)))
    weights = np.zeros(count)
    for _ in range(steps):
        shares = _shrunk(np.sqrt(np.maximum(_squares_from(products, weights), 0)), radius)
        weights = weights * (1 - shares.mean()) + shares / count
    return weights


def fltrust(products: Float64, reference: Float64) -> Float64:
    """The mean of the updates, each brought to the length of a trusted one and weighed by its cosine to it, if above 0.

    Cao et al. 2021, arXiv:2012.13995. `reference`: the trusted update as weights of the updates, Δ₀ = Σ referenceᵢ·Δᵢ.
    There it comes from data of the server and does not count itself; here it is made of participants' updates, which
    count as one, as it, with its trust of 1, so there is always something to sum. Raises ValueError when it is 0.
    """
    lengths, towards = norms(products), products @ reference
    length = math.sqrt(max(float(reference @ towards), 0.0))
    if not length > 0:
        raise ValueError("the trusted update is zero")
    scale = np.divide(length, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    trust = np.where(reference > 0, 0.0, np.maximum(towards * scale / length**2, 0))
    return (reference + trust * scale) / (1 + trust.sum())


def after_mixing(weights: Float64, mixing: Float64) -> Float64:
    """Weights of the mixed updates as weights of the updates they were mixed from."""
    return weights @ mixing


def _ranked(scores: Float64) -> NDArray[np.intp]:
    """The places from the lowest score to the highest; of equal ones, rounding set aside, the first comes first."""
    order = np.argsort(scores, kind="stable")
    sorted_scores = scores[order]
    apart = np.diff(sorted_scores) > EQUAL * sorted_scores[1:]
    return order[np.lexsort((order, np.concatenate([[0], np.cumsum(apart)])))]


def _squares_from(products: Float64, weights: Float64) -> Float64:
    """‖Δᵢ - Σ wⱼ·Δⱼ‖²."""
    towards = products @ weights
    return np.diagonal(products) - 2 * towards + weights @ towards


def _shrunk(lengths: Float64, bound: float) -> Float64:
    """min(1, bound/length), 1 for length 0."""
    return np.divide(bound, lengths, out=np.ones_like(lengths), where=lengths > bound)


def _require(count: int, least: int) -> None:
    if count < least:
        raise ValueError(f"{count} updates are fewer than the {least} that are needed")
