"""The robust rules once more, as their papers write them: whole vectors in float64, loops, no shared code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.aggregation.gram import Float64


def median(rows: Float64) -> Float64:
    return np.median(rows, axis=0)


def trimmed_mean(rows: Float64, cut: int) -> Float64:
    return np.sort(rows, axis=0)[cut : len(rows) - cut].mean(axis=0)


def krum_order(rows: Float64, faulty: int) -> list[int]:
    """The updates from the lowest score to the highest."""
    neighbours = max(len(rows) - faulty - 2, faulty + 1)
    scores = []
    for place, row in enumerate(rows):
        others = sorted(float(((row - other) ** 2).sum()) for j, other in enumerate(rows) if j != place)
        scores.append(sum(others[:neighbours]))
    # Equal scores, which come from equal rows, differ by rounding.
    level = {score: sum(other < score * (1 - 1e-9) for other in scores) for score in scores}
    return sorted(range(len(rows)), key=lambda place: level[scores[place]])


def multi_krum(rows: Float64, faulty: int, keep: int) -> Float64:
    return rows[krum_order(rows, faulty)[: keep or len(rows) - faulty - 2]].mean(axis=0)


def bulyan_chosen(rows: Float64, faulty: int) -> list[int]:
    left, chosen = list(range(len(rows))), list[int]()
    while len(chosen) < len(rows) - 2 * faulty:
        chosen.append(left.pop(krum_order(rows[left], faulty)[0]))
    return sorted(chosen)


def mean_near_median(rows: Float64, keep: int) -> Float64:
    result = []
    for column in np.sort(rows, axis=0).T:
        nearest = np.argsort(np.abs(column - np.median(column)), kind="stable")[:keep]
        result.append(column[nearest].mean())
    return np.array(result)


def bulyan(rows: Float64, faulty: int) -> Float64:
    return mean_near_median(rows[bulyan_chosen(rows, faulty)], len(rows) - 4 * faulty)


def geometric_median(rows: Float64) -> Float64:
    """By Vardi and Zhang's iteration, which also arrives when the minimum is one of the rows."""
    point = np.median(rows, axis=0)
    for _ in range(100_000):
        away = rows - point
        distances = np.linalg.norm(away, axis=1)
        here = distances < 1e-13 * np.abs(rows).max()
        if here.all():
            return point
        inverse = 1 / distances[~here]
        target = (rows[~here] * inverse[:, None]).sum(axis=0) / inverse.sum()
        pull = float(np.linalg.norm((away[~here] * inverse[:, None]).sum(axis=0)))
        share = min(1.0, np.count_nonzero(here) / pull) if pull else 1.0
        new = (1 - share) * target + share * point
        if np.linalg.norm(new - point) <= 1e-15 * np.linalg.norm(point):
            return new
        point = new
    return point


def shortened(row: Float64, bound: float) -> Float64:
    length = float(np.linalg.norm(row))
    return row if length <= bound else row * (bound / length)


def median_norm(rows: Float64) -> float:
    return float(np.median(np.linalg.norm(rows, axis=1)))


def norm_clipping(rows: Float64, bound: float) -> Float64:
    return np.mean([shortened(row, bound or median_norm(rows)) for row in rows], axis=0)


def centred_clipping(rows: Float64, radius: float, steps: int) -> Float64:
    centre = np.zeros(rows.shape[1])
    for _ in range(steps):
        centre = centre + np.mean([shortened(row - centre, radius or median_norm(rows)) for row in rows], axis=0)
    return centre


def mixed(rows: Float64, faulty: int) -> Float64:
    """Each row's mean with the nearest ones."""
    found = []
    for row in rows:
        order = np.argsort(((rows - row) ** 2).sum(axis=1), kind="stable")
        found.append(rows[order[: len(rows) - faulty]].mean(axis=0))
    return np.array(found)


def of(name: str, rows: Sequence[Float64] | Float64, faulty: int = 1, mix: bool = False) -> Float64:
    """What the strategy `name` with its defaults makes of the rows."""
    matrix = np.asarray(rows, np.float64)
    if mix:
        matrix = mixed(matrix, faulty)
    results = {
        "median": lambda: median(matrix),
        "trimmed_mean": lambda: trimmed_mean(matrix, faulty),
        "krum": lambda: matrix[krum_order(matrix, faulty)[0]],
        "multi_krum": lambda: multi_krum(matrix, faulty, 0),
        "bulyan": lambda: bulyan(matrix, faulty),
        "geometric_median": lambda: geometric_median(matrix),
        "norm_clipping": lambda: norm_clipping(matrix, 0),
        "centered_clipping": lambda: centred_clipping(matrix, 0, 3),
    }
    return results[name]()
