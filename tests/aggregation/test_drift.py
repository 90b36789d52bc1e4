"""How far a model moved from one round to the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from fedwire.architectures import MEAN, STD, Architecture
from fedwire.tensors import Manifest, encode_model, unflatten
from training.aggregation import drift
from training.aggregation.layout import BLOCK

SMALL = Architecture.parse({"kind": "logistic", "inputs": 3, "standardise": True}).manifest()


def model(folder: Path, name: str, manifest: Manifest, weights: np.ndarray, buffer: float = 1.0) -> Path:
    arrays = dict(unflatten(manifest, weights.astype(np.float32)))
    for spec in manifest.tensors:
        if spec.role == "buffer":
            arrays[spec.name] = np.full(spec.shape, buffer, np.float32)
    path = folder / name
    path.write_bytes(encode_model(manifest, arrays))
    return path


def test_by_hand(tmp_path: Path) -> None:
    before = model(tmp_path, "before", SMALL, np.array([0.0, 3, 4, 0]))  # length 5
    after = model(tmp_path, "after", SMALL, np.array([0.0, 3, 4, 1]), buffer=7.0)  # moved by 1; buffers do not count
    assert drift.relative_change(SMALL, before, after) == pytest.approx(0.2)
    assert drift.relative_change(SMALL, before, before) == 0.0
    assert {MEAN, STD} == {spec.name for spec in SMALL.tensors if spec.role == "buffer"}


def test_from_nothing_there_is_no_relative_change(tmp_path: Path) -> None:
    before, after = (model(tmp_path, name, SMALL, np.full(4, value)) for name, value in (("a", 0.0), ("b", 1.0)))
    assert drift.relative_change(SMALL, before, after) is None


def test_number_of_threads_leaves_no_trace(tmp_path: Path) -> None:
    wide = Architecture.parse({"kind": "logistic", "inputs": BLOCK + 1000}).manifest()
    random = np.random.default_rng(3)
    before, after = (model(tmp_path, name, wide, random.normal(size=wide.parameters)) for name in ("a", "b"))
    alone = drift.relative_change(wide, before, after)
    assert alone == drift.relative_change(wide, before, after, threads=3)
    assert alone == pytest.approx(np.sqrt(2), rel=1e-2)


@given(some.lists(some.floats(-100, 100, width=32), min_size=8, max_size=8), some.floats(0.125, 8, width=32))
def test_scaling_both_models_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float], scale: float
) -> None:
    folder = tmp_path_factory.mktemp("models")
    old, new = np.array(numbers[:4]), np.array(numbers[4:])
    if np.linalg.norm(old) < 1e-3:
        return
    found = drift.relative_change(SMALL, model(folder, "a", SMALL, old), model(folder, "b", SMALL, new))
    assert found == pytest.approx(np.linalg.norm(new - old) / np.linalg.norm(old), rel=1e-5)
    other = drift.relative_change(SMALL, model(folder, "c", SMALL, old * scale), model(folder, "d", SMALL, new * scale))
    assert other == pytest.approx(found, rel=1e-5)
