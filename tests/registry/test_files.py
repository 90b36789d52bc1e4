"""Model files on their way in: a valid safetensors file becomes one canonical blob, all else leaves nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from fedportal.common import blobs
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.tensors import decode_model, digest_of, encode_model
from registry import files
from tests.registry.conftest import Arrays, everything_in
from tests.wire.hostile import ARCHITECTURE, Hostile, corpus, file, raw

CORPUS = corpus()


def staged(content: bytes) -> Path:
    path = blobs.staging("upl_test")
    path.write_bytes(content)
    return path


def test_a_foreign_file_is_stored_in_canonical_order(store: Path, arrays: Arrays) -> None:
    path = staged(save(arrays))
    stored = files.store(path, None)
    assert [spec.name for spec in stored.manifest.weights] == ["net.bias", "net.weight", "scale"]
    assert [spec.name for spec in stored.manifest.buffers] == ["norm.num_batches_tracked"]
    content = blobs.path(stored.blob).read_bytes()
    assert content == encode_model(stored.manifest, arrays)
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (stored.blob, stored.size)
    assert stored.digest == digest_of(content) == files.digest_of(stored.blob)
    assert files.manifest_of(stored.blob) == stored.manifest
    loaded = load_file(blobs.path(stored.blob))
    assert {name: loaded[name].tobytes() for name in arrays} == {name: a.tobytes() for name, a in arrays.items()}


def test_the_same_tensors_are_the_same_blob_whatever_their_file(store: Path, arrays: Arrays) -> None:
    one = files.store(staged(save(arrays, {"made": "yesterday"})), None)
    other = files.store(staged(save(dict(reversed(arrays.items())))), None)
    assert one == other


def test_a_canonical_file_is_moved_and_not_copied(store: Path, arrays: Arrays) -> None:
    first = files.store(staged(save(arrays)), None)
    blobs.path(first.blob).unlink()
    path = staged(encode_model(first.manifest, arrays))
    inode = path.stat().st_ino
    assert files.store(path, None) == first
    assert not path.exists()
    assert blobs.path(first.blob).stat().st_ino == inode


def test_arrays_are_stored_like_files(store: Path) -> None:
    architecture = Architecture.parse({"kind": "cnn", "inputs": [1, 8, 8], "classes": 3, "standardise": True})
    arrays = architecture.initial(5)
    stored = files.store_arrays(architecture.manifest(), arrays)
    assert blobs.path(stored.blob).read_bytes() == encode_model(architecture.manifest(), arrays)
    assert blobs.verify(stored.blob)


def test_an_architecture_says_which_tensors_are_buffers(store: Path) -> None:
    architecture = Architecture.parse({"kind": "logistic", "inputs": 3, "standardise": True})
    stored = files.store(staged(save(dict(architecture.initial()))), architecture)
    assert stored.manifest == architecture.manifest()
    assert [spec.name for spec in stored.manifest.buffers] == ["standardise.mean", "standardise.std"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"standardise.mean": None}, "tensor_names"),
        ({"patients": np.zeros(3, np.float32)}, "tensor_names"),
        ({"layers.0.weight": np.zeros((1, 4), np.float32)}, "tensor_shape"),
        ({"layers.0.weight": np.zeros((1, 3), np.float64)}, "tensor_dtype"),
        ({"layers.0.bias": np.full(1, np.nan, np.float32)}, "not_finite"),
        ({"standardise.std": np.full(3, np.inf, np.float32)}, "not_finite"),
    ],
)
def test_a_file_that_is_not_of_the_architecture_is_refused(store: Path, change: dict[str, Any], code: str) -> None:
    architecture = Architecture.parse({"kind": "logistic", "inputs": 3, "standardise": True})
    arrays = {name: array for name, array in {**architecture.initial(), **change}.items() if array is not None}
    path = staged(save(arrays))
    with pytest.raises(FedportalError) as refused:
        files.store(path, architecture)
    assert refused.value.code == code
    assert everything_in(store) == ["uploads/upl_test"]


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floating_types_are_stored_as_they_are(store: Path, dtype: type) -> None:
    stored = files.store(staged(save({"w": np.arange(3).astype(dtype)})), None)
    assert not stored.manifest.trainable
    assert decode_model(blobs.path(stored.blob))[1]["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0x7F81])
def test_a_brain_float_that_is_no_number_is_refused(store: Path, bits: int) -> None:
    row = {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}
    good = file({"w": row}, np.array([0x3F80, 0x7F7F], "<u2").tobytes())
    assert files.store(staged(good), None).manifest.weights[0].dtype == "BF16"
    with pytest.raises(FedportalError) as refused:
        files.store(staged(file({"w": row}, np.array([0x3F80, bits], "<u2").tobytes())), None)
    assert refused.value.code == "not_finite"


def test_a_truth_value_of_two_is_refused(store: Path) -> None:
    rows = {
        "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "mask": {"dtype": "BOOL", "shape": [2], "data_offsets": [4, 6]},
    }
    assert files.store(staged(file(rows, b"\0\0\0\0\x01\x00")), None).manifest.buffers[0].name == "mask"
    with pytest.raises(FedportalError, match="truth"):
        files.store(staged(file(rows, b"\0\0\0\0\x02\x00")), None)


def test_a_file_of_counters_only_is_no_model(store: Path) -> None:
    with pytest.raises(FedportalError) as refused:
        files.store(staged(save({"n": np.array([1], np.int64)})), None)
    assert refused.value.code == "tensor_names"


def test_not_a_number_is_found_beyond_the_first_piece(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIECE", 1 << 12)
    values = np.zeros(10_000, np.float32)
    files.store(staged(save({"w": values})), None)
    values[-1] = np.nan
    with pytest.raises(FedportalError) as refused:
        files.store(staged(save({"w": values})), None)
    assert refused.value.code == "not_finite"


@pytest.mark.parametrize(
    "hostile", [h for h in CORPUS if h.as_model or h.code == "not_finite"], ids=lambda hostile: hostile.name
)
@pytest.mark.parametrize("architecture", [None, ARCHITECTURE], ids=["undescribed", "described"])
def test_a_hostile_file_is_refused_and_leaves_nothing(
    store: Path, hostile: Hostile, architecture: Architecture | None
) -> None:
    path = staged(hostile.content)
    with pytest.raises(FedportalError) as refused:
        files.store(path, architecture)
    assert refused.value.code == hostile.code
    path.unlink()
    assert everything_in(store) == []


@pytest.mark.parametrize(
    "hostile", [h for h in CORPUS if not h.as_model and h.code.startswith("tensor_")], ids=lambda hostile: hostile.name
)
def test_another_model_is_refused_by_the_architecture(store: Path, hostile: Hostile) -> None:
    path = staged(hostile.content)
    if hostile.code == "tensor_order":  # the order of the file that comes does not matter; it is put into ours
        assert files.store(path, ARCHITECTURE).manifest == ARCHITECTURE.manifest()
        return
    with pytest.raises(FedportalError) as refused:
        files.store(path, ARCHITECTURE)
    assert refused.value.code == hostile.code


def test_storing_fails_whole_when_the_disk_is_short(
    store: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = staged(save(arrays))
    monkeypatch.setattr(blobs, "RESERVE_SHARE", 1)
    monkeypatch.setattr(blobs, "RESERVE_BYTES", 1 << 62)
    with pytest.raises(FedportalError) as refused:
        files.store(path, None)
    assert refused.value.code == "storage_full"
    assert everything_in(store) == ["uploads/upl_test"]


def test_empty_tensors_and_odd_places_survive(store: Path) -> None:
    content = raw(
        b'{"z":{"dtype":"F32","shape":[0,3],"data_offsets":[4,4]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}',
        np.float32(2).tobytes(),
    )
    stored = files.store(staged(content), None)
    _, arrays = decode_model(blobs.path(stored.blob))
    assert arrays["a"].tolist() == 2.0
    assert arrays["z"].shape == (0, 3)
