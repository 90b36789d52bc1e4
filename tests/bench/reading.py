"""How fast a device reads its rows: `python -m tests.bench.reading` prints one JSON line.

`numpy_s`: numpy's own reader on the same columns without the labels, in the same run.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fedportal_sdk import data

ROWS, COLUMNS = 100_000, 30


def seconds(work: Callable[[], object]) -> float:
    """How long it takes, the second time."""
    work()
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 3)


def main() -> None:
    """Write a file of numbers with two classes, and read it."""
    row = ",".join(f"{i}.{i:03d}" for i in range(COLUMNS))
    head = ",".join(f"c{i}" for i in range(COLUMNS)) + ",y\n"
    with tempfile.TemporaryDirectory(prefix="fedportal-bench-") as folder:
        path = Path(folder) / "rows.csv"
        path.write_text(head + f"{row},M\n{row},B\n" * (ROWS // 2), encoding="utf-8")
        ours = seconds(lambda: data.load(path, "y"))
        theirs = seconds(lambda: np.loadtxt(path, np.float32, delimiter=",", skiprows=1, usecols=range(COLUMNS)))
    print(json.dumps({"name": "reading", "rows": ROWS, "columns": COLUMNS, "seconds": ours, "numpy_s": theirs}))


if __name__ == "__main__":
    main()
