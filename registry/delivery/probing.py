"""How long a described model takes for a batch of rows, on the machine that asks.

It is a forward pass in NumPy, one thread of Python above whatever NumPy uses below: it tells large models from small
ones, and a version that became slow. It is no promise of what a device needs; that is what devices report.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedwire.architectures import KERNEL, MEAN, STD, Architecture, Conv, Dense, Flatten, MaxPool, Norm, Relu

Array = NDArray[np.float32]
Arrays = Mapping[str, NDArray[Any]]
ROWS = 32
# The fastest of so many passes is told: what else the machine does only makes a pass slower.
PASSES = 7
EPSILON = 1e-5
# Numbers that a pass may hold at once.
MOST_NUMBERS = 1 << 26


def numbers(architecture: Architecture) -> int:
    """About how many numbers the largest step of a pass holds at once."""
    most, (planes, *sizes) = architecture.inputs, architecture.input_shape
    area = math.prod(sizes)
    for width in architecture.channels:
        most = max(most, planes * area * KERNEL**2, width * area)
        planes, area = width, area // 4
    return ROWS * max(most, *architecture.hidden, architecture.outputs)


def latency(architecture: Architecture, arrays: Arrays, clock: Callable[[], float] = time.perf_counter) -> float:
    """Milliseconds of a forward pass over a batch of `ROWS` rows: the fastest of `PASSES` after one to warm up."""
    shape = (ROWS, *architecture.input_shape)
    batch = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    forward(architecture, arrays, batch)
    taken = []
    for _ in range(PASSES):
        began = clock()
        forward(architecture, arrays, batch)
        taken.append(clock() - began)
    return 1000 * min(taken)


def forward(architecture: Architecture, arrays: Arrays, rows: Array) -> Array:
    """The outputs of the last step for these rows: `rows` is [n, inputs], or [n, C, H, W] for a cnn."""
    values: Array = rows
    if architecture.standardise:
        mean, deviation = (arrays[name].reshape(architecture.input_shape) for name in (MEAN, STD))
        values = np.divide(values - mean, deviation, dtype=np.float32)
    for step in architecture.steps:
        if isinstance(step, Dense):
            values = values @ arrays[f"{step.name}.weight"].T + arrays[f"{step.name}.bias"]
        elif isinstance(step, Conv):
            values = _convolved(values, arrays[f"{step.name}.weight"], arrays[f"{step.name}.bias"])
        elif isinstance(step, Norm):
            values = _normed(values, step, arrays)
        elif isinstance(step, Relu):
            values = np.maximum(values, 0)
        elif isinstance(step, MaxPool):
            values = _pooled(values)
        elif isinstance(step, Flatten):
            values = values.reshape(len(values), -1)
    return values


def _convolved(values: Array, weight: Array, bias: Array) -> Array:
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KERNEL, KERNEL), axis=(2, 3))
    found: Array = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True)
    return found + bias[:, None, None]


def _normed(values: Array, step: Norm, arrays: Arrays) -> Array:
    weight, bias, mean, variance = (
        arrays[f"{step.name}.{part}"].reshape((-1, 1, 1) if step.images else (-1,))
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = np.divide(weight, np.sqrt(variance + np.float32(EPSILON)), dtype=np.float32)
    found: Array = (values - mean) * scale + bias
    return found


def _pooled(values: Array) -> Array:
    count, planes, height, width = values.shape
    halved = values[:, :, : height // 2 * 2, : width // 2 * 2]
    found: Array = halved.reshape(count, planes, height // 2, 2, width // 2, 2).max(axis=(3, 5))
    return found
