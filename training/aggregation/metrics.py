"""What a round's reports say together: over all, per organization and slice, and how far apart those are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from fedwire import metrics, statistics
from fedwire.messages import Evaluation, Statistics
from fedwire.metrics import Ratios
from fedwire.tensors import Float32

# Measure → whether less is better.
JUDGED: Mapping[str, bool] = {"accuracy": False, "auc": False, "loss": True}


class Spread(TypedDict):
    """How a measure differs between the parts of a whole, such as organizations, every part counting once.

    `gap`: by how much the worst part is worse than the whole, never below 0 for accuracy and loss; `worst`: that part;
    `deviation`: the standard deviation over the parts.
    """

    gap: float
    worst: str
    least: float
    most: float
    deviation: float


def merged(reports: Iterable[tuple[str, Evaluation]]) -> dict[str, Any]:
    """{"overall": ratios, "organizations": {key: ratios}} of (organization, report) pairs, in any order.

    With "fairness", the `spreads` over organizations, and "slices", {name: {"parts": {value: ratios}, "fairness":
    spreads}}, where there are any. Empty when no report counts a row.
    """
    by_organization: dict[str, list[Evaluation]] = {}
    for key, report in reports:
        if report["samples"]:
            by_organization.setdefault(key, []).append(report)
    if not by_organization:
        return {}
    together = {key: metrics.merge(by_organization[key]) for key in sorted(by_organization)}
    everything = metrics.merge(together.values())
    overall = metrics.ratios(everything)
    organizations = {key: metrics.ratios(report) for key, report in together.items()}
    found: dict[str, Any] = {"overall": overall, "organizations": organizations}
    if fairness := spreads(overall, organizations):
        found["fairness"] = fairness
    if slices := _sliced(everything):
        found["slices"] = slices
    return found


def spreads(whole: Ratios, parts: Mapping[str, Ratios]) -> dict[str, Spread]:
    """For accuracy, AUC and loss the `Spread` over the parts that have it; without those of which fewer than two do."""
    found: dict[str, Spread] = {}
    for measure, less_is_better in JUDGED.items():
        values = {name: value for name in sorted(parts) if (value := _value(parts[name], measure)) is not None}
        overall = _value(whole, measure)
        if len(values) < 2 or overall is None:
            continue
        worst = (max if less_is_better else min)(values, key=lambda name: values[name])
        found[measure] = {
            "gap": values[worst] - overall if less_is_better else overall - values[worst],
            "worst": worst,
            "least": min(values.values()),
            "most": max(values.values()),
            "deviation": _deviation(list(values.values())),
        }
    return found


def standardisation(reports: Mapping[tuple[str, str], Statistics]) -> tuple[Float32, Float32, int]:
    """Mean, standard deviation and number of rows over all reports, folded in the order of their keys."""
    pooled = statistics.merge(reports[key] for key in sorted(reports))
    mean, deviation = statistics.mean_std(pooled)
    return mean, deviation, pooled["samples"]


def _sliced(everything: Evaluation) -> dict[str, Any]:
    """Each slicing: the ratios of its values, and how far they are from those of all the rows that it divides."""
    found = {}
    for name, reports in everything.get("slices", {}).items():
        parts = {value: metrics.ratios(report) for value, report in reports.items()}
        found[name] = {"parts": parts, "fairness": spreads(metrics.ratios(metrics.merge(reports.values())), parts)}
    return found


def _value(ratios: Ratios, measure: str) -> float | None:
    value = ratios[measure]  # type: ignore[literal-required]
    return None if value is None else float(value)


def _deviation(values: list[float]) -> float:
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
