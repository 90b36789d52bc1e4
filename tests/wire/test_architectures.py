"""Described architectures: portal and device build the same tensors, and torch can load them."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedwire.architectures import NORM_PARTS, Architecture, Conv, Dense, Flatten, MaxPool, Norm, Relu
from fedwire.errors import FedportalError
from fedwire.tensors import encode_model

LOGISTIC = {"kind": "logistic", "inputs": 30, "classes": 2, "standardise": True}
MLP = {"kind": "mlp", "inputs": 30, "hidden": [64, 32], "classes": 2}
CNN = {"kind": "cnn", "inputs": [1, 28, 28], "channels": [8, 16], "hidden": [32], "classes": 10}
LINEAR = {"kind": "linear", "inputs": 5}

widths = st.lists(st.integers(1, 8), max_size=3)
descriptions = st.one_of(
    st.fixed_dictionaries({"kind": st.just("linear"), "inputs": st.integers(1, 9), "standardise": st.booleans()}),
    st.fixed_dictionaries({"kind": st.just("logistic"), "inputs": st.integers(1, 9), "classes": st.integers(2, 5)}),
    st.fixed_dictionaries(
        {"kind": st.just("mlp"), "inputs": st.integers(1, 9), "hidden": widths},
        optional={"batch_norm": st.just(True)},
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("cnn"),
            "inputs": st.tuples(st.integers(1, 3), st.integers(8, 12), st.integers(8, 12)).map(list),
            "channels": widths,
            "hidden": widths,
            "classes": st.integers(2, 4),
            "standardise": st.booleans(),
        },
        optional={"batch_norm": st.just(True)},
    ),
)


def shapes(spec: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {tensor.name: tensor.shape for tensor in Architecture.parse(spec).manifest().tensors}


def test_logistic_on_30_columns_has_31_parameters_and_two_buffers() -> None:
    architecture = Architecture.parse(LOGISTIC)
    manifest = architecture.manifest()
    assert (architecture.inputs, architecture.classes, architecture.outputs, architecture.loss) == (30, 2, 1, "binary")
    assert architecture.parameters == manifest.parameters == 31
    assert [(spec.name, spec.shape) for spec in manifest.weights] == [
        ("layers.0.bias", (1,)),
        ("layers.0.weight", (1, 30)),
    ]
    assert [(s.name, s.shape) for s in manifest.buffers] == [("standardise.mean", (30,)), ("standardise.std", (30,))]
    assert manifest.trainable


def test_linear_predicts_one_number() -> None:
    architecture = Architecture.parse(LINEAR)
    assert (architecture.classes, architecture.outputs, architecture.loss, architecture.parameters) == (
        0,
        1,
        "squared",
        6,
    )


def test_more_than_two_classes_have_an_output_each() -> None:
    assert shapes({"kind": "logistic", "inputs": 4, "classes": 3}) == {
        "layers.0.weight": (3, 4),
        "layers.0.bias": (3,),
    }
    assert Architecture.parse({"kind": "logistic", "inputs": 4, "classes": 3}).loss == "softmax"


def test_mlp_is_dense_layers_with_relu_between() -> None:
    assert Architecture.parse(MLP).steps == (
        Dense("layers.0", 30, 64),
        Relu(),
        Dense("layers.2", 64, 32),
        Relu(),
        Dense("layers.4", 32, 1),
    )


def test_cnn_halves_the_image_per_convolution() -> None:
    assert Architecture.parse(CNN).steps == (
        Conv("layers.0", 1, 8),
        Relu(),
        MaxPool(),
        Conv("layers.3", 8, 16),
        Relu(),
        MaxPool(),
        Flatten(),
        Dense("layers.7", 16 * 7 * 7, 32),
        Relu(),
        Dense("layers.9", 32, 10),
    )
    assert shapes(CNN)["layers.3.weight"] == (16, 8, 3, 3)


def test_odd_images_lose_their_last_row() -> None:
    odd = Architecture.parse({"kind": "cnn", "inputs": [3, 9, 7], "channels": [2, 4], "classes": 2})
    assert odd.steps[-1] == Dense("layers.7", 4 * 2 * 1, 1)


@given(descriptions)
def test_the_description_in_full_describes_the_same(spec: dict[str, Any]) -> None:
    architecture = Architecture.parse(spec)
    full = json.loads(json.dumps(architecture.spec()))
    assert Architecture.parse(full) == architecture
    assert spec.items() <= full.items()


NAMED = {
    "kind": "logistic",
    "inputs": 3,
    "classes": 2,
    "standardise": False,
    "columns": ["age", "Größe, mm", "mean texture"],
    "labels": ["benign", "malignant"],
}


def test_a_description_may_name_its_columns_and_classes() -> None:
    architecture = Architecture.parse(NAMED)
    assert architecture.columns == ("age", "Größe, mm", "mean texture")
    assert architecture.labels == ("benign", "malignant")
    assert architecture.spec() == NAMED
    unnamed = Architecture.parse({name: NAMED[name] for name in ("kind", "inputs", "classes")})
    assert architecture.manifest() == unnamed.manifest()


def test_a_pixel_may_have_a_name_too() -> None:
    named = {"kind": "cnn", "inputs": [1, 2, 2], "channels": [1], "columns": ["a", "b", "c", "d"]}
    assert Architecture.parse(named).columns == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (LOGISTIC, '{"kind": "logistic", "inputs": 30, "classes": 2, "standardise": true}'),
        (LINEAR, '{"kind": "linear", "inputs": 5, "standardise": false}'),
        (MLP, '{"kind": "mlp", "inputs": 30, "classes": 2, "hidden": [64, 32], "standardise": false}'),
        (
            CNN,
            '{"kind": "cnn", "inputs": [1, 28, 28], "classes": 10, "hidden": [32], "channels": [8, 16], '
            '"standardise": false}',
        ),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_descriptions_without_names_are_written_as_ever(spec: dict[str, Any], text: str) -> None:
    assert json.dumps(Architecture.parse(spec).spec()) == text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"columns": "age, texture, area"}, "`columns` must be a list"),
        ({"columns": None}, "`columns` must be a list"),
        ({"columns": ["age", "area"]}, "`columns` has 2 names; the model has 3 input columns"),
        ({"columns": []}, "`columns` has 0 names"),
        ({"columns": ["age", "", "area"]}, "name 2 of `columns`"),
        ({"columns": ["age", "area", 7]}, "name 3 of `columns` must be text, not 7"),
        ({"columns": ["age", "area", "age"]}, "`columns` has the name 'age' twice"),
        ({"columns": ["age", "area ", "texture"]}, "'area ', has blanks"),
        ({"columns": ["age", "ar\nea", "texture"]}, "cannot be printed"),
        ({"columns": ["age", "area", "x" * 101]}, "name 3 of `columns` is longer than 100"),
        ({"inputs": 2000, "columns": [f"{n:060}" for n in range(2000)]}, "100,000 characters"),
        ({"labels": ["benign"]}, "`labels` has 1 names; the model has 2 classes"),
        ({"labels": ["benign", "benign"]}, "`labels` has the name 'benign' twice"),
        ({"labels": [0, 1]}, "name 1 of `labels` must be text"),
    ],
)
def test_names_that_cannot_be_are_refused_by_place(change: dict[str, Any], words: str) -> None:
    with pytest.raises(FedportalError) as refused:
        Architecture.parse({**NAMED, **change})
    assert refused.value.code == "architecture_invalid"
    assert words in refused.value.message


def test_a_number_has_no_classes_to_name() -> None:
    with pytest.raises(FedportalError, match="linear has no field 'labels'"):
        Architecture.parse({**LINEAR, "labels": []})


names = st.text(min_size=1, max_size=100).filter(lambda name: name == name.strip() and name.isprintable())


@given(st.lists(names, min_size=2, max_size=9, unique=True))
def test_whatever_names_travel_as_they_are(given_names: list[str]) -> None:
    spec = {"kind": "logistic", "inputs": len(given_names), "classes": len(given_names)}
    sent = json.dumps(Architecture.parse({**spec, "columns": given_names, "labels": given_names}).spec())
    received = Architecture.parse(json.loads(sent))
    assert list(received.columns) == list(received.labels) == given_names


@given(descriptions)
def test_initial_weights_are_the_manifests_tensors(spec: dict[str, Any]) -> None:
    architecture = Architecture.parse(spec)
    arrays = architecture.initial(7)
    content = encode_model(architecture.manifest(), arrays)
    assert len(content) == architecture.manifest().model_bytes
    assert sum(a.size for n, a in arrays.items() if n.startswith("layers.")) == architecture.parameters
    assert all(array.dtype == np.float32 for array in arrays.values())


@pytest.mark.parametrize("spec", [LOGISTIC, LINEAR])
def test_linear_models_begin_with_zeros(spec: dict[str, Any]) -> None:
    arrays = Architecture.parse(spec).initial(3)
    assert all(not array.any() for name, array in arrays.items() if name.startswith("layers."))


def test_standardisation_begins_as_the_identity() -> None:
    arrays = Architecture.parse(LOGISTIC).initial()
    assert not arrays["standardise.mean"].any()
    assert (arrays["standardise.std"] == 1).all()


def test_the_same_seed_gives_the_same_bytes_on_every_machine() -> None:
    architecture = Architecture.parse(CNN)
    content = encode_model(architecture.manifest(), architecture.initial(42))
    assert hashlib.sha256(content).hexdigest() == "f77768274e46503ddaed376e2a1228e8b460efd64c16d3a340266bc95ecfca0c"
    assert encode_model(architecture.manifest(), architecture.initial(43)) != content


def test_initial_weights_keep_the_size_of_the_signal() -> None:
    arrays = Architecture.parse({"kind": "mlp", "inputs": 300, "hidden": [500], "classes": 4}).initial(1)
    assert np.abs(arrays["layers.0.weight"]).max() <= math.sqrt(6 / 300)
    assert arrays["layers.0.weight"].std() == pytest.approx(math.sqrt(2 / 300), rel=0.02)  # He
    assert arrays["layers.2.weight"].std() == pytest.approx(math.sqrt(2 / 504), rel=0.05)  # Glorot
    assert abs(arrays["layers.0.weight"].mean()) < 1e-3
    assert not arrays["layers.0.bias"].any()


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (None, "object"),
        ("logistic", "object"),
        ([], "object"),
        ({}, "kind"),
        ({"kind": "transformer"}, "kind"),
        ({"kind": ["mlp"]}, "kind"),
        ({"kind": "logistic"}, "inputs"),
        ({"kind": "logistic", "inputs": 0}, "inputs"),
        ({"kind": "logistic", "inputs": -3}, "inputs"),
        ({"kind": "logistic", "inputs": 3.0}, "inputs"),
        ({"kind": "logistic", "inputs": True}, "inputs"),
        ({"kind": "logistic", "inputs": "30"}, "inputs"),
        ({"kind": "logistic", "inputs": 10**30}, "inputs"),
        ({"kind": "logistic", "inputs": 3, "classes": 1}, "classes"),
        ({"kind": "logistic", "inputs": 3, "hidden": [4]}, "hidden"),
        ({"kind": "linear", "inputs": 3, "classes": 2}, "classes"),
        ({"kind": "linear", "inputs": 3, "standardise": 1}, "standardise"),
        ({"kind": "mlp", "inputs": 3, "hidden": 4}, "hidden"),
        ({"kind": "mlp", "inputs": 3, "hidden": [0]}, "hidden"),
        ({"kind": "mlp", "inputs": 3, "hidden": [4] * 33}, "hidden"),
        ({"kind": "mlp", "inputs": 10**7, "hidden": [10**6]}, "parameters"),
        ({"kind": "cnn", "inputs": 28}, "inputs"),
        ({"kind": "cnn", "inputs": [28, 28]}, "inputs"),
        ({"kind": "cnn", "inputs": [3, 65536, 65536]}, "inputs"),
        ({"kind": "cnn", "inputs": [1, 4, 4], "channels": [8, 8, 8]}, "halved"),
    ],
)
def test_an_unusable_description_is_refused_by_name(spec: Any, word: str) -> None:
    with pytest.raises(FedportalError) as refused:
        Architecture.parse(spec)
    assert refused.value.code == "architecture_invalid"
    assert word in refused.value.message


@pytest.mark.parametrize("spec", [LOGISTIC, LINEAR, MLP, CNN], ids=lambda spec: spec["kind"])
def test_torch_builds_the_same_parameters_from_the_steps(spec: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    architecture = Architecture.parse(spec)
    make = {
        Dense: lambda step: torch.nn.Linear(step.inputs, step.outputs),
        Conv: lambda step: torch.nn.Conv2d(step.inputs, step.outputs, 3, padding=1),
        Relu: lambda step: torch.nn.ReLU(),
        MaxPool: lambda step: torch.nn.MaxPool2d(2),
        Flatten: lambda step: torch.nn.Flatten(),
    }
    module = torch.nn.Module()
    module.layers = torch.nn.Sequential(*(make[type(step)](step) for step in architecture.steps))
    state = {n: torch.from_numpy(a) for n, a in architecture.initial(1).items() if n.startswith("layers.")}
    module.load_state_dict(state)  # strict: the same names and shapes
    assert module.layers(torch.zeros(2, *architecture.input_shape)).shape == (2, architecture.outputs)


def test_a_batch_normalisation_stands_before_every_relu_and_begins_as_the_identity() -> None:
    mlp, cnn = (Architecture.parse({**spec, "batch_norm": True}) for spec in (MLP, CNN))
    kinds = [type(step) for step in mlp.steps]
    assert kinds == [Dense, Norm, Relu, Dense, Norm, Relu, Dense]
    assert [step for step in cnn.steps if isinstance(step, Norm)] == [
        Norm("layers.1", 8, images=True), Norm("layers.5", 16, images=True), Norm("layers.10", 32)
    ]  # fmt: skip
    arrays = mlp.initial(3)
    values = {part: set(arrays[f"layers.1.{part}"].tolist()) for part in NORM_PARTS}
    assert values == {"weight": {1.0}, "bias": {0.0}, "running_mean": {0.0}, "running_var": {1.0}}
    assert mlp.last == "layers.6"
    plain = Architecture.parse(MLP)
    assert np.array_equal(arrays["layers.0.weight"], plain.initial(3)["layers.0.weight"])
    assert "batch_norm" not in plain.spec()
    assert mlp.parameters == plain.parameters + 4 * (64 + 32)


@pytest.mark.parametrize("spec", [{**LOGISTIC, "batch_norm": True}, {**LINEAR, "batch_norm": False}])
def test_a_model_without_hidden_layers_has_no_batch_normalisation(spec: dict[str, Any]) -> None:
    with pytest.raises(FedportalError, match="has no field 'batch_norm'"):
        Architecture.parse(spec)
