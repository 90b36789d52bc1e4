"""How serving goes, in counts: of predictions, of those that failed, and of how long they took by class."""

from __future__ import annotations

import threading
from typing import Any

from fedportal_sdk.installed import HealthCounts
from fedwire.latencies import LATENCIES, latency_class


class Tally:
    """Counts since the last `take`. Nothing of an input or an answer is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latencies: list[int] = []
        self._clear()

    def note(self, count: int, milliseconds: float, *, failed: bool = False) -> None:
        """So many predictions were made, or failed, in this time together; each waited for all of it."""
        with self._lock:
            self._count += count
            self._errors += count if failed else 0
            self._latencies[latency_class(milliseconds)] += count

    def take(self) -> HealthCounts | None:
        """The counts, which begin anew; None where there was nothing."""
        with self._lock:
            if not self._count:
                return None
            found: HealthCounts = {"count": self._count, "errors": self._errors, "latencies": self._latencies}
            self._clear()
            return found

    def facts(self) -> dict[str, Any]:
        """The counts as they stand, for people."""
        with self._lock:
            ends = [f"<= {end} ms" for end in LATENCIES] + [f"> {LATENCIES[-1]} ms"]
            taken = {end: count for end, count in zip(ends, self._latencies, strict=True) if count}
            return {"predictions": self._count, "errors": self._errors, "latencies": taken}

    def _clear(self) -> None:
        self._count = self._errors = 0
        self._latencies = [0] * (len(LATENCIES) + 1)
