"""The described architectures, computed for serving: numpy alone, on weights laid out once.

Where training needs every layer's input, serving needs the last output only. So batch normalisations are folded into
the layer before them, images lie with their channels last, which makes a convolution one product of matrices, and max
pooling comes before max(x, 0), with which it may change places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.trainers.norms import EPSILON
from fedwire.architectures import KERNEL, MEAN, STD, Architecture, Conv, Dense, Flatten, MaxPool, Norm, Relu
from fedwire.tensors import Float32

Float64 = NDArray[np.float64]
Layer = Callable[[Float32], Float32]
# What the largest layer may take while it is computed; more rows are computed in parts.
BYTES_AT_ONCE = 32 << 20


class Network:
    """A model of this architecture with these weights, which are copied."""

    def __init__(self, architecture: Architecture, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.architecture = architecture
        self._layers = list(_layers(architecture, arrays))
        self._mean, self._std = (
            np.array(arrays[name], np.float64) if architecture.standardise else None for name in (MEAN, STD)
        )
        self._at_once = max(1, BYTES_AT_ONCE // _bytes_of_a_row(architecture))

    @property
    def width(self) -> int:
        """The length of the last hidden layer, 0 where there is none."""
        last = self.architecture.steps[-1]
        return last.inputs if isinstance(last, Dense) and len(self.architecture.steps) > 1 else 0

    def outputs(self, rows: Float64) -> Float32:
        """What the last layer gives [n, outputs] for rows [n, inputs], before any sigmoid or softmax."""
        return self._through(self._layers, rows, self.architecture.outputs)

    def hidden(self, rows: Float64) -> Float32:
        """The last hidden layer [n, width] for rows [n, inputs]."""
        return self._through(self._layers[:-1], rows, self.width)

    def _through(self, layers: list[Layer], rows: Float64, width: int) -> Float32:
        found = np.empty((len(rows), width), np.float32)
        with np.errstate(all="ignore"):  # what is not finite is told to whoever asked
            for start in range(0, len(rows), self._at_once):
                values = self._prepared(rows[start : start + self._at_once])
                for layer in layers:
                    values = layer(values)
                found[start : start + len(values)] = values
        return found

    def _prepared(self, rows: Float64) -> Float32:
        """Standardised as in training, that is in double precision; images with their channels last."""
        if self._mean is not None and self._std is not None:
            rows = (rows - self._mean) / self._std
        values = rows.astype(np.float32)
        if self.architecture.kind != "cnn":
            return values
        return np.ascontiguousarray(values.reshape(-1, *self.architecture.input_shape).transpose(0, 2, 3, 1))


def _layers(architecture: Architecture, arrays: Mapping[str, NDArray[Any]]) -> Iterator[Layer]:
    """The chain of steps, with normalisations folded in and each max(x, 0) behind the pooling that follows it."""
    steps = list(architecture.steps)
    for place, step in enumerate(steps):
        after = steps[place + 1 : place + 3]
        if isinstance(step, Dense | Conv):
            norm = after[0] if after and isinstance(after[0], Norm) else None
            weight, bias = _folded(step, norm, arrays)
            yield (_dense if isinstance(step, Dense) else _conv)(weight, bias)
        elif isinstance(step, Relu) and not (after and isinstance(after[0], MaxPool)):
            yield _relu
        elif isinstance(step, MaxPool):
            yield _pool
            yield _relu
        elif isinstance(step, Flatten):
            yield _flatten


def _folded(step: Dense | Conv, norm: Norm | None, arrays: Mapping[str, NDArray[Any]]) -> tuple[Float32, Float32]:
    """Weight and bias, with γ·(x - μ)/√(σ² + ε) + β worked into them where that follows."""
    weight = np.array(arrays[f"{step.name}.weight"], np.float64)
    bias = np.array(arrays[f"{step.name}.bias"], np.float64)
    if norm is not None:
        gain, shift, mean, var = (
            np.array(arrays[f"{norm.name}.{part}"], np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / np.sqrt(np.maximum(var, 0) + EPSILON)
        weight *= scale.reshape(-1, *([1] * (weight.ndim - 1)))
        bias = (bias - mean) * scale + shift
    return weight.astype(np.float32), bias.astype(np.float32)


def _dense(weight: Float32, bias: Float32) -> Layer:
    turned = np.ascontiguousarray(weight.T)

    def apply(values: Float32) -> Float32:
        found: Float32 = values @ turned
        found += bias
        return found

    return apply


def _conv(weight: Float32, bias: Float32) -> Layer:
    """Each place with its neighbours in one row of a matrix, times the window's weights."""
    turned = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)))

    def apply(values: Float32) -> Float32:
        count, height, width, planes = values.shape
        edged = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
        around = np.empty((count, height, width, KERNEL * KERNEL * planes), np.float32)
        for place in range(KERNEL * KERNEL):
            down, right = divmod(place, KERNEL)
            window = edged[:, down : down + height, right : right + width]
            around[..., place * planes : (place + 1) * planes] = window
        found: Float32 = around.reshape(-1, around.shape[-1]) @ turned
        found += bias
        return found.reshape(count, height, width, -1)

    return apply


def _relu(values: Float32) -> Float32:
    return np.maximum(values, 0, out=values)


def _pool(values: Float32) -> Float32:
    height, width = values.shape[1] & ~1, values.shape[2] & ~1
    rows = np.maximum(values[:, 0:height:2], values[:, 1:height:2])
    return np.maximum(rows[:, :, 0:width:2], rows[:, :, 1:width:2])


def _flatten(values: Float32) -> Float32:
    return values.transpose(0, 3, 1, 2).reshape(len(values), -1)


def _bytes_of_a_row(architecture: Architecture) -> int:
    """What one row takes in the widest layer, roughly."""
    sizes, planes, area = [architecture.inputs], architecture.input_shape[0], math.prod(architecture.input_shape[1:])
    for width in architecture.channels:
        sizes.append(area * max(planes * KERNEL * KERNEL, width))
        planes, area = width, area // 4
    return 8 * max(*sizes, *architecture.hidden, architecture.outputs)
