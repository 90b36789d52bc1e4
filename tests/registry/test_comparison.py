"""Two versions beside each other: which tensors differ, and how far they are apart."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from registry import comparison
from registry.comparison import compare
from registry.models import ModelVersion
from registry.services import models
from tests.registry.conftest import Arrays, House, pushed


@pytest.fixture
def version(house: House) -> Any:
    """`version(arrays)` is the next version of a model without an architecture."""
    model = models.create(house.olga, name="net")

    def make(arrays: Arrays) -> ModelVersion:
        return pushed(house, model, save(arrays))

    return make


def test_the_distance_is_that_of_the_definition(version: Any, arrays: Arrays) -> None:
    moved = {**arrays, "net.weight": arrays["net.weight"] + np.float32(0.5), "scale": np.array(0.75, np.float32)}
    found = compare(version(arrays), version(moved))
    before, after = (
        np.concatenate([one[name].ravel().astype(np.float64) for name in ("net.bias", "net.weight", "scale")])
        for one in (arrays, moved)
    )
    assert found.distance == pytest.approx(np.linalg.norm(after - before), rel=1e-12)
    assert found.share == pytest.approx(np.linalg.norm(after - before) / np.linalg.norm(before), rel=1e-12)
    assert [(row.name, row.what) for row in found.differences] == [("net.weight", "changed"), ("scale", "changed")]
    assert found.differences[1].distance == pytest.approx(0.25)
    assert found.same == 2


def test_a_version_does_not_differ_from_itself(version: Any, arrays: Arrays) -> None:
    one = version(arrays)
    found = compare(one, one)
    assert (found.differences, found.same, found.distance) == ((), 4, 0.0)


def test_counters_that_moved_are_named_but_not_part_of_the_distance(version: Any, arrays: Arrays) -> None:
    later = {**arrays, "norm.num_batches_tracked": np.array(15, np.int64)}
    found = compare(version(arrays), version(later))
    (row,) = found.differences
    assert (row.role, row.distance) == ("buffer", 3.0)
    assert found.distance == 0.0


def test_other_tensors_are_named_and_no_distance_is_claimed(version: Any, arrays: Arrays) -> None:
    other = {name: array for name, array in arrays.items() if name != "net.bias"}
    other |= {"net.weight": np.zeros((2, 3), np.float32), "head": np.ones(5, np.float16)}
    found = compare(version(arrays), version(other))
    assert {row.name: row.what for row in found.differences} == {
        "net.bias": "gone",
        "net.weight": "reshaped",
        "head": "added",
    }
    assert (found.distance, found.share) == (None, None)
    assert next(row for row in found.differences if row.name == "net.weight").before == "4 × 3, F32"


def test_halves_of_a_float32_are_read_as_the_numbers_they_stand_for(house: House) -> None:
    model = models.create(house.olga, name="halves")
    one, other = (_bf16(words) for words in ([0x3F80, 0x4000], [0x3F80, 0x4040]))  # 1, 2 and 1, 3
    found = compare(pushed(house, model, one), pushed(house, model, other))
    assert found.distance == pytest.approx(1.0)
    assert found.share == pytest.approx(1 / math.sqrt(5))


def test_memory_does_not_grow_with_the_model(version: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "PIECE", 1 << 12)
    large = {"w": np.ones(1 << 20, np.float32)}
    one, other = version(large), version({"w": np.full(1 << 20, 2, np.float32)})
    tracemalloc.start()
    found = compare(one, other)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.distance == pytest.approx(1024.0)
    assert peak < 2 << 20  # of which a header takes one; either file has four


def _bf16(words: list[int]) -> bytes:
    header = b'{"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + np.array(words, "<u2").tobytes()
