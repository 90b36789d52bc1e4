"""What a round's reports say together: per organization and over all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedwire import metrics, statistics
from fedwire.messages import Evaluation, Statistics
from fedwire.tensors import Float32


def merged(reports: Iterable[tuple[str, Evaluation]]) -> dict[str, Any]:
    """{"overall": ratios, "organizations": {key: ratios}} of (organization, report) pairs, in any order.

    Empty when no report counts a row.
    """
    by_organization: dict[str, list[Evaluation]] = {}
    for key, report in reports:
        if report["samples"]:
            by_organization.setdefault(key, []).append(report)
    if not by_organization:
        return {}
    everything = [report for key in sorted(by_organization) for report in by_organization[key]]
    return {
        "overall": dict(metrics.ratios(metrics.merge(everything))),
        "organizations": {
            key: dict(metrics.ratios(metrics.merge(by_organization[key]))) for key in sorted(by_organization)
        },
    }


def standardisation(reports: Mapping[tuple[str, str], Statistics]) -> tuple[Float32, Float32, int]:
    """Mean, standard deviation and number of rows over all reports, folded in the order of their keys."""
    pooled = statistics.merge(reports[key] for key in sorted(reports))
    mean, deviation = statistics.mean_std(pooled)
    return mean, deviation, pooled["samples"]
