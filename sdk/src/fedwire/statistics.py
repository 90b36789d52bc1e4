"""Pooled mean and spread of input columns, without the rows.

A device reports per column its mean and M2 = Σ (x - mean)²; two reports merge exactly (Chan, Golub and LeVeque 1979),
and the merged standard deviation is that of all rows together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fedwire.errors import FedportalError
from fedwire.messages import Statistics
from fedwire.tensors import Float32


def of(matrix: ArrayLike) -> Statistics:
    """The statistics of the columns of `matrix` [n, d], in float64. Raises `metrics_invalid` on NaN and infinity."""
    rows = np.asarray(matrix, np.float64)
    if rows.ndim != 2 or not len(rows):
        raise _invalid("statistics need a matrix with at least one row")
    if not np.isfinite(rows).all():
        raise _invalid("the data hold NaN or infinity")
    mean = rows.mean(axis=0)
    m2 = np.square(rows - mean).sum(axis=0)
    return {"samples": len(rows), "mean": mean.tolist(), "m2": m2.tolist()}


def merge(reports: Iterable[Statistics]) -> Statistics:
    """The statistics of all rows of `reports` together, folded in the given order (sort it for a repeatable last bit).

    n = nₐ + n_b,  δ = mean_b - meanₐ,  mean = meanₐ + δ·n_b/n,  M2 = M2ₐ + M2_b + δ²·nₐ·n_b/n.
    Raises `metrics_invalid` when there are none or their columns differ in number.
    """
    reports = [report for report in reports if report["samples"] > 0]
    if not reports:
        raise _invalid("there are no statistics to merge")
    samples = reports[0]["samples"]
    mean, m2 = np.asarray(reports[0]["mean"], np.float64), np.asarray(reports[0]["m2"], np.float64)
    for report in reports[1:]:
        if len(report["mean"]) != len(mean):
            raise _invalid("the statistics have different numbers of columns")
        added, total = report["samples"], samples + report["samples"]
        delta = np.asarray(report["mean"], np.float64) - mean
        mean = mean + delta * (added / total)
        m2 = m2 + np.asarray(report["m2"], np.float64) + delta * delta * (samples * added / total)
        samples = total
    return {"samples": samples, "mean": mean.tolist(), "m2": m2.tolist()}


def mean_std(report: Statistics) -> tuple[Float32, Float32]:
    """Mean and standard deviation √(M2/n) per column, for the buffers `standardise.mean` and `standardise.std`.

    A column that does not vary gets the deviation 1, so that dividing by it is harmless.
    """
    mean = np.asarray(report["mean"], np.float64)
    deviation = np.sqrt(np.asarray(report["m2"], np.float64) / report["samples"])
    smallest = np.maximum(1e-12, np.abs(mean) * 1e-7)  # below this, float32 input cannot tell the rows apart
    deviation = np.where(deviation > smallest, deviation, 1.0)
    return mean.astype(np.float32), deviation.astype(np.float32)


def parse(value: Any, *, columns: int, max_samples: int = 10_000_000) -> Statistics:
    """The statistics in `value`, which came from outside. Raises `metrics_invalid`."""
    if not isinstance(value, Mapping):
        raise _invalid("the statistics are not an object")
    samples = value.get("samples")
    if type(samples) is not int or not 1 <= samples <= max_samples:
        raise _invalid(f"`samples` must be a whole number from 1 to {max_samples}")
    mean, m2 = _column_numbers(value, "mean", columns), _column_numbers(value, "m2", columns)
    if any(number < 0 for number in m2):
        raise _invalid("`m2` must not be negative")
    return {"samples": samples, "mean": mean, "m2": m2}


def _column_numbers(value: Mapping[str, Any], field: str, columns: int) -> list[float]:
    numbers = value.get(field)
    if not isinstance(numbers, list) or len(numbers) != columns:
        raise _invalid(f"`{field}` must be a list of {columns} numbers")
    # The bound keeps every later square, sum and float32 finite.
    if not all(type(n) in (int, float) and abs(n) <= 1e38 and math.isfinite(n) for n in numbers):
        raise _invalid(f"`{field}` must hold finite numbers up to 1e38")
    return [float(number) for number in numbers]


def _invalid(reason: str) -> FedportalError:
    return FedportalError("metrics_invalid", reason=reason)
