"""Comparing two models that not the same organizations measured: over those that measured both. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Measured = Mapping[str, Mapping[str, Any]]


def over_both(before: Measured, now: Measured, metric: str = "loss") -> tuple[float, float] | None:
    """The metric of two models over the organizations that measured it of both; None when there is none.

    `before`, `now`: organization → its ratios. A value is Σ wₒ·vₒ / Σ wₒ, where wₒ is the smaller of the two numbers of
    rows that the organization measured on, the same for both models; without numbers of rows each counts once. So who
    joins or leaves between the two rounds changes nothing.
    """
    pairs = []
    for key in sorted(set(before) & set(now)):
        one, other = _value(before[key], metric), _value(now[key], metric)
        if one is not None and other is not None:
            pairs.append((min(before[key].get("samples") or 1, now[key].get("samples") or 1), one, other))
    if not pairs:
        return None
    total = sum(weight for weight, _, _ in pairs)
    return (
        math.fsum(weight * one for weight, one, _ in pairs) / total,
        math.fsum(weight * other for weight, _, other in pairs) / total,
    )


def _value(ratios: Mapping[str, Any], metric: str) -> float | None:
    """A ratio of its own or one of the others by name."""
    value = ratios.get(metric) if metric in ratios else ratios.get("others", {}).get(metric)
    return None if value is None else float(value)
