"""Sixty-four rounds that want the same budgets at the same moment: `python -m tests.bench.openings [RUNS] [LEDGERS]`.

Every one of the runs, each in a thread with a connection of its own, wants a round of each of a thousand organizations,
whose budgets are enough for 0 to 64 of them. `wrong`: how many organizations gave another number of rounds than they
could pay for; `beyond`: how many of them had their cap passed. Both must be 0, or the benchmark fails.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from tests import services

RUNS, LEDGERS = 64, 1000
PATIENCE_SECONDS = 3600.0


def measure(database: str, runs: int, ledgers: int) -> dict[str, object]:
    """One line, of one database."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fedportal-bench-") as folder:
        errors, count, wrong, beyond = services.raced(
            "tests.training.budget_racing", database, Path(folder), runs, ledgers, seconds=PATIENCE_SECONDS
        )
    if errors or wrong or beyond:
        raise AssertionError(f"budgets did not hold: {errors[:3]} {wrong[:3]} {beyond[:3]}")
    return {
        "name": "openings",
        "database": database,
        "openings": runs,
        "ledgers": count,
        "wrong": len(wrong),
        "beyond": len(beyond),
        "seconds": round(time.perf_counter() - began, 1),
    }


def main(arguments: list[str] | None = None) -> None:
    """Print a line for each database."""
    numbers = [int(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    runs, ledgers = [*numbers, *(RUNS, LEDGERS)[len(numbers) :]]
    for database in ("sqlite", "postgresql"):
        print(json.dumps(measure(database, runs, ledgers)), flush=True)


if __name__ == "__main__":
    main()
