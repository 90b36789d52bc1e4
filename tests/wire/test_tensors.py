"""A model is a flat vector with a manifest: one spelling, which every safetensors reader understands."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray
from safetensors.numpy import load as library_load
from safetensors.numpy import save as library_save

from fedwire.errors import FedportalError
from fedwire.tensors import (
    ALIGNMENT,
    DTYPES,
    Manifest,
    TensorSpec,
    check_update_header,
    decode_model,
    decode_update,
    digest_of,
    encode_model,
    encode_update,
    flatten,
    parse_header,
    spec_of,
    unflatten,
)

Arrays = dict[str, NDArray[Any]]
TWO: Arrays = {"w": np.float32([[1, 2], [3, 4]]), "b": np.float32([0.5, -0.5]), "steps": np.array(7, np.int64)}


def manifest_of(arrays: Arrays) -> Manifest:
    """Floating tensors as weights, the others as buffers."""
    return Manifest.of(spec_of(n, a, "weight" if a.dtype.kind == "f" else "buffer") for n, a in arrays.items())


names = st.text("abcxyz019._-", min_size=1, max_size=12).filter(lambda name: ".." not in name)
numpy_types = st.sampled_from([dtype for name, dtype in DTYPES.items() if name != "BF16"])
tensors = numpy_types.flatmap(
    lambda dtype: arrays_of.arrays(dtype, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
models = st.dictionaries(names, tensors, min_size=1, max_size=6)


def test_golden_bytes_of_a_model_file() -> None:
    header = (
        b'{"__metadata__":{"fedportal":"model","buffers":"steps"},'
        b'"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"w":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]},'
        b'"steps":{"dtype":"I64","shape":[],"data_offsets":[24,32]}}'
    )
    data = bytes.fromhex("0000003f000000bf0000803f0000004000004040000080400700000000000000")
    content = encode_model(manifest_of(TWO), TWO)
    padded = header + b" " * (-(len(header) + 8) % 64)
    assert content == len(padded).to_bytes(8, "little") + padded + data
    assert digest_of(content) == hashlib.sha256(data).hexdigest()


def test_golden_bytes_of_an_update() -> None:
    header = (
        b'{"__metadata__":{"fedportal":"update"},'
        b'"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"w":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]}}'
    )
    content = encode_update(manifest_of(TWO), TWO)
    padded = header + b" " * (-(len(header) + 8) % 64)
    assert content[:-24] == len(padded).to_bytes(8, "little") + padded
    assert content[-24:].hex() == "0000003f000000bf0000803f000000400000404000008040"


def test_lengths_and_layout_are_known_beforehand() -> None:
    manifest = manifest_of(TWO)
    model, update = encode_model(manifest, TWO), encode_update(manifest, TWO)
    assert (len(model), len(update)) == (manifest.model_bytes, manifest.update_bytes)
    assert len(manifest.model_header()) % ALIGNMENT == len(manifest.update_header()) % ALIGNMENT == 0
    assert manifest.parameters == 6
    assert [spec.name for spec in manifest.weights] == ["b", "w"]
    assert [spec.name for spec in manifest.buffers] == ["steps"]


def test_a_header_is_built_once() -> None:
    manifest = manifest_of(TWO)
    assert manifest.update_header() is manifest.update_header()
    assert manifest.model_header() is manifest.model_header()


def test_the_order_of_the_arrays_does_not_matter() -> None:
    backwards = dict(reversed(TWO.items()))
    assert encode_model(manifest_of(backwards), backwards) == encode_model(manifest_of(TWO), TWO)


@given(models)
def test_model_round_trip(arrays: Arrays) -> None:
    manifest = manifest_of(arrays)
    found, decoded = decode_model(encode_model(manifest, arrays))
    assert found == manifest
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest
    for name, array in arrays.items():
        assert decoded[name].dtype == array.dtype
        assert decoded[name].shape == array.shape
        assert decoded[name].tobytes() == array.tobytes()


@given(models)
def test_the_safetensors_library_reads_what_we_write(arrays: Arrays) -> None:
    loaded = library_load(encode_model(manifest_of(arrays), arrays))
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].tobytes() == array.tobytes()
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)


@given(models)
def test_we_read_what_the_safetensors_library_writes(arrays: Arrays) -> None:
    _, decoded = decode_model(
        library_save({name: np.ascontiguousarray(a).reshape(a.shape) for name, a in arrays.items()})
    )
    assert decoded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert decoded[name].tobytes() == array.tobytes()
        assert decoded[name].shape == array.shape


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(arrays_of.arrays(np.float32, 6, elements=finite))
def test_update_round_trip(flat: NDArray[np.float32]) -> None:
    manifest = manifest_of(TWO)
    content = encode_update(manifest, unflatten(manifest, flat))
    assert decode_update(content, manifest).tobytes() == flat.tobytes()
    assert flatten(manifest, unflatten(manifest, flat)).tobytes() == flat.tobytes()


def test_a_mapped_file_gives_the_same_arrays(tmp_path: Path) -> None:
    file = tmp_path / "model"
    file.write_bytes(encode_model(manifest_of(TWO), TWO))
    manifest, arrays = decode_model(file, manifest_of(TWO))
    assert manifest == manifest_of(TWO)
    assert {name: array.tolist() for name, array in arrays.items()} == {n: a.tolist() for n, a in TWO.items()}
    assert not arrays["w"].flags.writeable
    assert digest_of(file) == digest_of(file.read_bytes())


def test_brain_floats_are_read_as_float32_and_written_back_alike() -> None:
    values = np.float32([1, -2.5, 3.140625, 65280, 0])
    manifest = Manifest.of([TensorSpec("w", "BF16", (5,))])
    content = encode_model(manifest, {"w": values})
    _, arrays = decode_model(content, manifest)
    assert arrays["w"].dtype == np.float32
    assert arrays["w"].tolist() == values.tolist()
    assert encode_model(manifest, arrays) == content
    assert not manifest.trainable


@given(arrays_of.arrays(np.float32, 8))
def test_brain_floats_round_to_the_nearest_as_torch_does(values: NDArray[np.float32]) -> None:
    torch = pytest.importorskip("torch")
    content = encode_model(Manifest.of([TensorSpec("w", "BF16", (8,))]), {"w": values})
    ours = np.frombuffer(content[-16:], "<u2")
    theirs = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view("<u2")
    number = ~np.isnan(values)
    assert ours[number].tolist() == theirs[number].tolist()
    assert ((ours[~number] & 0x7FFF) > 0x7F80).all()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"w": None}, "tensor_names"),
        ({"extra": np.zeros(1, np.float32)}, "tensor_names"),
        ({"w": np.zeros((2, 3), np.float32)}, "tensor_shape"),
        ({"w": np.array([["a", "b"], ["c", "d"]])}, "tensor_dtype"),
        ({"w": np.zeros((2, 2), complex)}, "tensor_dtype"),
        ({"w": np.full((2, 2), None)}, "tensor_dtype"),
        ({"steps": np.array(7.5)}, "tensor_dtype"),
    ],
)
def test_wrong_arrays_are_not_written(change: dict[str, Any], code: str) -> None:
    arrays = {name: array for name, array in {**TWO, **change}.items() if array is not None}
    with pytest.raises(FedportalError) as refused:
        encode_model(manifest_of(TWO), arrays)
    assert refused.value.code == code


def test_an_update_ignores_buffers_and_takes_float64() -> None:
    manifest = manifest_of(TWO)
    double = {"w": TWO["w"].astype(np.float64), "b": TWO["b"].astype(np.float64)}
    assert encode_update(manifest, double) == encode_update(manifest, TWO)


@pytest.mark.parametrize("name", ["", "a" * 201, "..", "a/b", "a\\b", "a\n", "__metadata__", "\ud800", "a\u202eb"])
def test_an_unusable_name_is_no_tensor(name: str) -> None:
    with pytest.raises(FedportalError) as refused:
        Manifest.of([TensorSpec(name, "F32", (1,))])
    assert refused.value.code == "tensor_names"


def test_a_name_stands_once() -> None:
    with pytest.raises(FedportalError, match="twice"):
        Manifest.of([TensorSpec("w", "F32", (1,)), TensorSpec("w", "F32", (2,))])


def test_a_header_of_more_than_a_mebibyte_is_not_written() -> None:
    manifest = Manifest.of(TensorSpec(f"{number:0150}", "F32", (1,)) for number in range(10_000))
    with pytest.raises(FedportalError, match="1 MiB"):
        manifest.model_header()


def test_a_model_of_15_000_tensors_makes_the_round_trip() -> None:
    manifest = Manifest.of(TensorSpec(str(number), "F32", ()) for number in range(15_000))
    arrays = {str(number): np.float32(number) for number in range(15_000)}
    _, decoded = decode_model(encode_model(manifest, arrays))
    assert float(decoded["14999"]) == 14999


def test_the_same_tensors_in_another_spelling_are_no_update() -> None:
    manifest = manifest_of(TWO)
    content = library_save({"b": TWO["b"], "w": TWO["w"]})
    found, _ = parse_header(content, total=len(content))
    assert found.tensors == manifest.weights
    with pytest.raises(FedportalError) as refused:
        check_update_header(content, manifest, total=len(content))
    assert refused.value.code == "not_safetensors"


@pytest.mark.parametrize(
    ("dtypes", "trainable"), [(["F32"], True), (["F32", "F64"], False), (["F16"], False), ([], False)]
)
def test_a_model_is_trainable_when_all_weights_are_float32(dtypes: list[str], trainable: bool) -> None:
    specs = [TensorSpec(f"w{number}", dtype, (2,)) for number, dtype in enumerate(dtypes)]
    assert Manifest.of([*specs, TensorSpec("n", "I64", (), "buffer")]).trainable is trainable
