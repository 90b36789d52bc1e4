"""Metrics that merge: sums, counts and score histograms over held-out rows, and the ratios formed from them.

A device reports an `Evaluation`; the portal merges the reports of a round and only then divides. So the merged
accuracy and loss are those of all rows together, whoever holds how many, and so is the AUC but for rows whose scores
share a bin (`fedwire.histograms`). Sums are rounded once (`math.fsum`), so the order of merging does not change a bit.
What comes from outside is read by `fedwire.reports`, and `fedwire.slices` decides which parts of the rows a report may
speak of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedwire import histograms
from fedwire.errors import FedportalError
from fedwire.histograms import LOGIT, Scale
from fedwire.messages import Evaluation, Histograms

# How far a probability may lie outside [0, 1] by rounding.
ROUNDING = 1e-6


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
    logits: bool = False,
    named: Mapping[str, ArrayLike] | None = None,
    scored: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    scale: Scale = LOGIT,
) -> Evaluation:
    """The report on held-out rows, its histograms on this scale.

    `scores` [n]: the probability of class 1, for `labels` 0 and 1, or with `logits` its logarithmic odds, in which
    nothing is lost near 0 and 1; the report carries the two histograms. `scores` [n, k]: a score per class, for labels
    0 … k-1; the class with the highest is the answer, and two columns of logits are taken as their difference.
    `losses` [n]: per row. `named`: further metrics, each a value per row [n]; `scored`: further probabilities with
    their labels 0 and 1, each of which gets an AUC. Raises `metrics_invalid` when the lengths differ, a number is not
    finite or a probability lies outside [0, 1].
    """
    score, label = np.asarray(scores, np.float64), np.asarray(labels)
    loss = _per_row("the losses", losses, label)
    if score.ndim not in (1, 2) or label.ndim != 1 or label.shape != score.shape[:1]:
        raise invalid("scores, labels and losses must have one entry per row")
    if not np.isfinite(score).all():
        raise invalid("a score is NaN or infinite")
    report: Evaluation = {"samples": len(score), "loss_sum": math.fsum(loss.tolist()), "correct": 0}
    if logits and score.shape[1:] == (2,):
        score = score[:, 1] - score[:, 0]
    if score.ndim == 2:
        _count_classes(report, score, label)
    else:
        positive = label.astype(np.float64) > 0.5
        bins = _bins(score, scale, logits)
        report["correct"] = int(np.count_nonzero((bins >= histograms.BINS[scale] // 2) == positive))
        report.update(histograms.of(bins, positive, scale))
    if named:
        report["sums"] = {name: math.fsum(_per_row(name, values, label).tolist()) for name, values in named.items()}
    if scored:
        report["histograms"] = {name: _scored(name, *pair, scale) for name, pair in scored.items()}
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


def merge(reports: Iterable[Evaluation]) -> Evaluation:
    """The report on all rows of `reports` together. Of none: no samples.

    A report without histograms adds none, those on different scales stay apart, and a sum by name covers the reports
    that carry it. Merging is associative: reports may be merged in groups first.
    """
    reports = list(reports)
    merged: Evaluation = {
        "samples": sum(report["samples"] for report in reports),
        "loss_sum": math.fsum(report["loss_sum"] for report in reports),
        "correct": sum(report["correct"] for report in reports),
    }
    if (bins := histograms.merged(reports)) is not None:
        merged.update(bins)
    if any("confusion" in report for report in reports):
        merged["confusion"] = _added(found for report in reports if (found := confusion(report)) is not None)
    _merge_sums(merged, reports)
    if names := _names(report.get("histograms", {}) for report in reports):
        by_name = {name: histograms.merged(_scores_of(r).get(name, {}) for r in reports) for name in names}
        merged["histograms"] = {name: found for name, found in by_name.items() if found is not None}
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
        "auc": histograms.area(report),
        "samples": samples,
        "others": {**_two_classes(report), **_means(report), **_further_aucs(report)},
    }


def confusion(report: Evaluation) -> list[int] | None:
    """[true negatives, false positives, false negatives, true positives]; None where nobody counted two classes."""
    return report["confusion"] if "confusion" in report else histograms.confusion(report)


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


def _scored(name: str, scores: ArrayLike, labels: ArrayLike, scale: Scale) -> Histograms:
    label = np.asarray(labels)
    bins = _bins(_per_row(name, scores, label), scale, logits=False)
    return histograms.of(bins, label.astype(np.float64) > 0.5, scale)


def _bins(score: NDArray[np.float64], scale: Scale, logits: bool) -> NDArray[np.int64]:
    """The bins of probabilities or logits [n]."""
    if not logits and score.size and (score.min() < -ROUNDING or score.max() > 1 + ROUNDING):
        raise invalid("a score lies outside 0 to 1 and is no probability; give a model's raw outputs as `logits`")
    return histograms.places(score, scale, logits=logits)


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
    found = {name: histograms.area(bins) for name, bins in sorted(_scores_of(report).items())}
    return {f"auc_{name}": area for name, area in found.items() if area is not None}


def _scores_of(report: Evaluation) -> Mapping[str, Histograms]:
    return report.get("histograms", {})


def _names(held: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({name for names in held for name in names})


def _added(columns: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*columns, strict=True)]
