"""A version as a torch state_dict: written by a worker, checked without the reader that could run code."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal.common import blobs
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest, TensorSpec, encode_model, spec_of
from registry import formats
from tests.registry.conftest import Arrays

torch = pytest.importorskip("torch")


def write(tmp_path: Path, manifest: Manifest, arrays: Arrays) -> Path:
    source, target = tmp_path / "model.safetensors", tmp_path / "model.pt"
    source.write_bytes(encode_model(manifest, arrays))
    formats.write_state_dict(source, target)
    return target


def loaded(path: Path) -> dict[str, Any]:
    """What a person with torch reads."""
    found: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return found


def test_torch_reads_the_same_tensors(tmp_path: Path, arrays: Arrays) -> None:
    manifest = Manifest.of(spec_of(n, a, "weight" if a.dtype.kind == "f" else "buffer") for n, a in arrays.items())
    state = loaded(write(tmp_path, manifest, arrays))
    assert state.keys() == arrays.keys()
    for name, array in arrays.items():
        assert state[name].numpy().tobytes() == array.tobytes()
        assert tuple(state[name].shape) == array.shape


def test_every_type_makes_the_journey(tmp_path: Path) -> None:
    arrays = {
        "F64": np.array([1.5, -2]),
        "F32": np.array([1.5, -2], np.float32),
        "F16": np.array([1.5, -2], np.float16),
        "BF16": np.array([1.5, -2], np.float32),
        "I64": np.array([3, -4]),
        "U8": np.array([5, 250], np.uint8),
        "BOOL": np.array([True, False]),
    }
    manifest = Manifest.of(TensorSpec(name, name, (2,)) for name in arrays)
    state = loaded(write(tmp_path, manifest, arrays))
    assert state["BF16"].dtype == torch.bfloat16
    assert {name: tensor.tolist() for name, tensor in state.items()} == {n: a.tolist() for n, a in arrays.items()}


def test_empty_tensors_make_the_journey(tmp_path: Path) -> None:
    arrays = {"a": np.zeros((0, 3), np.float32), "b": np.ones(2, np.float32), "c": np.zeros(0, np.int64)}
    manifest = Manifest.of(spec_of(name, array) for name, array in arrays.items())
    state = loaded(write(tmp_path, manifest, arrays))
    assert [tuple(state[name].shape) for name in "abc"] == [(0, 3), (2,), (0,)]


def test_what_was_written_wrongly_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"w": np.arange(4, dtype=np.float32), "x": np.arange(3, dtype=np.float32)}
    manifest = Manifest.of(spec_of(name, array) for name, array in arrays.items())
    honest = torch.save

    def one_bit_off(state: dict[str, Any], target: Path) -> None:
        honest({**state, "x": state["x"] + 1e-7}, target)

    def one_name_off(state: dict[str, Any], target: Path) -> None:
        honest({"w": state["w"], "y": state["x"]}, target)

    def one_missing(state: dict[str, Any], target: Path) -> None:
        honest({"w": state["w"]}, target)

    for wrong in (one_bit_off, one_name_off, one_missing):
        monkeypatch.setattr(torch, "save", wrong)
        with pytest.raises(formats.ConversionFailed, match="x"):
            write(tmp_path, manifest, arrays)


def test_the_file_is_a_plain_archive_of_our_bytes(tmp_path: Path) -> None:
    arrays = {"w": np.arange(4, dtype=np.float32)}
    target = write(tmp_path, Manifest.of([spec_of("w", arrays["w"])]), arrays)
    with zipfile.ZipFile(target) as archive:
        record = next(name for name in archive.namelist() if name.endswith("data/0"))
        assert archive.read(record) == arrays["w"].tobytes()


@pytest.mark.parametrize("form", ["tflite", "", "pickle", "../../etc/passwd", "SAFETENSORS"])
def test_forms_that_do_not_exist_are_refused_with_those_that_do(form: str) -> None:
    with pytest.raises(FedportalError) as refused:
        formats.canonical(form)
    assert refused.value.code == "format_unavailable"
    assert "safetensors, state_dict" in refused.value.next_step


def test_pytorch_is_another_word_for_state_dict() -> None:
    assert formats.canonical("pytorch") == formats.canonical("state_dict") == "state_dict"


def test_nothing_of_the_registry_loads_torch_before_a_conversion() -> None:
    code = "import sys, django; django.setup(); import registry.door, registry.api.views; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_a_blob_is_never_named_by_a_person() -> None:
    for name in ("../x", "a" * 63, "A" * 64, "", "0" * 64 + "/.."):
        with pytest.raises(ValueError, match="digest"):
            blobs.path(name)
