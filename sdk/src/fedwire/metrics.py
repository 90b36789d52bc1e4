"""Metrics that merge: sums, counts and score histograms over held-out rows, and the ratios formed from them.

A device reports an `Evaluation`; the portal merges the reports of a round and only then divides. So the merged
accuracy, loss and AUC are those of all rows together (AUC up to the width of a bin, 1/200), whoever holds how many.
Sums are rounded once (`math.fsum`), so the order of merging does not change a bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedwire.errors import FedportalError
from fedwire.messages import Evaluation

BINS = 200
MAX_SUMS = 50
MAX_NAME = 60


class Ratios(TypedDict):
    """What a reader wants to know; None where the rows do not allow an answer."""

    loss: float | None
    accuracy: float | None
    auc: float | None
    samples: int
    others: dict[str, float]


def evaluation(scores: ArrayLike, labels: ArrayLike, losses: ArrayLike) -> Evaluation:
    """The report on held-out rows.

    `scores` [n]: the probability of class 1, for `labels` 0 and 1; the report carries the two histograms. `scores`
    [n, k]: a score per class, for labels 0 … k-1; the class with the highest is the answer. `losses` [n]: per row.
    Raises `metrics_invalid` when the lengths differ or a number is not finite.
    """
    score, label = np.asarray(scores, np.float64), np.asarray(labels)
    loss = np.asarray(losses, np.float64)
    if score.ndim not in (1, 2) or loss.shape != label.shape or label.shape != score.shape[:1]:
        raise _invalid("scores, labels and losses must have one entry per row")
    if not np.isfinite(score).all() or not np.isfinite(loss).all():
        raise _invalid("a score or loss is NaN or infinite")
    report: Evaluation = {"samples": len(score), "loss_sum": math.fsum(loss.tolist()), "correct": 0}
    if score.ndim == 2:
        report["correct"] = int(np.count_nonzero(score.argmax(axis=1) == label)) if len(score) else 0
        return report
    positive = label.astype(np.float64) > 0.5
    report["correct"] = int(np.count_nonzero((score >= 0.5) == positive))
    report["positives"] = histogram(score[positive])
    report["negatives"] = histogram(score[~positive])
    return report


def regression(predictions: ArrayLike, targets: ArrayLike) -> Evaluation:
    """The report of a model that predicts a number: loss (z - y)²/2, and `absolute_error` among the sums.

    Nothing is right or wrong here, so `correct` is 0 and the merged accuracy is None.
    """
    error = np.asarray(predictions, np.float64).reshape(-1) - np.asarray(targets, np.float64).reshape(-1)
    if not np.isfinite(error).all():
        raise _invalid("a prediction or target is NaN or infinite")
    absolute = math.fsum(np.abs(error).tolist())
    return {
        "samples": len(error),
        "loss_sum": math.fsum((error * error / 2).tolist()),
        "correct": 0,
        "sums": {"absolute_error": absolute},
    }


def histogram(scores: NDArray[np.float64]) -> list[int]:
    """How many scores lie in each of BINS equal bins on [0, 1]; a score of 1 belongs to the last."""
    bins = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    return [int(count) for count in np.bincount(bins, minlength=BINS)]


def merge(reports: Iterable[Evaluation]) -> Evaluation:
    """The report on all rows of `reports` together. Of none: no samples.

    A report without histograms adds none, and a sum by name covers the reports that carry it.
    """
    reports = list(reports)
    merged: Evaluation = {
        "samples": sum(report["samples"] for report in reports),
        "loss_sum": math.fsum(report["loss_sum"] for report in reports),
        "correct": sum(report["correct"] for report in reports),
    }
    with_bins = [report for report in reports if "positives" in report and "negatives" in report]
    if with_bins:
        merged["positives"] = [sum(column) for column in zip(*(r["positives"] for r in with_bins), strict=True)]
        merged["negatives"] = [sum(column) for column in zip(*(r["negatives"] for r in with_bins), strict=True)]
    names = sorted({name for report in reports for name in report.get("sums", {})})
    if names:
        merged["sums"] = {name: math.fsum(r.get("sums", {}).get(name, 0.0) for r in reports) for name in names}
    return merged


def ratios(report: Evaluation) -> Ratios:
    """Loss, accuracy and AUC of a (merged) report: loss_sum / samples, correct / samples, and `auc`."""
    samples = report["samples"]
    others = {name: total / samples for name, total in report.get("sums", {}).items()} if samples else {}
    classified = samples and not ("absolute_error" in others and "positives" not in report)
    return {
        "loss": report["loss_sum"] / samples if samples else None,
        "accuracy": report["correct"] / samples if classified else None,
        "auc": auc(report.get("positives", []), report.get("negatives", [])),
        "samples": samples,
        "others": others,
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


def parse(value: Any, *, max_samples: int = 10_000_000) -> Evaluation:
    """The report in `value`, which came from outside; unknown fields are dropped. Raises `metrics_invalid`."""
    if not isinstance(value, Mapping):
        raise _invalid("the evaluation is not an object")
    samples = _count(value, "samples", max_samples)
    report: Evaluation = {
        "samples": samples,
        "loss_sum": _finite("loss_sum", value.get("loss_sum")),
        "correct": _count(value, "correct", samples),
    }
    if "positives" in value or "negatives" in value:
        report["positives"] = _bins(value.get("positives"), "positives", samples)
        report["negatives"] = _bins(value.get("negatives"), "negatives", samples)
        if sum(report["positives"]) + sum(report["negatives"]) != samples:
            raise _invalid("the histograms do not count every sample once")
    if "sums" in value:
        report["sums"] = _sums(value["sums"])
    return report


def _count(value: Mapping[str, Any], field: str, most: int) -> int:
    number = value.get(field)
    if type(number) is not int or not 0 <= number <= most:
        raise _invalid(f"`{field}` must be a whole number from 0 to {most}")
    return number


def _finite(field: str, number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise _invalid(f"`{field}` must be a number")
    try:
        number = float(number)
    except OverflowError:
        raise _invalid(f"`{field}` is too large") from None
    if not math.isfinite(number):
        raise _invalid(f"`{field}` is NaN or infinite")
    return number


def _bins(value: Any, field: str, most: int) -> list[int]:
    if not isinstance(value, list) or len(value) != BINS:
        raise _invalid(f"`{field}` must be a list of {BINS} counts")
    if not all(type(count) is int and 0 <= count <= most for count in value):
        raise _invalid(f"`{field}` must hold whole numbers from 0 to {most}")
    return list(value)


def _sums(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping) or len(value) > MAX_SUMS:
        raise _invalid(f"`sums` must be an object of at most {MAX_SUMS} numbers")
    for name in value:
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not name.isprintable():
            raise _invalid("a name in `sums` is not usable")
    return {name: _finite(name, number) for name, number in value.items()}


def _invalid(reason: str) -> FedportalError:
    return FedportalError("metrics_invalid", reason=reason)
