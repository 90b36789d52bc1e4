"""Described architectures: models that portal and device build alike from a few numbers.

A description is plain JSON:

    {"kind": "linear",   "inputs": 30}                                                     one number per row
    {"kind": "logistic", "inputs": 30, "classes": 2, "standardise": true}
    {"kind": "mlp",      "inputs": 30, "hidden": [64, 32], "classes": 2}
    {"kind": "cnn",      "inputs": [1, 28, 28], "channels": [8, 16], "hidden": [32], "classes": 10}

Every kind is a chain of steps. Step i of `Architecture.steps` is element i of a torch `nn.Sequential` called `layers`,
so its parameters are `layers.{i}.weight` ([out, in], or [out, in, k, k]) and `layers.{i}.bias` ([out]):

    linear, logistic   Dense
    mlp                Dense → Relu → … → Dense
    cnn                (Conv 3×3, padding 1 → Relu → MaxPool 2×2) per entry of `channels` → Flatten → as mlp

Two classes have one output z, p(class 1) = σ(z); k > 2 classes have k outputs and a softmax; `linear` has one output
and the loss (z - y)²/2. With `standardise` the input is (x - standardise.mean) / standardise.std, two float32 buffers
of length `inputs` (C·H·W in row-major order for a cnn) that travel with the model and are not averaged.

With `"batch_norm": true`, which is left out otherwise, a normalisation stands between every hidden Dense or Conv and
its Relu:

    mlp                Dense → Norm → Relu → … → Dense
    cnn                (Conv 3×3, padding 1 → Norm → Relu → MaxPool 2×2) per entry of `channels` → Flatten → as mlp

Its tensors are `layers.{i}.weight`, `layers.{i}.bias`, `layers.{i}.running_mean` and `layers.{i}.running_var` ([out]
each). All four are weights and averaged; the running statistics are moved by batches and not by gradients. FedBN leaves
them, with γ and β, on the devices.

Two optional lists name what goes in and what comes out, so that devices bring the same columns in the same order and
mean the same by class 1. Both are left out of a description that does not have them:

    "columns": ["age", "texture", …]   a name for each input, in the model's order
    "labels":  ["benign", "malignant"] a name for each class, in the model's order; not for `linear`

Names are unique, 1 to 100 characters, and printable, without blanks at either end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fedwire.errors import FedportalError
from fedwire.tensors import Float32, Manifest, TensorSpec

Kind = Literal["linear", "logistic", "mlp", "cnn"]
Loss = Literal["squared", "binary", "softmax"]

MEAN, STD = "standardise.mean", "standardise.std"
# The tensors of a batch normalisation; the last two are moved by batches and not by gradients.
NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
STATISTICS = tuple(f".{part}" for part in NORM_PARTS[2:])
MAX_PARAMETERS = 200_000_000
MAX_INPUTS = 10_000_000
MAX_CLASSES = 100_000
MAX_LAYERS = 32
MAX_NAME = 100
# Of a description's columns, and of its labels: they travel with every task.
MAX_NAMES_TOGETHER = 100_000
KERNEL = 3
_FIELDS: Mapping[str, frozenset[str]] = {
    "linear": frozenset({"kind", "inputs", "standardise", "columns"}),
    "logistic": frozenset({"kind", "inputs", "classes", "standardise", "columns", "labels"}),
    "mlp": frozenset({"kind", "inputs", "classes", "hidden", "standardise", "batch_norm", "columns", "labels"}),
    "cnn": frozenset(
        {"kind", "inputs", "classes", "hidden", "channels", "standardise", "batch_norm", "columns", "labels"}
    ),
}
_COUNTED = {"columns": "input columns", "labels": "classes"}


@dataclass(frozen=True)
class Dense:
    """y = x·Wᵀ + b with W [outputs, inputs] and b [outputs]; `name` is the prefix of both."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Conv:
    """A 3×3 cross-correlation, stride 1, padding 1, with W [outputs, inputs, 3, 3] and b [outputs]."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Norm:
    """Batch normalisation with γ, β and running statistics [size]; `images`: over [n, C, H, W], channel by channel."""

    name: str
    size: int
    images: bool = False


@dataclass(frozen=True)
class Relu:
    """max(x, 0), element by element."""


@dataclass(frozen=True)
class MaxPool:
    """The largest of each 2×2 square, stride 2; an odd last row or column is dropped."""


@dataclass(frozen=True)
class Flatten:
    """[n, C, H, W] → [n, C·H·W] in row-major order."""


Step = Dense | Conv | Norm | Relu | MaxPool | Flatten


@dataclass(frozen=True)
class Architecture:
    """A parsed description. Build it with `Architecture.parse`."""

    kind: Kind
    input_shape: tuple[int, ...]  # (inputs,), or (channels, height, width) for a cnn
    classes: int  # 0 for `linear`
    hidden: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    standardise: bool = False
    columns: tuple[str, ...] = ()  # a name for each input, or none at all
    labels: tuple[str, ...] = ()  # a name for each class, or none at all
    batch_norm: bool = False

    @classmethod
    def parse(cls, spec: Any) -> Architecture:
        """The architecture that `spec` describes. Raises `architecture_invalid` and names what is wrong."""
        if not isinstance(spec, Mapping):
            raise _invalid("it is not a JSON object")
        kind = spec.get("kind")
        if not isinstance(kind, str) or kind not in _FIELDS:
            raise _invalid(f"`kind` is {kind!r}; it must be one of {', '.join(_FIELDS)}")
        unknown = sorted(str(name) for name in spec.keys() - _FIELDS[kind])
        if unknown:
            raise _invalid(f"{kind} has no field {unknown[0]!r}")
        truths = {name: spec.get(name, False) for name in ("standardise", "batch_norm")}
        for name, value in truths.items():
            if not isinstance(value, bool):
                raise _invalid(f"`{name}` must be true or false")
        shape = _input_shape(kind, spec.get("inputs"))
        classes = 0 if kind == "linear" else _number("classes", spec.get("classes", 2), 2, MAX_CLASSES)
        found = cls(
            kind=kind,  # type: ignore[arg-type]  # a key of _FIELDS
            input_shape=shape,
            classes=classes,
            hidden=_numbers("hidden", spec.get("hidden", [32] if kind == "mlp" else [])),
            channels=_numbers("channels", spec.get("channels", [8, 16] if kind == "cnn" else [])),
            **truths,
            columns=_names("columns", spec["columns"], math.prod(shape)) if "columns" in spec else (),
            labels=_names("labels", spec["labels"], classes) if "labels" in spec else (),
        )
        if any(size < 1 for size in found._pooled()):
            raise _invalid(f"an image of {found.input_shape[1:]} cannot be halved {len(found.channels)} times")
        if found.parameters > MAX_PARAMETERS:
            raise _invalid(f"it has {found.parameters:,} parameters; {MAX_PARAMETERS:,} are allowed")
        return found

    def spec(self) -> dict[str, Any]:
        """The description in full, as it is stored and sent; `parse` of it gives an equal architecture."""
        values: dict[str, Any] = {
            "kind": self.kind,
            "inputs": list(self.input_shape) if self.kind == "cnn" else self.inputs,
            "classes": self.classes,
            "hidden": list(self.hidden),
            "channels": list(self.channels),
            "standardise": self.standardise,
        }
        rare = {"columns": list(self.columns), "labels": list(self.labels), "batch_norm": self.batch_norm}
        values |= {field: value for field, value in rare.items() if value}
        return {name: value for name, value in values.items() if name in _FIELDS[self.kind]}

    @property
    def inputs(self) -> int:
        """The number of input columns (C·H·W for a cnn)."""
        return math.prod(self.input_shape)

    @property
    def outputs(self) -> int:
        """The length of the last step's output: 1, or the number of classes when there are more than two."""
        return self.classes if self.classes > 2 else 1

    @property
    def loss(self) -> Loss:
        """What training minimises: squared error, binary cross-entropy, or cross-entropy over a softmax."""
        if self.kind == "linear":
            return "squared"
        return "softmax" if self.classes > 2 else "binary"

    @property
    def steps(self) -> tuple[Step, ...]:
        """The chain; step i is element i of `layers`."""
        steps: list[Step] = []
        planes = self.input_shape[0]
        for width in self.channels:
            steps.append(Conv(f"layers.{len(steps)}", planes, width))
            steps += [*self._normed(len(steps), width, images=True), Relu(), MaxPool()]
            planes = width
        size = self.inputs
        if self.kind == "cnn":
            steps.append(Flatten())
            size = planes * math.prod(self._pooled())
        for width in self.hidden:
            steps.append(Dense(f"layers.{len(steps)}", size, width))
            steps += [*self._normed(len(steps), width), Relu()]
            size = width
        steps.append(Dense(f"layers.{len(steps)}", size, self.outputs))
        return tuple(steps)

    @property
    def last(self) -> str:
        """The name of the last step, which gives the answer: the prefix of its tensors."""
        return f"layers.{len(self.steps) - 1}"

    @property
    def parameters(self) -> int:
        """P, the number of averaged numbers."""
        return sum(math.prod(shape) for _, shape in self._shapes())

    def manifest(self) -> Manifest:
        """The tensors of a model of this architecture, in canonical order."""
        specs = [TensorSpec(name, "F32", shape) for name, shape in self._shapes()]
        if self.standardise:
            specs += [TensorSpec(name, "F32", (self.inputs,), "buffer") for name in (MEAN, STD)]
        return Manifest.of(specs)

    def initial(self, seed: int = 0) -> dict[str, Float32]:
        """The first weights, the same for the same seed everywhere: zeros for linear and logistic.

        For mlp and cnn biases are zero and weights uniform on ±√(6 / fan_in) before a Relu (He), and on
        ±√(6 / (fan_in + fan_out)) in the last step (Glorot), drawn by PCG64 in the order of the steps. The
        standardisation is the identity: mean 0, standard deviation 1; and so is every batch normalisation.
        """
        generator = np.random.Generator(np.random.PCG64(seed))
        layers = [step for step in self.steps if isinstance(step, Dense | Conv)]
        arrays: dict[str, Float32] = {}
        for step in layers:
            weight, bias = _layer_shapes(step)
            fan_in = math.prod(weight[1:])
            bound = math.sqrt(6 / (fan_in + step.outputs if step is layers[-1] else fan_in))
            if self.kind in ("linear", "logistic"):
                bound = 0.0
            draws = generator.random(weight, dtype=np.float32)
            arrays[f"{step.name}.weight"] = (draws * np.float32(2) - np.float32(1)) * np.float32(bound)
            arrays[f"{step.name}.bias"] = np.zeros(bias, np.float32)
        for norm in self.steps:
            if isinstance(norm, Norm):
                ones, zeros = np.ones(norm.size, np.float32), np.zeros(norm.size, np.float32)
                values = (ones, zeros, zeros.copy(), ones.copy())
                arrays |= {f"{norm.name}.{part}": array for part, array in zip(NORM_PARTS, values, strict=True)}
        if self.standardise:
            arrays[MEAN] = np.zeros(self.inputs, np.float32)
            arrays[STD] = np.ones(self.inputs, np.float32)
        return arrays

    def _normed(self, place: int, size: int, *, images: bool = False) -> list[Norm]:
        """The normalisation at this place of the chain, if there is one."""
        return [Norm(f"layers.{place}", size, images)] if self.batch_norm else []

    def _pooled(self) -> tuple[int, ...]:
        """Height and width behind the last pooling; empty for the other kinds."""
        return tuple(size >> len(self.channels) for size in self.input_shape[1:])

    def _shapes(self) -> list[tuple[str, tuple[int, ...]]]:
        shapes: list[tuple[str, tuple[int, ...]]] = []
        for step in self.steps:
            if isinstance(step, Dense | Conv):
                weight, bias = _layer_shapes(step)
                shapes += [(f"{step.name}.weight", weight), (f"{step.name}.bias", bias)]
            elif isinstance(step, Norm):
                shapes += [(f"{step.name}.{part}", (step.size,)) for part in NORM_PARTS]
        return shapes


