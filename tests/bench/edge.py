"""What an edge costs: `python -m tests.bench.edge` prints JSON lines.

`fold`: adding up updates in files; `peak_mb` is the memory it took beside the result. `waiting`: devices that wait
on an edge of this process, the memory of both ends of their connections, and how long until all have a task.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from fedportal_sdk import FederatedClient
from fedportal_sdk._http import Http
from fedportal_sdk.edge import Edge
from fedportal_sdk.edge.combine import Piece, fold, mean_of
from fedwire import routes
from fedwire.tensors import Manifest, TensorSpec, encode_model


def rss_mb() -> float:
    """Resident memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def folding(count: int, parameters: int) -> None:
    """Add up `count` updates of so many parameters, the second time."""
    with tempfile.TemporaryDirectory(prefix="fedportal-bench-") as folder:
        values = np.random.default_rng(0).normal(size=parameters).astype("<f4")
        pieces = []
        for number in range(count):
            path = Path(folder) / f"{number}"
            (values + np.float32(number)).tofile(path)
            pieces.append(Piece(path, f"{number:064x}", 100 + number))
        out = np.zeros(parameters, "<f4")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        fold(mean_of(pieces), 0, out)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before
        started = time.perf_counter()
        fold(mean_of(pieces), 0, out)
        took = time.perf_counter() - started
    said = {"name": "fold", "updates": count, "parameters": parameters, "seconds": round(took, 3)}
    gigabytes = 4e-9 * count * parameters
    print(json.dumps({**said, "gb_per_s": round(gigabytes / took, 2), "peak_mb": round(max(0.0, peak), 1)}))


def waiting(count: int) -> None:
    """Let `count` devices wait, and give them a task."""
    manifest = Manifest.of([TensorSpec("w", "F32", (10,))])
    task = {"id": "tsk_1", "kind": "train", "run": "run_1", "model": "mdl_1", "round": 1, "attempt": 1}
    task |= {"base_digest": "0" * 64, "manifest": manifest.to_json(), "architecture": None, "training": {"seed": 1}}
    task |= {"answer": {"update_bytes": 0, "max_samples": 1000, "metrics": False}}
    with tempfile.TemporaryDirectory(prefix="fedportal-bench-") as folder:
        home = Path(folder)
        edge = Edge(FederatedClient(None, "edge", "http://127.0.0.1:9", home / "edge"), port=0)
        key = edge.enrolment.make_key()
        with edge.serving() as url:
            doors = []
            for number in range(count):
                client = FederatedClient(key, f"d{number}", url, home / "devices")
                doors.append(Http(url, client.register().device_key))
                client.close()
            before, times = rss_mb(), []

            def ask(door: Http) -> None:
                door.json("GET", f"{routes.TASK_NEXT}?wait=25", timeout=60)
                times.append(time.perf_counter())

            threads = [threading.Thread(target=ask, args=(door,)) for door in doors]
            for thread in threads:
                thread.start()
            while edge.rounds.present() < count or len(edge.rounds._waiting) < count:
                time.sleep(0.05)
            held = rss_mb() - before
            model = encode_model(manifest, {"w": np.zeros(10, "<f4")})
            started = time.perf_counter()
            edge.rounds.open(task, model, time.time() + 60)  # type: ignore[arg-type]
            for thread in threads:
                thread.join()
            took = max(times) - started
        edge.close()
    said = {"name": "waiting", "devices": count, "both_ends_kib_each": round(1000 * held / count, 1)}
    print(json.dumps({**said, "all_have_a_task_s": round(took, 3)}))


def main() -> None:
    """Both, for the sizes of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--devices", type=int, default=200)
    chosen = parser.parse_args()
    folding(chosen.updates, chosen.parameters)
    waiting(chosen.devices)


if __name__ == "__main__":
    main()
