"""How devices count the time that predictions take: by class, so that counts of many devices can be added up."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

# Upper ends of the classes, in milliseconds; what is longer is in one more.
LATENCIES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000)


def latency_class(milliseconds: float) -> int:
    """In which class a latency is counted."""
    return bisect_left(LATENCIES, milliseconds)


def counted(milliseconds: Iterable[float]) -> list[int]:
    """How many of these latencies are in each class."""
    classes = [0] * (len(LATENCIES) + 1)
    for value in milliseconds:
        classes[latency_class(value)] += 1
    return classes
