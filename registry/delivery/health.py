"""Whether a version is well where it is installed, judged by what devices report in batches.

A limit is crossed when chance does not explain it: the lower end of Wilson's interval (J. Am. Stat. Assoc. 1927) for
the rate of errors is above the limit. Three errors in fifty are no proof of more than 5 %; ten are. Judged is a sliding
window, and only with enough in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fedwire.latencies import LATENCIES, latency_class

# One-sided 95 %.
Z = 1.6448536269514722


@dataclass(frozen=True)
class Report:
    """A batch of a device: `count` predictions until `at`, `errors` of them failed, and how long they took by
    the classes of `fedwire.latencies`.

    `right` of `judged` predictions whose outcome is known were right.
    """

    at: datetime
    count: int
    errors: int = 0
    latencies: tuple[int, ...] = ()
    judged: int = 0
    right: int = 0


@dataclass(frozen=True)
class Limits:
    """What is too bad. None: that is not looked at. `least` predictions, or judged ones, are needed to say anything."""

    window: timedelta
    least: int
    error_rate: float | None = None
    latency_ms: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What was seen in the window, and what is wrong: "error_rate", "latency", "accuracy" or "" for nothing.

    `latency_ms` is the upper end of the class in which the 95th of a hundred is; infinite beyond the last.
    """

    count: int
    errors: int
    latency_ms: float | None
    judged: int
    right: int
    problem: str = ""

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.count if self.count else None

    @property
    def accuracy(self) -> float | None:
        return self.right / self.judged if self.judged else None


def judge(reports: Iterable[Report], now: datetime, limits: Limits) -> Verdict:
    """What the reports of the last `limits.window` say of a version. Reports of the future count as of now."""
    recent = [report for report in reports if report.at > now - limits.window]
    count, errors = sum(report.count for report in recent), sum(report.errors for report in recent)
    judged, right = sum(report.judged for report in recent), sum(report.right for report in recent)
    classes = [0] * (len(LATENCIES) + 1)
    for report in recent:
        for place, number in enumerate(report.latencies):
            classes[place] += number
    timed = sum(classes)
    latency = percentile(classes, 0.95) if timed else None
    problem = ""
    if count >= limits.least and limits.error_rate is not None and least_rate(errors, count) > limits.error_rate:
        problem = "error_rate"
    elif timed >= limits.least and limits.latency_ms is not None and _slow(classes, limits.latency_ms):
        problem = "latency"
    elif judged >= limits.least and limits.accuracy is not None:
        wrong = judged - right
        problem = "accuracy" if least_rate(wrong, judged) > 1 - limits.accuracy else ""
    return Verdict(count, errors, latency, judged, right, problem)


def slices(reports: Iterable[Report], most: int) -> list[tuple[datetime, Verdict]]:
    """How the version fared over time: the time of the reports cut into at most `most` equal parts.

    The end of each part in which something was reported, and what was; judged by no limits.
    """
    every = sorted(reports, key=lambda report: report.at)
    if not every:
        return []
    first, last = every[0].at, every[-1].at
    length = (last - first) / most or timedelta(seconds=1)
    parts: dict[int, list[Report]] = {}
    for report in every:
        parts.setdefault(min(int((report.at - first) / length), most - 1), []).append(report)
    unlimited = Limits(last - first + timedelta(seconds=1), 0)
    return [(some[-1].at, judge(some, last, unlimited)) for _, some in sorted(parts.items())]


def least_rate(hits: int, count: int) -> float:
    """The lower end of Wilson's one-sided 95 % interval for a rate; 0 without observations."""
    if not count:
        return 0.0
    rate, square = hits / count, Z * Z / count
    middle = rate + square / 2
    return max((middle - Z * math.sqrt(rate * (1 - rate) / count + square / count / 4)) / (1 + square), 0.0)


def percentile(classes: Iterable[int], part: float) -> float:
    """The upper end of the class that holds this part of all, in milliseconds; infinite beyond the last."""
    counts = list(classes)
    needed, seen = part * sum(counts), 0
    for upper, number in zip((*LATENCIES, math.inf), counts, strict=True):
        seen += number
        if seen >= needed:
            return float(upper)
    return math.inf


def slow(classes: Sequence[int], limit: float) -> int:
    """How many took longer than the limit. A class counts as longer when all of it is."""
    return sum(classes[latency_class(limit) + 1 :])


def _slow(classes: list[int], limit: float) -> bool:
    """Whether more than 5 % took longer than the limit, beyond chance."""
    return least_rate(slow(classes, limit), sum(classes)) > 0.05
