"""Models and updates as files, and the plain way of computing what the kernels compute."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from fedwire.tensors import Float32, Manifest, TensorSpec, decode_model, encode_model, encode_update, flatten, unflatten
from training.aggregation.assembly import Digests, write_model
from training.aggregation.memory import StateFiles
from training.aggregation.strategies import FEDAVG
from training.aggregation.strategy import Strategy
from training.aggregation.transforms import Update

Rows = Sequence[tuple[Float32, int]]


def manifest_of(parameters: int, buffers: int = 0) -> Manifest:
    """A model of two weight tensors (one when there is one number) and perhaps some buffers."""
    first = parameters // 2
    specs = [TensorSpec("b", "F32", (parameters - first,))]
    if first:
        specs.append(TensorSpec("a", "F32", (first,)))
    specs += [TensorSpec(f"count.{i}", "I64", (), "buffer") for i in range(buffers)]
    return Manifest.of(specs)


def reference(base: Float32, rows: Rows) -> Float32:
    """base + Σ (nᵢ/N)·Δᵢ on whole vectors, folded by the digest of the update's file."""
    manifest = manifest_of(len(base))
    by_digest = sorted(rows, key=lambda row: (hashlib.sha256(update_file(manifest, row[0])).hexdigest(), row[1]))
    total = float(sum(samples for _, samples in rows))
    step: Float32 | None = None
    for vector, samples in by_digest:
        part = vector * np.float32(samples / total)
        step = part if step is None else step + part
    assert step is not None
    return base + step


def update_file(manifest: Manifest, vector: Float32) -> bytes:
    return encode_update(manifest, unflatten(manifest, vector))


class Folder:
    """Writes files and aggregates them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = 0

    def fresh(self) -> Path:
        self._files += 1
        return self.path / f"{self._files}.safetensors"

    def model(self, manifest: Manifest, vector: Float32, counts: Sequence[int] = ()) -> Path:
        arrays = {**unflatten(manifest, vector), **{f"count.{i}": np.int64(n) for i, n in enumerate(counts)}}
        path = self.fresh()
        path.write_bytes(encode_model(manifest, {name: np.asarray(array) for name, array in arrays.items()}))
        return path

    def update(self, manifest: Manifest, vector: Float32, samples: int) -> Update:
        content = update_file(manifest, vector)
        path = self.fresh()
        path.write_bytes(content)
        return Update(
            path, hashlib.sha256(content).hexdigest(), samples, float(np.linalg.norm(vector.astype(np.float64)))
        )

    def aggregate(
        self,
        base: Float32,
        rows: Rows,
        *,
        threads: int = 1,
        on_block: Callable[[], object] = lambda: None,
        counts: Sequence[int] = (),
        strategy: Strategy = FEDAVG,
        state: StateFiles | None = None,
        **parameters: float,
    ) -> tuple[Float32, Digests, Path]:
        """The new vector, the digests and the file of one aggregation, by FedAvg unless said otherwise."""
        manifest = manifest_of(len(base), len(counts))
        out = self.fresh()
        digests = write_model(
            strategy,
            strategy.checked(parameters),
            manifest=manifest,
            base=self.model(manifest, base, counts),
            updates=[self.update(manifest, vector, samples) for vector, samples in rows],
            out=out,
            state=state,
            threads=threads,
            on_block=on_block,
        )
        return flatten(manifest, decode_model(out, manifest)[1]), digests, out


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """For properties, which run many examples in one test."""
    return Folder(tmp_path_factory.mktemp("aggregation"))
