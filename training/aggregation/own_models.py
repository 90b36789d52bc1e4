"""What devices say of their own models beside the common one: over all, per organization, and device by device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fedwire import metrics
from fedwire.messages import Evaluation
from fedwire.slices import floor_of
from training.aggregation.metrics import JUDGED, merged

# A device with fewer held-out rows is not told of by itself.
LEAST_ROWS = floor_of(0)


class Reported(NamedTuple):
    """One device's reports, on the same held-out rows."""

    organization: str
    device: str
    common: Evaluation
    own: Evaluation


def compared(reports: Iterable[Reported]) -> dict[str, Any]:
    """{"personal": as `merged` gives it of the devices' own models, "devices": {"common": …, "personal": …}}.

    `devices` holds for accuracy, AUC and loss {"count", "mean", "least", "most", "worst", "organization"} over the
    devices with at least LEAST_ROWS rows, every device counting once; `common` is over those devices too. Empty when no
    report counts a row.
    """
    there = [report for report in reports if report.own["samples"] and report.common["samples"]]
    if not there:
        return {}
    large = [report for report in there if report.own["samples"] >= LEAST_ROWS]
    devices = {
        "common": _apart([(report, report.common) for report in large]),
        "personal": _apart([(report, report.own) for report in large]),
    }
    found: dict[str, Any] = {"personal": merged((report.organization, report.own) for report in there)}
    return {**found, "devices": devices} if any(devices.values()) else found


def _apart(reports: Sequence[tuple[Reported, Evaluation]]) -> dict[str, dict[str, Any]]:
    """How a measure differs between devices."""
    rows = [(report, metrics.ratios(evaluation)) for report, evaluation in reports]
    found: dict[str, dict[str, Any]] = {}
    for measure, less_is_better in JUDGED.items():
        named = [
            (float(value), report.device, report.organization)
            for report, ratios in rows
            if (value := _of(ratios, measure)) is not None
        ]
        if not named:
            continue
        values = [value for value, _, _ in named]
        _, device, organization = min(named, key=lambda row: (-row[0] if less_is_better else row[0], *row[1:]))
        found[measure] = {
            "count": len(values),
            "mean": math.fsum(values) / len(values),
            "least": min(values),
            "most": max(values),
            "worst": device,
            "organization": organization,
        }
    return found


def _of(ratios: metrics.Ratios, measure: str) -> float | None:
    return ratios[measure]  # type: ignore[literal-required]
