"""Whether a version may go to devices: its figures held against the limits of its model.

Each limit that is set is one check. A check is passed, failed, or unknown where its figure is not there, and then it
says why. A version passes when every check does: what nobody could find out is not taken for well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["passed", "failed", "unknown"]
# A metric → whether less of it is better.
METRICS: Mapping[str, bool] = {"accuracy": False, "auc": False, "loss": True}
# Which checks look at the version that is rolled out now.
COMPARING = ("drift", "cosine")


@dataclass(frozen=True)
class Limits:
    """What a version has to keep to. None: that is not looked at.

    `quality`: the least `metric`, or the most where less is better. `gap`: how far the worst organization may be
    behind all rows together, in the same metric. `drift`: the L2 distance of the weights from those that are rolled out
    now, in parts of the length of these; `cosine`: one less the cosine between the two. `size` in bytes,
    `latency` in milliseconds.
    """

    metric: str = "accuracy"
    quality: float | None = None
    gap: float | None = None
    drift: float | None = None
    cosine: float | None = None
    size: float | None = None
    latency: float | None = None

    def checks(self) -> dict[str, float]:
        """The checks there are, by name, each with its limit."""
        names = ("quality", "gap", "drift", "cosine", "size", "latency")
        return {name: limit for name in names if (limit := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Figure:
    """What was found out for a check; None with the reason why not. `void`: there is nothing that could be wrong."""

    value: float | None
    reason: str = ""
    void: bool = False


@dataclass(frozen=True)
class Check:
    """A limit, what was found out, and what came of it."""

    name: str
    figure: float | None
    limit: float
    outcome: Outcome
    reason: str = ""


def judge(limits: Limits, figures: Mapping[str, Figure]) -> list[Check]:
    """Each check there is, in the order of `Limits`. A figure that is exactly the limit keeps to it."""
    return [
        _check(name, limit, figures.get(name, Figure(None, "nobody looked")), limits.metric)
        for name, limit in limits.checks().items()
    ]


def outcome(checks: Sequence[Check]) -> Outcome:
    """What came of all together: failed if any did, else unknown if any is."""
    found = {check.outcome for check in checks}
    return "failed" if "failed" in found else "unknown" if "unknown" in found else "passed"


def _check(name: str, limit: float, figure: Figure, metric: str) -> Check:
    if figure.void:
        return Check(name, None, limit, "passed", figure.reason)
    if figure.value is None or not math.isfinite(figure.value):
        return Check(name, None, limit, "unknown", figure.reason or "the figure is not a number")
    at_least = name == "quality" and not METRICS[metric]
    kept = figure.value >= limit if at_least else figure.value <= limit
    return Check(name, figure.value, limit, "passed" if kept else "failed", figure.reason)


def title(name: str, metric: str) -> str:
    """What a check is called."""
    titles = {
        "quality": f"{_word(metric)} on held-out rows",
        "gap": f"gap of the worst organization in {_word(metric)}",
        "drift": "distance of the weights (L2)",
        "cosine": "turn of the weights (cosine)",
        "size": "bytes of the file",
        "latency": "time for 32 rows on the portal's machine (ms)",
    }
    return titles[name]


def bound(name: str, metric: str) -> str:
    """Which way a limit limits."""
    return "at least" if name == "quality" and not METRICS[metric] else "at most"


def _word(metric: str) -> str:
    return "AUC" if metric == "auc" else metric
