"""How fast updates are combined: `python -m tests.bench.aggregate` prints one JSON line per strategy.

The files lie in the page cache, as they do right after they were uploaded. `seconds`: from the updates to the new
model's file, without digests and without waiting for the disk; `cpu_seconds`: what that took of all processors, which
says more on a busy machine. Rules that must see every update by itself are measured with more and shorter ones, and
guard against as many wrong ones as Bulyan can. `read_gb_per_s`: reading the same files the same way and doing nothing
with them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fedwire.tensors import Manifest, TensorSpec
from training.aggregation import assembly, kernels
from training.aggregation.kernels import Vector
from training.aggregation.layout import TILE, Layout, Range, cut
from training.aggregation.memory import StateFiles
from training.aggregation.strategies import STRATEGIES
from training.aggregation.strategy import Strategy
from training.aggregation.transforms import Update
from training.aggregation.variates import Cohort

MANIFEST_PARTS = 10
REPEATS = 5


def written(path: Path, header: bytes, parameters: int, seed: int) -> Path:
    """A file of `parameters` random numbers behind `header`."""
    generator = np.random.default_rng(seed)
    with open(path, "wb") as file:
        file.write(header)
        for part in cut(Range(0, parameters), 16 * TILE):
            file.write(generator.standard_normal(len(part), dtype=np.float32).tobytes())
    return path


def files(folder: Path, manifest: Manifest, updates: int) -> tuple[Path, list[Update]]:
    """A base model and its updates."""
    base = written(folder / "base", manifest.model_header(), manifest.parameters, 0)
    header = manifest.update_header()
    paths = [written(folder / str(n), header, manifest.parameters, n) for n in range(1, updates + 1)]
    reports = {"steps": 40.0, "normaliser": 40.0, "base_loss": 0.5}
    return base, [Update(path, f"{n:064x}", 1000 + n, 1.0, reports, trusted=n == 0) for n, path in enumerate(paths)]


def fastest(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of the fastest of some repetitions; the first warms the caches."""
    seconds = []
    for _ in range(REPEATS):
        start = clock()
        work()
        seconds.append(clock() - start)
    return min(seconds)


def read_all(vectors: Sequence[Vector], parameters: int, threads: int) -> None:
    """Read every number of every vector in the order of the aggregation."""

    def start() -> Callable[[Range], None]:
        tile = np.empty(TILE, np.float32)

        def block(whole: Range) -> None:
            for part in cut(whole, TILE):
                for vector in vectors:
                    vector.read(part, tile)

        return block

    with kernels.opened(vectors):
        kernels.in_blocks(parameters, threads, start)


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(folder: Path, strategy: Strategy, updates: int, parameters: int, cores: int) -> dict[str, object]:
    """One line of the benchmark."""
    part = parameters // MANIFEST_PARTS
    manifest = Manifest.of(TensorSpec(f"layer.{n}", "F32", (part,)) for n in range(MANIFEST_PARTS))
    layout = Layout.of(manifest)
    base, rows = files(folder, manifest, updates)
    out, before = folder / "out", peak_kib()
    # The second round and those after it: the state is read and written.
    state = StateFiles(None, folder / "state", Cohort(0, updates))
    guarded = any(parameter.name == "faulty" for parameter in strategy.parameters)
    values = strategy.checked({"faulty": (updates - 3) // 4} if guarded else {})
    assembly.write_weights(strategy, values, manifest, base, rows, out, cores, state=state)
    later = StateFiles(state.out if state.out.exists() else None, folder / "next", Cohort(updates, updates))

    def combine() -> None:
        for path in (out, later.out):
            path.unlink(missing_ok=True)
        assembly.write_weights(strategy, values, manifest, base, rows, out, cores, state=later)

    seconds, processor = fastest(combine), fastest(combine, time.process_time)
    growth = peak_kib() - before
    vectors = [Vector(row.path, layout.update_start, layout.parameters) for row in rows]
    reading = fastest(lambda: read_all(vectors, layout.parameters, cores))
    total = updates * layout.update_bytes / 1e9
    return {
        "name": "aggregate",
        "rule": strategy.name,
        "updates": updates,
        "params": layout.parameters,
        "cores": cores,
        "seconds": round(seconds, 4),
        "cpu_seconds": round(processor, 4),
        "gb_per_s": round(total / seconds, 2),
        "read_gb_per_s": round(total / reading, 2),
        "rss_growth_mb": round(growth / 1024, 1),
    }


def main(arguments: list[str] | None = None) -> None:
    """Print one line per strategy."""
    parser = argparse.ArgumentParser(prog="aggregate", description=__doc__)
    parser.add_argument("--updates", type=int, help="20, or 50 of rules that must see every update by itself")
    parser.add_argument("--params", type=int, help="25 million, or 1 million of those rules")
    parser.add_argument("--rules", nargs="*", default=list(STRATEGIES), help="names of strategies")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args(arguments)
    for strategy in map(STRATEGIES.__getitem__, options.rules):
        updates, params = (50, 1_000_000) if strategy.needs_individual_updates else (20, 25_000_000)
        with tempfile.TemporaryDirectory(prefix="fedportal-bench-") as folder:
            line = measure(Path(folder), strategy, options.updates or updates, options.params or params, options.cores)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
