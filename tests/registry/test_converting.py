"""ONNX and TorchScript: what they answer is what the model answers, and what they do not, is noticed."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedportal_sdk.trainers.torch import build, state_dict_of
from fedwire.architectures import Architecture
from fedwire.tensors import encode_model
from registry.converting import ConversionFailed, answers, onnx, torchscript
from tests.registry.conftest import Arrays

torch = pytest.importorskip("torch")

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "linear": {"kind": "linear", "inputs": 5, "standardise": True},
    "logistic of two": {"kind": "logistic", "inputs": 30, "classes": 2, "standardise": True},
    "logistic of four": {"kind": "logistic", "inputs": 7, "classes": 4},
    "mlp of two": {"kind": "mlp", "inputs": 30, "hidden": [64, 32], "classes": 2},
    "mlp of five": {"kind": "mlp", "inputs": 6, "hidden": [9], "classes": 5, "batch_norm": True, "standardise": True},
    "cnn": {"kind": "cnn", "inputs": [1, 28, 28], "channels": [8, 16], "hidden": [32], "classes": 10},
    "cnn, odd and normed": {
        "kind": "cnn",
        "inputs": [3, 13, 9],
        "channels": [4, 6],
        "hidden": [],
        "classes": 2,
        "batch_norm": True,
        "standardise": True,
    },
}
ROWS = 1000


def model(name: str, folder: Path) -> tuple[Architecture, Arrays, Path]:
    """A model that has learned something: nothing in it is zero or one any more."""
    architecture, generator = Architecture.parse(ARCHITECTURES[name]), np.random.default_rng(5)
    arrays: Arrays = dict(architecture.initial(3))
    for tensor, array in arrays.items():
        noise = generator.normal(0, 0.05, array.shape)
        spread = tensor.endswith(("std", "running_var"))
        arrays[tensor] = (array + (np.abs(noise) if spread else noise)).astype(np.float32)
    path = folder / "model.safetensors"
    path.write_bytes(encode_model(architecture.manifest(), arrays))
    return architecture, arrays, path


def by_the_trainer(architecture: Architecture, arrays: Arrays, rows: Any) -> list[Any]:
    """What the module answers on which devices train, and its probabilities."""
    module, state = build(architecture).eval(), state_dict_of(arrays)
    with torch.no_grad():
        for name, place in module.state_dict().items():
            place.copy_(state[name])
        outputs = module(torch.from_numpy(rows))
        if architecture.loss == "squared":
            return [outputs.numpy()]
        if architecture.loss == "softmax":
            return [outputs.numpy(), torch.softmax(outputs, 1).numpy()]
        second = torch.sigmoid(outputs)
        return [outputs.numpy(), torch.cat([1 - second, second], 1).numpy()]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_onnx_torchscript_and_trainer_agree_on_a_thousand_rows(name: str, tmp_path: Path) -> None:
    architecture, arrays, source = model(name, tmp_path)
    onnx.write(source, architecture, tmp_path / "onnx")
    torchscript.make(source, architecture, tmp_path / "torchscript")
    shape = (ROWS, *architecture.input_shape)
    rows = np.random.default_rng(8).normal(0.2, 1, shape).astype(np.float32)
    expected = by_the_trainer(architecture, arrays, rows)
    for found in (onnx.answers_of(tmp_path / "onnx", rows), torchscript.answers_of(tmp_path / "torchscript", rows)):
        assert [part.shape for part in found] == [part.shape for part in expected]
        for ours, theirs in zip(expected, found, strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-5)
    if architecture.loss != "squared":
        assert expected[1].shape == (ROWS, architecture.classes)


def test_a_graph_says_what_goes_in_and_comes_out(tmp_path: Path) -> None:
    import onnx as package

    described = {"kind": "logistic", "inputs": 2, "columns": ["age", "size"], "labels": ["benign", "malignant"]}
    architecture = Architecture.parse(described)
    source = tmp_path / "model"
    source.write_bytes(encode_model(architecture.manifest(), architecture.initial()))
    onnx.write(source, architecture, tmp_path / "onnx")
    graph = package.load(tmp_path / "onnx")
    package.checker.check_model(graph, full_check=True)
    assert [one.name for one in graph.graph.input] == ["rows"]
    assert [one.name for one in graph.graph.output] == ["outputs", "probabilities"]
    assert {one.key: json.loads(one.value) for one in graph.metadata_props} == {"architecture": architecture.spec()}


def test_the_same_model_becomes_the_same_bytes_and_tells_no_folder(tmp_path: Path) -> None:
    architecture, _, source = model("mlp of five", tmp_path)
    for form in (onnx, torchscript):
        digests = set()
        for name in ("once", "another"):
            form.write(source, architecture, tmp_path / name)
            digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
        assert len(digests) == 1
    with zipfile.ZipFile(tmp_path / "another") as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert b"registry/converting" not in content
    assert b"site-packages" not in content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "model.safetensors", "once"]


@pytest.mark.filterwarnings("ignore:`torch.jit.load`:DeprecationWarning")
def test_torchscript_has_the_models_tensors_under_their_names(tmp_path: Path) -> None:
    architecture, arrays, source = model("mlp of five", tmp_path)
    torchscript.make(source, architecture, tmp_path / "torchscript")
    state = torch.jit.load(str(tmp_path / "torchscript")).state_dict()
    assert {name: value.numpy().tobytes() for name, value in state.items()} == {
        name: array.tobytes() for name, array in arrays.items()
    }


def test_a_wrong_answer_is_noticed(tmp_path: Path) -> None:
    architecture, arrays, _ = model("mlp of two", tmp_path)
    rows = answers.probe(architecture, arrays)
    right = answers.answer(architecture, arrays, rows)
    assert right.probabilities is not None
    answers.compare(right, [right.outputs + 5e-6, right.probabilities])
    for wrong in (
        [right.outputs + 3e-4, right.probabilities],
        [right.outputs, right.probabilities[:, ::-1]],
        [right.outputs],
        [right.outputs[1:], right.probabilities[1:]],
        [right.outputs * np.nan, right.probabilities],
    ):
        with pytest.raises(ConversionFailed, match="what was written"):
            answers.compare(right, wrong)


def test_a_file_that_is_not_the_architectures_is_refused_in_both_processes(tmp_path: Path) -> None:
    _, _, source = model("mlp of two", tmp_path)
    other = Architecture.parse(ARCHITECTURES["cnn"])
    for form in (onnx, torchscript):
        with pytest.raises(ConversionFailed, match="does not hold the architecture's tensors"):
            form.write(source, other, tmp_path / "target")


def test_a_process_that_dies_or_hangs_is_a_conversion_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    architecture, _, source = model("mlp of two", tmp_path)
    monkeypatch.setattr(torchscript, "SECONDS", 0.01)
    with pytest.raises(ConversionFailed, match="took longer"):
        torchscript.write(source, architecture, tmp_path / "target")
    monkeypatch.setattr(torchscript, "SECONDS", 60)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ConversionFailed, match="torch ended with 1"):
        torchscript.write(source, architecture, tmp_path / "target")


def test_a_negative_variance_is_taken_as_none_as_in_training(tmp_path: Path) -> None:
    architecture, arrays, source = model("mlp of five", tmp_path)
    arrays["layers.1.running_var"][0] = -0.5
    source.write_bytes(encode_model(architecture.manifest(), arrays))
    onnx.write(source, architecture, tmp_path / "onnx")


def test_a_model_whose_rows_are_too_large_to_be_checked_is_not_given_out(tmp_path: Path) -> None:
    wide = Architecture.parse({"kind": "cnn", "inputs": [1, 3000, 3000], "channels": [8], "classes": 2})
    with pytest.raises(ConversionFailed, match="too large to be checked"):
        answers.probe(wide, {})
