"""What a model answers, in plain numbers: the source with which every converted file is compared.

Written from the definitions in `fedwire.architectures` and in float64, so that neither form is judged by the engine
that made it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedwire.architectures import KERNEL, MEAN, STD, Architecture, Conv, Dense, Flatten, MaxPool, Norm, Relu, Step
from fedwire.errors import FedportalError
from fedwire.tensors import Float32, decode_model
from registry.converting import ConversionFailed

Arrays = Mapping[str, NDArray[Any]]
Numbers = NDArray[np.float64]

# What goes in and what comes out, in every form.
ROWS, OUTPUTS, PROBABILITIES = "rows", "outputs", "probabilities"
# A converted model may differ by this share of the largest number it answers, or by this much below 1.
TOLERANCE = 1e-5
EPSILON = 1e-5  # of a batch normalisation
# The probe: as many rows as keep its numbers below MOST_NUMBERS, and never fewer than two.
MOST_ROWS, MOST_NUMBERS = 64, 1 << 22
# Beyond this many numbers in one step for one row the worker's memory is not risked.
TOO_MANY = 1 << 26


class Answer(NamedTuple):
    """What the last step gives [n, outputs], and the probability of every class [n, classes]; None without classes."""

    outputs: Numbers
    probabilities: Numbers | None


def loaded(source: Path, architecture: Architecture) -> dict[str, Float32]:
    """The tensors of a stored model, as every form writes them. Raises `ConversionFailed` if they are others."""
    try:
        arrays = decode_model(source, architecture.manifest())[1]
    except FedportalError as error:
        raise ConversionFailed(f"the file does not hold the architecture's tensors: {error}") from error
    for name in arrays:
        if name.endswith(".running_var"):  # an optimizer at the server may have moved it below
            arrays[name] = np.maximum(arrays[name], 0)
    return arrays


def probe(architecture: Architecture, arrays: Arrays) -> Float32:
    """Rows [n, *input_shape] like those the model was made for, the same every time. Raises `ConversionFailed`."""
    largest = max(math.prod(shape) for shape in _shapes(architecture))
    if largest > TOO_MANY:
        raise ConversionFailed("one row of it is too large to be checked here")
    count = min(MOST_ROWS, max(2, MOST_NUMBERS // largest))
    rows = np.random.Generator(np.random.PCG64(7)).standard_normal((count, architecture.inputs), np.float32)
    if architecture.standardise:
        rows = rows * arrays[STD] + arrays[MEAN]
    return rows.astype(np.float32).reshape(count, *architecture.input_shape)


def answer(architecture: Architecture, arrays: Arrays, rows: NDArray[Any]) -> Answer:
    """What the model answers to `rows` [n, *input_shape], which come as they are, before any standardisation."""
    values = rows.astype(np.float64)
    if architecture.standardise:
        mean, std = (arrays[name].astype(np.float64).reshape(architecture.input_shape) for name in (MEAN, STD))
        values = (values - mean) / std
    for step in architecture.steps:
        values = _after(step, arrays, values)
    return Answer(values, _probabilities(architecture, values))


def compare(expected: Answer, found: Sequence[NDArray[Any]]) -> None:
    """Whether these are the numbers, to `TOLERANCE`. Raises `ConversionFailed`."""
    wanted = [part for part in expected if part is not None]
    if len(found) != len(wanted):
        raise ConversionFailed(f"what was written gives {len(found)} answers instead of {len(wanted)}")
    for ours, theirs in zip(wanted, found, strict=True):
        if theirs.shape != ours.shape:
            raise ConversionFailed(f"what was written answers in the shape {theirs.shape} instead of {ours.shape}")
        off = float(np.abs(theirs - ours).max(initial=0))
        if not off <= TOLERANCE * max(1.0, float(np.abs(ours).max(initial=0))):
            raise ConversionFailed(f"what was written answers {off:.2g} beside the model on a probe")


def _after(step: Step, arrays: Arrays, values: Numbers) -> Numbers:
    match step:
        case Dense(name=name):
            return _weighted(values, arrays[f"{name}.weight"]) + arrays[f"{name}.bias"]
        case Conv(name=name):
            return _convolved(values, arrays[f"{name}.weight"]) + arrays[f"{name}.bias"][:, None, None]
        case Norm(name=name, images=images):
            return _normed(name, arrays, values, images)
        case Relu():
            return np.maximum(values, 0)
        case MaxPool():
            rows, planes, height, width = values.shape
            squares = values[:, :, : height // 2 * 2, : width // 2 * 2]
            return squares.reshape(rows, planes, height // 2, 2, width // 2, 2).max(axis=(3, 5))
        case Flatten():
            return values.reshape(len(values), -1)


def _weighted(values: Numbers, weight: NDArray[Any]) -> Numbers:
    """values·Wᵀ, of which only a part is in float64 at a time: W may be most of the model."""
    at_once = max(1, MOST_NUMBERS // weight.shape[1])
    parts = [values @ weight[at : at + at_once].astype(np.float64).T for at in range(0, len(weight), at_once)]
    return np.concatenate(parts, axis=1)


def _convolved(values: Numbers, weight: NDArray[Any]) -> Numbers:
    height, width = values.shape[2:]
    margin = KERNEL // 2
    padded = np.pad(values, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    total = np.zeros((len(values), len(weight), height, width))
    for down in range(KERNEL):
        for right in range(KERNEL):
            window = padded[:, :, down : down + height, right : right + width]
            total += np.moveaxis(np.tensordot(window, weight[:, :, down, right].astype(np.float64), (1, 1)), -1, 1)
    return total


def _normed(name: str, arrays: Arrays, values: Numbers, images: bool) -> Numbers:
    shape = (-1, 1, 1) if images else (-1,)
    parts = ("weight", "bias", "running_mean", "running_var")
    gamma, beta, mean, variance = (arrays[f"{name}.{part}"].astype(np.float64).reshape(shape) for part in parts)
    return (values - mean) / np.sqrt(variance + EPSILON) * gamma + beta


def _probabilities(architecture: Architecture, outputs: Numbers) -> Numbers | None:
    if architecture.loss == "squared":
        return None
    if architecture.loss == "binary":
        # By the stable half of the sigmoid: no exponent is positive.
        small = np.exp(-np.abs(outputs[:, 0]))
        second = np.where(outputs[:, 0] >= 0, 1, small) / (1 + small)
        return np.stack([1 - second, second], axis=1)
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares: Numbers = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _shapes(architecture: Architecture) -> list[tuple[int, ...]]:
    """The shape of one row at the beginning and behind every step."""
    shape, shapes = architecture.input_shape, [architecture.input_shape]
    for step in architecture.steps:
        match step:
            case Dense(outputs=outputs):
                shape = (outputs,)
            case Conv(outputs=outputs):
                shape = (outputs, *shape[1:])
            case MaxPool():
                shape = (shape[0], shape[1] // 2, shape[2] // 2)
            case _:
                continue
        shapes.append(shape)
    return shapes
