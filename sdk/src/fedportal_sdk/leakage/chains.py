"""Gradients of a chain of Dense and Relu, row by row, and of what is measured on them by the rows.

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
        slope = self._slope(values[-1], labels)
        found = np.empty((len(rows), self.parameters))
        for index in range(len(self.places) - 1, -1, -1):
            weight, bias = self.layer(found, index)
            np.multiply(slope[:, :, None], values[index][:, None, :], out=weight)
            bias[:] = slope
            if index:
                slope = (slope @ self.layer(flat, index)[0]) * masks[index - 1]
        return found

    def pulled(self, flat: Floats, rows: Floats, labels: NDArray[Any], direction: Floats) -> Floats:
        """∇ₓ⟨g(x), v⟩ for each row with its own direction v: [n, d] for `direction` [n, P]."""
        values, masks = self._forward(flat, rows)
        moved = np.zeros_like(rows)
        for index in range(len(self.places)):
            weight, _ = self.layer(flat, index)
            along, shift = self.layer(direction, index)
            moved = moved @ weight.T + np.einsum("noi,ni->no", along, values[index]) + shift
            if index < len(masks):
                moved *= masks[index]
        slope = self._slope(values[-1], labels)
        change = self._curved(values[-1], moved)
        for index in range(len(self.places) - 1, -1, -1):
            weight, (along, _) = self.layer(flat, index)[0], self.layer(direction, index)
            change = change @ weight + np.einsum("no,noi->ni", slope, along)
            slope = slope @ weight
            if index:
                change *= masks[index - 1]
                slope *= masks[index - 1]
        return change

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
