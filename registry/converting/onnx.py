"""A model as an ONNX graph: written with the `onnx` package, checked by running it with onnxruntime.

Both are loaded when they are needed, in a worker.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedwire.architectures import KERNEL, MEAN, STD, Architecture, Conv, Dense, Flatten, MaxPool, Norm, Relu, Step
from registry.converting import ConversionFailed
from registry.converting.answers import (
    EPSILON,
    OUTPUTS,
    PROBABILITIES,
    ROWS,
    Arrays,
    answer,
    compare,
    loaded,
    probe,
)

# Old enough for every runtime of the last years, and nothing here needs more.
OPSET, IR_VERSION = 17, 8


def write(source: Path, architecture: Architecture, target: Path) -> None:
    """Write the model file `source` as ONNX to `target`, and check its answers. Raises `ConversionFailed`."""
    try:
        import onnx  # noqa: PLC0415  # the web process never comes here
    except ImportError as error:
        raise ConversionFailed("onnx is not installed where the portal's jobs run") from error

    arrays = loaded(source, architecture)
    # The same bytes for the same model: what is written twice is stored once. Nothing of it stays in memory.
    target.write_bytes(_Graph(onnx, architecture, arrays).model().SerializeToString(deterministic=True))
    rows = probe(architecture, arrays)
    compare(answer(architecture, arrays, rows), answers_of(target, rows))


def answers_of(path: Path, rows: NDArray[Any]) -> list[NDArray[Any]]:
    """What the graph in the file answers to `rows`, by onnxruntime. Raises `ConversionFailed`."""
    try:
        import onnxruntime  # noqa: PLC0415
    except ImportError as error:
        raise ConversionFailed("onnxruntime is not installed where the portal's jobs run") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {ROWS: rows}))


class _Graph:
    """The nodes of one model, in the making."""

    def __init__(self, onnx: Any, architecture: Architecture, arrays: Arrays) -> None:
        self._onnx, self._helper = onnx, onnx.helper
        self._architecture, self._arrays = architecture, arrays
        self._nodes: list[Any] = []
        self._tensors: dict[str, Any] = {}

    def model(self) -> Any:
        """The whole model: standardisation, steps, and the probabilities of classes."""
        architecture = self._architecture
        value = self._standardised() if architecture.standardise else ROWS
        steps = architecture.steps
        for number, step in enumerate(steps):
            value = self._step(step, value, OUTPUTS if number == len(steps) - 1 else f"step.{number}")
        wide = {OUTPUTS: architecture.outputs}
        if architecture.loss != "squared":
            self._probabilities()
            wide[PROBABILITIES] = architecture.classes
        return self._sealed(wide)

    def _sealed(self, wide: dict[str, int]) -> Any:
        helper, kind = self._helper, self._onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            self._architecture.kind,
            [helper.make_tensor_value_info(ROWS, kind, ["n", *self._architecture.input_shape])],
            [helper.make_tensor_value_info(name, kind, ["n", size]) for name, size in wide.items()],
            list(self._tensors.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="fedportal",
        )
        # Columns and labels are in it: what goes in, in which order, and what each probability is of.
        helper.set_model_props(model, {"architecture": json.dumps(self._architecture.spec(), sort_keys=True)})
        return model

    def _standardised(self) -> str:
        shape = self._architecture.input_shape
        mean, std = (self._tensor(name, self._arrays[name].reshape(shape)) for name in (MEAN, STD))
        self._node("Sub", [ROWS, mean], "centred")
        return self._node("Div", ["centred", std], "standardised")

    def _probabilities(self) -> None:
        if self._architecture.loss == "softmax":
            self._node("Softmax", [OUTPUTS], PROBABILITIES, axis=1)
            return
        # Of class 0 by its own sigmoid: 1 - p would lose the small ones.
        self._node("Sigmoid", [self._node("Neg", [OUTPUTS], "negated")], "first")
        self._node("Sigmoid", [OUTPUTS], "second")
        self._node("Concat", ["first", "second"], PROBABILITIES, axis=1)

    def _step(self, step: Step, value: str, name: str) -> str:
        match step:
            case Dense(name=layer):
                return self._node("Gemm", [value, *self._parts(layer, "weight", "bias")], name, transB=1)
            case Conv(name=layer):
                edge = KERNEL // 2
                parts = self._parts(layer, "weight", "bias")
                return self._node("Conv", [value, *parts], name, kernel_shape=[KERNEL] * 2, pads=[edge] * 4)
            case Norm(name=layer):
                parts = self._parts(layer, "weight", "bias", "running_mean", "running_var")
                return self._node("BatchNormalization", [value, *parts], name, epsilon=EPSILON)
            case Relu():
                return self._node("Relu", [value], name)
            case MaxPool():
                return self._node("MaxPool", [value], name, kernel_shape=[2, 2], strides=[2, 2])
            case Flatten():
                return self._node("Flatten", [value], name, axis=1)

    def _parts(self, layer: str, *parts: str) -> list[str]:
        return [self._tensor(f"{layer}.{part}", self._arrays[f"{layer}.{part}"]) for part in parts]

    def _tensor(self, name: str, array: NDArray[Any]) -> str:
        self._tensors[name] = self._onnx.numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self._nodes.append(self._helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output
