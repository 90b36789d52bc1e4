"""How fast a served model answers over HTTP: `python -m tests.bench.serve` prints a JSON line for each size of a batch.

The server is a process of its own, as `fedportal serve` is; one client asks over one connection that stays open.
`predictions_per_s` over all requests of the fastest of five parts, `p99_ms` of a whole request over all parts.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fedwire.architectures import Architecture
from fedwire.tensors import encode_model

MODELS = {
    "serve_mlp": {"kind": "mlp", "inputs": 30, "hidden": [64, 32], "classes": 2, "standardise": True},
    "serve_cnn": {"kind": "cnn", "inputs": [1, 28, 28], "channels": [8, 16], "hidden": [32], "classes": 10},
}
BATCHES = {"serve_mlp": (1, 256), "serve_cnn": (1, 32)}
PARTS, SECONDS, WARM = 5, 1.0, 20


def measured(name: str, port: int, batch: int) -> dict[str, object]:
    """The figures of batches of this size."""
    architecture = Architecture.parse(MODELS[name])
    rows = np.random.default_rng(0).normal(size=(batch, architecture.inputs)).round(4)
    body = json.dumps({"rows": rows.tolist()})
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask() -> float:
        began = time.perf_counter()
        connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        whole = answer.read()
        taken = time.perf_counter() - began
        assert answer.status == 200, whole
        return taken

    for _ in range(WARM):
        ask()
    times: list[float] = []
    best = 0.0
    for _ in range(PARTS):
        part: list[float] = []
        while sum(part) < SECONDS:
            part.append(ask())
        best = max(best, batch * len(part) / sum(part))
        times += part
    connection.close()
    p99 = float(np.quantile(times, 0.99)) * 1000
    return {"name": name, "batch": batch, "predictions_per_s": round(best), "p99_ms": round(p99, 2)}


def port_of(server: subprocess.Popen[str]) -> int:
    """Where it says that it serves."""
    assert server.stdout is not None
    said = ""
    while not said.endswith("}\n"):
        said += server.stdout.readline()
    return int(json.loads(said)["url"].rpartition(":")[2])


def main() -> None:
    """Print a JSON line for each model and batch."""
    for name, spec in MODELS.items():
        architecture = Architecture.parse(spec)
        with tempfile.TemporaryDirectory(prefix="fedportal-bench-") as folder:
            file = Path(folder) / f"{name}.safetensors"
            file.write_bytes(encode_model(architecture.manifest(), architecture.initial(1)))
            words = ["serve", str(file), "--architecture", json.dumps(spec), "--port", "0", "--json"]
            program = "from fedportal_sdk.cli import main; main()"
            with subprocess.Popen([sys.executable, "-c", program, *words], stdout=subprocess.PIPE, text=True) as server:
                try:
                    port = port_of(server)
                    for batch in BATCHES[name]:
                        print(json.dumps(measured(name, port, batch)), flush=True)
                finally:
                    server.terminate()


if __name__ == "__main__":
    main()
