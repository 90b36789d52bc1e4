"""Gradients of a chain of Dense and Relu, row by row, and how the rows turn them.

An attacker who knows the model and a gradient looks for the row that has it. That needs two derivatives: g(x) = ∇_θ L,
and ∇ₓ⟨g(x), v⟩ for a direction v. The second is the change of ∇ₓL when θ moves along v, which one pass forwards and
one back give exactly (the R-operator: Pearlmutter, "Fast Exact Multiplication by the Hessian", 1994). All in float64.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.trainers.dense import sigmoid, softmax
from fedwire.architectures import Architecture, Dense, Relu
from fedwire.errors import FedportalError

Floats = NDArray[np.float64]


class Place(NamedTuple):
    """Where in the flat vector a layer's weight [outputs, inputs] and bias [outputs] begin."""

    weight: int
    bias: int
    outputs: int
    inputs: int


class Chain:
    """A linear, logistic or multi-layer model without batch normalisation. Raises `audit_unavailable` for others."""

    def __init__(self, architecture: Architecture) -> None:
        if architecture.kind == "cnn":
            raise unavailable("its first layer is a convolution, and the attacks here are on fully connected layers")
        if any(not isinstance(step, Dense | Relu) for step in architecture.steps):
            raise unavailable(
                "a batch normalisation stands behind its first layer, which takes the bias' gradient away"
            )
        self.architecture = architecture
        starts, position = dict[str, int](), 0
        for spec in architecture.manifest().weights:
            starts[spec.name] = position
            position += spec.size
        self.parameters = position
        self.places = [
            Place(starts[f"{step.name}.weight"], starts[f"{step.name}.bias"], step.outputs, step.inputs)
            for step in architecture.steps
            if isinstance(step, Dense)
        ]

    def layer(self, flat: Floats, index: int) -> tuple[Floats, Floats]:
        """Weight [..., outputs, inputs] and bias [..., outputs] of a layer, as views into vectors [..., P]."""
        place = self.places[index]
        weight = flat[..., place.weight : place.weight + place.outputs * place.inputs]
        bias = flat[..., place.bias : place.bias + place.outputs]
        return weight.reshape(*flat.shape[:-1], place.outputs, place.inputs), bias

    def gradients(self, flat: Floats, rows: Floats, labels: NDArray[Any]) -> Floats:
        """g(x) for each row alone: [n, P] of the rows [n, d] at the weights `flat` [P]."""
        values, masks = self._forward(flat, rows)
        found = np.empty((len(rows), self.parameters))
        for index, slope in enumerate(self._slopes(flat, values, masks, labels)):
            weight, bias = self.layer(found, index)
            np.multiply(slope[:, :, None], values[index][:, None, :], out=weight)
            bias[:] = slope
        return found

    def turned(self, flat: Floats, rows: Floats, labels: NDArray[Any], wanted: Floats) -> tuple[Floats, Floats]:
        """How far g(x) points from the direction `wanted` [n, P] of length 1, and which way each row moves that.

        D = 1 - ⟨g, w⟩/‖g‖ for each row [n], and ∇ₓD = ∇ₓ⟨g(x), v⟩ with v = -w/‖g‖ + ⟨g, w⟩·g/‖g‖³ held fast [n, d].
        g is made of δ·hᵀ for each layer, with its inputs h and slopes δ, so neither g nor v is ever written down.
        """
        values, masks = self._forward(flat, rows)
        slopes = self._slopes(flat, values, masks, labels)
        towards = [self._moved(wanted, index, value) for index, value in enumerate(values[:-1])]
        sizes = [np.square(value).sum(axis=1) + 1 for value in values[:-1]]
        likeness = sum(np.einsum("no,no->n", slope, toward) for slope, toward in zip(slopes, towards, strict=True))
        squares = sum(np.square(slope).sum(axis=1) * size for slope, size in zip(slopes, sizes, strict=True))
        length = np.sqrt(np.maximum(squares, 1e-300))
        by_wanted, by_own = (-1 / length)[:, None], (likeness / length**3)[:, None]
        moved = np.zeros_like(rows)
        for index, (slope, toward, size) in enumerate(zip(slopes, towards, sizes, strict=True)):
            moved = moved @ self.layer(flat, index)[0].T + by_wanted * toward + by_own * slope * size[:, None]
            if index < len(masks):
                moved *= masks[index]
        change = self._curved(values[-1], moved)
        for index in range(len(self.places) - 1, -1, -1):
            slope, along = slopes[index], self.layer(wanted, index)[0]
            change = change @ self.layer(flat, index)[0] + by_wanted * np.einsum("no,noi->ni", slope, along)
            change += by_own * np.square(slope).sum(axis=1)[:, None] * values[index]
            if index:
                change *= masks[index - 1]
        return np.asarray(1 - likeness / length), change

    def losses(self, flat: Floats, rows: Floats, labels: NDArray[Any]) -> Floats:
        """The loss of each row [n]."""
        outputs = self._forward(flat, rows)[0][-1]
        if self.architecture.loss == "softmax":
            peak = outputs.max(axis=1)
            total = np.log(np.exp(outputs - peak[:, None]).sum(axis=1)) + peak
            return np.asarray(total - outputs[np.arange(len(rows)), labels])
        if self.architecture.loss == "binary":
            return np.asarray(np.logaddexp(0.0, outputs[:, 0]) - outputs[:, 0] * labels)
        return np.asarray((outputs[:, 0] - labels) ** 2 / 2)

    def _forward(self, flat: Floats, rows: Floats) -> tuple[list[Floats], list[Floats]]:
        """The input of every layer and the outputs; where each Relu lets through."""
        values, masks = [rows], list[Floats]()
        for index in range(len(self.places)):
            weight, bias = self.layer(flat, index)
            output = values[-1] @ weight.T + bias
            if index < len(self.places) - 1:
                masks.append((output > 0).astype(np.float64))
                output = output * masks[-1]
            values.append(output)
        return values, masks

    def _slopes(self, flat: Floats, values: list[Floats], masks: list[Floats], labels: NDArray[Any]) -> list[Floats]:
        """∂L by the outputs of every layer, before its Relu."""
        found = [self._slope(values[-1], labels)]
        for index in range(len(self.places) - 1, 0, -1):
            found.insert(0, (found[0] @ self.layer(flat, index)[0]) * masks[index - 1])
        return found

    def _moved(self, direction: Floats, index: int, value: Floats) -> Floats:
        """What a layer gives for its input when its weights are those of each row's direction."""
        weight, bias = self.layer(direction, index)
        return np.asarray(np.einsum("noi,ni->no", weight, value) + bias)

    def _slope(self, outputs: Floats, labels: NDArray[Any]) -> Floats:
        """∂L/∂z of each row."""
        if self.architecture.loss == "softmax":
            slope = softmax(outputs)
            slope[np.arange(len(slope)), labels] -= 1
            return np.asarray(slope)
        given = labels.astype(np.float64).reshape(-1, 1)
        return np.asarray((sigmoid(outputs) if self.architecture.loss == "binary" else outputs) - given)

    def _curved(self, outputs: Floats, moved: Floats) -> Floats:
        """The change of ∂L/∂z when z moves."""
        if self.architecture.loss == "softmax":
            share = softmax(outputs)
            return np.asarray(share * (moved - (share * moved).sum(axis=1, keepdims=True)))
        if self.architecture.loss == "binary":
            share = sigmoid(outputs)
            return np.asarray(share * (1 - share) * moved)
        return moved


def unavailable(reason: str) -> FedportalError:
    """Why there is no audit of this model."""
    return FedportalError("audit_unavailable", reason=reason)
