"""Metrics that merge: sums, counts and score histograms over held-out rows, and the ratios formed from them.

A device reports an `Evaluation`; the portal merges the reports of a round and only then divides. So the merged
accuracy, loss and AUC are those of all rows together (AUC up to the width of a bin, 1/200), whoever holds how many.
Sums are rounded once (`math.fsum`), so the order of merging does not change a bit. What comes from outside is read by
`fedwire.reports`, and `fedwire.slices` decides which parts of the rows a report may speak of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedwire.errors import FedportalError
from fedwire.messages import Evaluation, Histograms

BINS = 200
# A score from here on says "class 1".
HALF = BINS // 2


class Ratios(TypedDict):
    """What a reader wants to know; None where the rows do not allow an answer."""

    loss: float | None
    accuracy: float | None
    auc: float | None
    samples: int
    others: dict[str, float]


def evaluation(
    scores: ArrayLike,
    labels: ArrayLike,
    losses: ArrayLike,
    *,
    named: Mapping[str, ArrayLike] | None = None,
    scored: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
) -> Evaluation:
    """The report on held-out rows.

    `scores` [n]: the probability of class 1, for `labels` 0 and 1; the report carries the two histograms. `scores`
    [n, k]: a score per class, for labels 0 … k-1; the class with the highest is the answer. `losses` [n]: per row.
    `named`: further metrics, each a value per row [n]; `scored`: further scores on [0, 1] with their labels 0 and 1,
    each of which gets an AUC. Raises `metrics_invalid` when the lengths differ or a number is not finite.
    """
    score, label = np.asarray(scores, np.float64), np.asarray(labels)
    loss = _per_row("the losses", losses, label)
    if score.ndim not in (1, 2) or label.ndim != 1 or label.shape != score.shape[:1]:
        raise invalid("scores, labels and losses must have one entry per row")
    if not np.isfinite(score).all():
        raise invalid("a score is NaN or infinite")
    report: Evaluation = {"samples": len(score), "loss_sum": math.fsum(loss.tolist()), "correct": 0}
    if score.ndim == 2:
        _count_classes(report, score, label)
    else:
        positive = label.astype(np.float64) > 0.5
        report["correct"] = int(np.count_nonzero((score >= 0.5) == positive))
        report.update(_histograms(score, positive))
    if named:
        report["sums"] = {name: math.fsum(_per_row(name, values, label).tolist()) for name, values in named.items()}
    if scored:
        report["histograms"] = {name: _scored(name, *pair) for name, pair in scored.items()}
    return report


def regression(predictions: ArrayLike, targets: ArrayLike) -> Evaluation:
    """The report of a model that predicts a number: loss (z - y)²/2, and the sums `absolute_error`, `squared_error`.

    Nothing is right or wrong here, so `correct` is 0 and the merged accuracy is None.
    """
    error = np.asarray(predictions, np.float64).reshape(-1) - np.asarray(targets, np.float64).reshape(-1)
    if not np.isfinite(error).all():
        raise invalid("a prediction or target is NaN or infinite")
    squared = error * error
    return {
        "samples": len(error),
        "loss_sum": math.fsum((squared / 2).tolist()),
        "correct": 0,
        "sums": {"absolute_error": math.fsum(np.abs(error).tolist()), "squared_error": math.fsum(squared.tolist())},
    }


def histogram(scores: NDArray[np.float64]) -> list[int]:
    """How many scores lie in each of BINS equal bins on [0, 1]; a score of 1 belongs to the last."""
    bins = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    return [int(count) for count in np.bincount(bins, minlength=BINS)]


def merge(reports: Iterable[Evaluation]) -> Evaluation:
    """The report on all rows of `reports` together. Of none: no samples.

    A report without histograms adds none, and a sum by name covers the reports that carry it. Merging is associative:
    reports may be merged in groups first.
    """
    reports = list(reports)
    merged: Evaluation = {
        "samples": sum(report["samples"] for report in reports),
        "loss_sum": math.fsum(report["loss_sum"] for report in reports),
        "correct": sum(report["correct"] for report in reports),
    }
    with_bins = [report for report in reports if "positives" in report and "negatives" in report]
    if with_bins:
        merged["positives"] = _added(report["positives"] for report in with_bins)
        merged["negatives"] = _added(report["negatives"] for report in with_bins)
    if any("confusion" in report for report in reports):
        merged["confusion"] = _added(found for report in reports if (found := confusion(report)) is not None)
    _merge_sums(merged, reports)
    if names := _names(report.get("histograms", {}) for report in reports):
        merged["histograms"] = {
            name: {
                "positives": _added(r["histograms"][name]["positives"] for r in reports if name in _scores_of(r)),
                "negatives": _added(r["histograms"][name]["negatives"] for r in reports if name in _scores_of(r)),
            }
            for name in names
        }
    if any("slices" in report for report in reports):
        merged["slices"] = _merged_slices(reports)
    return merged


def ratios(report: Evaluation) -> Ratios:
    """The ratios of a (merged) report: loss_sum / samples, correct / samples, `auc`, and the others by name.

    Among the others: every sum over the samples that it covers; `auc_…` of further scores; of two classes the
    `sensitivity` (right among class 1), the `specificity` (right among class 0) and their mean, `balanced_accuracy`.
    """
    samples, sums = report["samples"], report.get("sums", {})
    classified = samples and not ("absolute_error" in sums and "positives" not in report)
    return {
        "loss": report["loss_sum"] / samples if samples else None,
        "accuracy": report["correct"] / samples if classified else None,
        "auc": auc(report.get("positives", []), report.get("negatives", [])),
        "samples": samples,
        "others": {**_two_classes(report), **_means(report), **_further_aucs(report)},
    }


def auc(positives: Iterable[int], negatives: Iterable[int]) -> float | None:
    """The chance that a row of class 1 scores higher than one of class 0, rows in one bin counting half.

    AUC = Σᵢ posᵢ·(Σ_{j<i} negⱼ + negᵢ/2) / (Σ pos · Σ neg), in whole numbers until the division. None when a class has
    no rows.
    """
    twice, below, all_positive = 0, 0, 0
    for positive, negative in zip(positives, negatives, strict=True):
        twice += positive * (2 * below + negative)
        below += negative
        all_positive += positive
    return twice / (2 * all_positive * below) if all_positive and below else None


def confusion(report: Evaluation) -> list[int] | None:
    """[true negatives, false positives, false negatives, true positives]; None where nobody counted two classes."""
    if "confusion" in report:
        return report["confusion"]
    if "positives" not in report or "negatives" not in report:
        return None
    low, high = report["negatives"], report["positives"]
    return [sum(low[:HALF]), sum(low[HALF:]), sum(high[:HALF]), sum(high[HALF:])]


def invalid(reason: str) -> FedportalError:
    """The error of a report that cannot be used."""
    return FedportalError("metrics_invalid", reason=reason)


def _count_classes(report: Evaluation, score: NDArray[np.float64], label: NDArray[Any]) -> None:
    """Right answers, and of two classes who was taken for what."""
    found = score.argmax(axis=1) if len(score) else np.zeros(0, np.int64)
    report["correct"] = int(np.count_nonzero(found == label))
    if score.shape[1] == 2:
        places = 2 * (label.astype(np.float64) > 0.5).astype(np.int64) + found
        report["confusion"] = [int(count) for count in np.bincount(places, minlength=4)]


def _per_row(name: str, values: ArrayLike, label: NDArray[Any]) -> NDArray[np.float64]:
    found = np.asarray(values, np.float64)
    if found.shape != label.shape:
        raise invalid(f"{name} must have one entry per row")
    if not np.isfinite(found).all():
        raise invalid(f"{name} hold NaN or infinity")
    return found


def _scored(name: str, scores: ArrayLike, labels: ArrayLike) -> Histograms:
    label = np.asarray(labels)
    return _histograms(_per_row(name, scores, label), label.astype(np.float64) > 0.5)


def _histograms(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> Histograms:
    return {"positives": histogram(score[positive]), "negatives": histogram(score[~positive])}


def _merge_sums(merged: Evaluation, reports: Sequence[Evaluation]) -> None:
    """Sums by name; `over` where one does not cover all samples."""
    names = _names(report.get("sums", {}) for report in reports)
    if not names:
        return
    merged["sums"] = {name: math.fsum(r.get("sums", {}).get(name, 0.0) for r in reports) for name in names}
    covered = {name: sum(_covered(r, name) for r in reports if name in r.get("sums", {})) for name in names}
    partly = {name: count for name, count in covered.items() if count != merged["samples"]}
    if partly:
        merged["over"] = partly


def _covered(report: Evaluation, name: str) -> int:
    return report.get("over", {}).get(name, report["samples"])


def _merged_slices(reports: Sequence[Evaluation]) -> dict[str, dict[str, Evaluation]]:
    """Each value of each slicing over the reports that speak of it."""
    found: dict[str, dict[str, list[Evaluation]]] = {}
    for report in reports:
        for name, values in report.get("slices", {}).items():
            for value, part in values.items():
                found.setdefault(name, {}).setdefault(value, []).append(part)
    return {name: {value: merge(values[value]) for value in sorted(values)} for name, values in sorted(found.items())}


def _means(report: Evaluation) -> dict[str, float]:
    return {
        name: total / covered for name, total in report.get("sums", {}).items() if (covered := _covered(report, name))
    }


def _two_classes(report: Evaluation) -> dict[str, float]:
    counts = confusion(report)
    if counts is None:
        return {}
    right_low, wrong_low, wrong_high, right_high = counts
    found = {}
    if right_high + wrong_high:
        found["sensitivity"] = right_high / (right_high + wrong_high)
    if right_low + wrong_low:
        found["specificity"] = right_low / (right_low + wrong_low)
    if len(found) == 2:
        found["balanced_accuracy"] = (found["sensitivity"] + found["specificity"]) / 2
    return found


def _further_aucs(report: Evaluation) -> dict[str, float]:
    found = {name: auc(**bins) for name, bins in sorted(_scores_of(report).items())}
    return {f"auc_{name}": area for name, area in found.items() if area is not None}


def _scores_of(report: Evaluation) -> Mapping[str, Histograms]:
    return report.get("histograms", {})


def _names(held: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({name for names in held for name in names})


def _added(columns: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*columns, strict=True)]
