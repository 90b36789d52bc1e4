"""Standardisation enters a model as buffers: everything else stays byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedwire.architectures import MEAN, STD, Architecture
from fedwire.tensors import decode_model, digest_of, encode_model
from training.aggregation.assembly import with_buffers

LOGISTIC = Architecture.parse({"kind": "logistic", "inputs": 4, "classes": 2, "standardise": True})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base"
    path.write_bytes(encode_model(LOGISTIC.manifest(), LOGISTIC.initial(3)))
    return path


def test_buffers_are_replaced_and_weights_stay(base: Path, tmp_path: Path) -> None:
    mean, std = np.arange(4, dtype=np.float32), np.full(4, 2, np.float32)
    out = tmp_path / "out"
    digests = with_buffers(base, LOGISTIC.manifest(), {MEAN: mean, STD: std}, out)
    _, arrays = decode_model(out, LOGISTIC.manifest())
    _, before = decode_model(base, LOGISTIC.manifest())
    assert arrays[MEAN].tolist() == [0, 1, 2, 3]
    assert arrays[STD].tolist() == [2, 2, 2, 2]
    assert all((arrays[name] == before[name]).all() for name in before if name not in (MEAN, STD))
    assert digests.digest == digest_of(out)


@pytest.mark.parametrize("name", ["layers.0.weight", MEAN])
def test_a_weight_or_another_length_is_refused(base: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="buffer"):
        with_buffers(base, LOGISTIC.manifest(), {name: np.zeros(5, np.float32)}, tmp_path / "out")
