"""Score histograms: rows counted by score and class, from which the AUC of all rows follows without any row.

Two scales. `logit`: bin i begins at z = sinh((i - 352)/32)/100 in z = ln(p/(1-p)), the first and the last bin reach to
infinity. So a bin is 0.0003 wide at p = 1/2 and 3 % of |z| far from it, and neither the scores of a model that is sure
(all near 0 or 1) nor those of one that has hardly learned (all near 1/2) fall into one bin. `equal`: 200 equal bins of
p on [0, 1], as older software reports, which merges them all. Counts of different scales are never added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fedwire.messages import Histograms

Scale = Literal["logit", "equal"]
LOGIT: Scale = "logit"
EQUAL: Scale = "equal"
SIDE = 352
# Bins of each scale; the upper half of them says "class 1".
BINS: Mapping[Scale, int] = {LOGIT: 2 * SIDE, EQUAL: 200}
PER_FOLD, FINEST = 32, 100


def places(scores: NDArray[np.float64], scale: Scale, *, logits: bool) -> NDArray[np.int64]:
    """The number of each row's bin [n], for probabilities or logits [n]; the upper half of the bins says "class 1"."""
    if scale == EQUAL:
        return np.clip(((_sigmoid(scores) if logits else scores) * BINS[EQUAL]).astype(np.int64), 0, BINS[EQUAL] - 1)
    found = np.floor(PER_FOLD * np.arcsinh(FINEST * (scores if logits else _logit(scores))))
    return (np.clip(found, -SIDE, SIDE - 1) + SIDE).astype(np.int64)


def of(bins: NDArray[np.int64], positive: NDArray[np.bool_], scale: Scale) -> Histograms:
    """The histograms of rows in these bins [n], of the class where `positive` [n]."""
    counts = [np.bincount(bins[chosen], minlength=BINS[scale]).tolist() for chosen in (positive, ~positive)]
    found: Histograms = {"positives": counts[0], "negatives": counts[1]}
    if scale != EQUAL:
        found["scale"] = scale
    return found


def scale_of(held: Any) -> Scale:
    """The scale of histograms, or of a report's own; `equal` where they do not say."""
    return LOGIT if held.get("scale") == LOGIT else EQUAL


def by_scale(held: Any) -> dict[Scale, tuple[list[int], list[int]]]:
    """(positives, negatives) for each scale that histograms, or a report's own, are counted on."""
    if "positives" not in held or "negatives" not in held:
        return {}
    found = {scale_of(held): (held["positives"], held["negatives"])}
    return {**found, **by_scale(held.get("other_scale", {}))}


def merged(held: Iterable[Any]) -> Histograms | None:
    """The histograms of all the rows together; None of none. With both scales, `other_scale` holds the equal bins."""
    columns: dict[Scale, list[tuple[list[int], list[int]]]] = {}
    for one in held:
        for scale, pair in by_scale(one).items():
            columns.setdefault(scale, []).append(pair)
    added: dict[Scale, Histograms] = {
        scale: {"positives": _added(p for p, _ in pairs), "negatives": _added(n for _, n in pairs)}
        for scale, pairs in columns.items()
    }
    if LOGIT not in added:
        return added.get(EQUAL)
    found: Histograms = {**added[LOGIT], "scale": LOGIT}
    if EQUAL in added:
        found["other_scale"] = added[EQUAL]
    return found


def area(held: Any) -> float | None:
    """The AUC of histograms, or of a report's own; where both scales occur, of the rows on that which counts more."""
    pairs = by_scale(held)
    if not pairs:
        return None
    # Of equally many rows those on the finer scale: `max` takes the first, and by_scale gives `logit` first.
    return auc(*max(pairs.values(), key=lambda pair: sum(pair[0]) + sum(pair[1])))


def auc(positives: Iterable[int], negatives: Iterable[int]) -> float | None:
    """The chance that a row of class 1 scores higher than one of class 0, rows in one bin counting half.

    AUC = Σᵢ posᵢ·(Σ_{j<i} negⱼ + negᵢ/2) / (Σ pos · Σ neg), in whole numbers until the division. None when a class has
    no rows. It differs from the AUC of the scores by at most ½·Σᵢ posᵢ·negᵢ / (Σ pos · Σ neg).
    """
    twice, below, all_positive = 0, 0, 0
    for positive, negative in zip(positives, negatives, strict=True):
        twice += positive * (2 * below + negative)
        below += negative
        all_positive += positive
    return twice / (2 * all_positive * below) if all_positive and below else None


def confusion(held: Any) -> list[int] | None:
    """[true negatives, false positives, false negatives, true positives] over all scales; None without histograms."""
    pairs = by_scale(held)
    halves = [
        [sum(low[:half]), sum(low[half:]), sum(high[:half]), sum(high[half:])]
        for scale, (high, low) in pairs.items()
        for half in (BINS[scale] // 2,)
    ]
    return _added(halves) if halves else None


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln(p/(1-p)), infinite at 0 and 1; what is outside them is taken for them. Not below 0 from p = 1/2 on."""
    p = np.clip(scores, 0, 1)
    with np.errstate(divide="ignore"):
        size = np.abs(np.log(p) - np.log1p(-p))
    return np.where(p >= 0.5, size, -size)


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return (1 + np.tanh(logits / 2)) / 2


def _added(columns: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*columns, strict=True)]