def _layer_shapes(step: Dense | Conv) -> tuple[tuple[int, ...], tuple[int, ...]]:
    window = (KERNEL, KERNEL) if isinstance(step, Conv) else ()
    return (step.outputs, step.inputs, *window), (step.outputs,)


def _input_shape(kind: str, value: Any) -> tuple[int, ...]:
    if kind != "cnn":
        return (_number("inputs", value, 1, MAX_INPUTS),)
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise _invalid("`inputs` of a cnn must be [channels, height, width]")
    shape = tuple(_number("inputs", size, 1, 65_536) for size in value)
    if math.prod(shape) > MAX_INPUTS:
        raise _invalid(f"`inputs` has more than {MAX_INPUTS:,} numbers")
    return shape


def _number(field: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _invalid(f"`{field}` must be a whole number from {low:,} to {high:,}, not {value!r:.60}")
    return value


def _numbers(field: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_LAYERS:
        raise _invalid(f"`{field}` must be a list of at most {MAX_LAYERS} whole numbers")
    return tuple(_number(field, width, 1, 1_000_000) for width in value)


def _names(field: str, value: Any, count: int) -> tuple[str, ...]:
    """`count` different names."""
    if not isinstance(value, list | tuple):
        raise _invalid(f"`{field}` must be a list of names")
    if len(value) != count:
        raise _invalid(f"`{field}` has {len(value):,} names; the model has {count:,} {_COUNTED[field]}")
    seen: set[str] = set()
    for place, name in enumerate(value, 1):
        if not isinstance(name, str) or not name:
            raise _invalid(f"name {place:,} of `{field}` must be text, not {name!r:.60}")
        if len(name) > MAX_NAME:
            raise _invalid(f"name {place:,} of `{field}` is longer than {MAX_NAME} characters")
        if name != name.strip() or not name.isprintable():
            raise _invalid(f"name {place:,} of `{field}`, {name!r}, has blanks at an end or cannot be printed")
        if name in seen:
            raise _invalid(f"`{field}` has the name {name!r} twice")
        seen.add(name)
    if sum(map(len, value)) > MAX_NAMES_TOGETHER:
        raise _invalid(f"`{field}` has more than {MAX_NAMES_TOGETHER:,} characters in all")
    return tuple(value)


def _invalid(reason: str) -> FedportalError:
    return FedportalError("architecture_invalid", reason=reason)
