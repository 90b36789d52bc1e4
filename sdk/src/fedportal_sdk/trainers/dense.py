"""Linear, logistic and multi-layer models in numpy.

All weights lie in one flat vector in the manifest's order; layers and their gradients are views into it, so a step of
SGD is three operations on vectors, however many layers there are. Rows come standardised (see `fedportal_sdk.local`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.trainers.norms import Norm, Seen, applied, learned, measured, track
from fedportal_sdk.trainers.norms import slope as through
from fedportal_sdk.trainers.plan import Plan, Tick
from fedwire import metrics
from fedwire.architectures import NORM_PARTS, STATISTICS, Architecture, Dense, Relu
from fedwire.architectures import Norm as Normalise
from fedwire.histograms import LOGIT, Scale
from fedwire.messages import Evaluation
from fedwire.tensors import Float32, flatten, unflatten

Floats = NDArray[Any]
# Rows per forward pass when measuring: bounds memory and does not change a result.
ROWS_AT_ONCE = 8192


class Layer(NamedTuple):
    """Views of one layer's weight [out, in] and bias [out]; whether max(x, 0) follows, and perhaps a batch
    normalisation before it."""

    weight: Floats
    bias: Floats
    relu: bool
    norm: Norm | None


class Place(NamedTuple):
    """A layer's name, whether max(x, 0) follows it, and the name of its batch normalisation, "" without one."""

    name: str
    relu: bool
    norm: str


class DenseTrainer:
    """Trains chains of Dense, Norm and Relu; the same seed gives the same bits on the same machine."""

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        self.manifest = architecture.manifest()
        steps, last = architecture.steps, Place("", False, "")
        self._places: list[Place] = []
        for step in reversed(steps):
            last = last._replace(relu=True) if isinstance(step, Relu) else last
            last = last._replace(norm=step.name) if isinstance(step, Normalise) else last
            if isinstance(step, Dense):
                self._places.insert(0, last._replace(name=step.name))
                last = Place("", False, "")

    def train(
        self,
        arrays: Mapping[str, Float32],
        rows: Float32,
        labels: NDArray[Any],
        plan: Plan,
        tick: Tick,
        shift: Float32 | None = None,
        *,
        anchor: Mapping[str, Float32] | None = None,
        frozen: Collection[str] = (),
    ) -> dict[str, Float32]:
        """The weights after local training that began with `arrays`, which stay as they are; see `Trainer`."""
        weights = flatten(self.manifest, arrays)
        start = flatten(self.manifest, anchor if anchor is not None else arrays) if plan.pull else weights
        gradient, velocity = np.empty_like(weights), np.zeros_like(weights)
        layers, slopes = self.layers(weights), self.layers(gradient)
        targets = self._targets(labels, rows.dtype)
        rate, decay, momentum = (np.float32(v) for v in (plan.learning_rate, plan.weight_decay, plan.momentum))
        pull = np.float32(plan.pull)
        views = unflatten(self.manifest, gradient).items()
        still = [view for name, view in views if name in frozen or name.endswith(STATISTICS)]
        moving = [not place.norm or f"{place.norm}.running_mean" not in frozen for place in self._places]
        for batch in plan.batches(len(rows), tick):
            seen = self._gradient(layers, slopes, rows[batch], targets[batch])
            for layer, what, moves in zip(layers, seen, moving, strict=True):
                if layer.norm is not None and what is not None and moves:
                    track(layer.norm, what)
            if plan.weight_decay:
                gradient += decay * weights
            if plan.pull:
                gradient += pull * (weights - start)
            if shift is not None:
                gradient += shift
            for view in still:
                view[...] = 0
            if plan.momentum:
                velocity *= momentum
                velocity += gradient
                np.copyto(gradient, velocity)
            gradient *= rate
            weights -= gradient
        return unflatten(self.manifest, weights)

    def losses(self, arrays: Mapping[str, Float32], rows: Float32, labels: NDArray[Any]) -> Float32:
        """The loss per row [n]."""
        return self._losses(self.forward(arrays, rows), self._targets(labels, rows.dtype))

    def evaluate(
        self, arrays: Mapping[str, Float32], rows: Float32, labels: NDArray[Any], scale: Scale = LOGIT
    ) -> Evaluation:
        """The report on these rows, its histograms on this scale."""
        outputs = self.forward(arrays, rows)
        if self.architecture.loss == "squared":
            return metrics.regression(outputs[:, 0], labels)
        losses = self._losses(outputs, self._targets(labels, rows.dtype))
        scores = outputs[:, 0] if self.architecture.loss == "binary" else outputs
        return metrics.evaluation(scores, labels, losses, logits=True, scale=scale)

    def forward(self, arrays: Mapping[str, Floats], rows: Floats) -> Floats:
        """What the last layer gives [n, outputs], before any sigmoid or softmax."""
        layers = self._viewed(arrays)
        parts = [self._forward(layers, rows[i : i + ROWS_AT_ONCE])[-1] for i in range(0, len(rows), ROWS_AT_ONCE)]
        return np.concatenate(parts) if parts else np.empty((0, self.architecture.outputs), rows.dtype)

    def gradient(self, flat: Floats, rows: Floats, labels: NDArray[Any]) -> Floats:
        """The gradient [P] of the mean loss over `rows` at the flat weight vector [P], in the vector's precision."""
        result = np.empty_like(flat)
        targets = self._targets(labels, flat.dtype)
        self._gradient(self.layers(flat), self.layers(result), rows, targets)
        return result

    def each_gradient(self, flat: Floats, rows: Floats, labels: NDArray[Any]) -> Floats:
        """The gradients [n, P] of the losses of these rows, each by itself, at the flat weight vector [P].

        Raises ValueError for a model with batch normalisation, whose rows have none of their own.
        """
        layers = self.layers(flat)
        if any(layer.norm is not None for layer in layers):
            raise ValueError("batch normalisation mixes the rows of a batch")
        values = self._forward(layers, rows)
        slope = self._output_slope(values[-1], self._targets(labels, flat.dtype)) * flat.dtype.type(len(rows))
        parts: dict[str, Floats] = {}
        for index in range(len(layers) - 1, -1, -1):
            name = self._places[index].name
            parts[f"{name}.weight"] = slope[:, :, None] * values[index][:, None, :]
            parts[f"{name}.bias"] = slope
            if index:
                slope = slope @ layers[index].weight
                slope *= values[index] > 0
        return np.concatenate([parts[spec.name].reshape(len(rows), -1) for spec in self.manifest.weights], axis=1)

    def mean_loss(self, flat: Floats, rows: Floats, labels: NDArray[Any]) -> float:
        """The mean loss over `rows` at the flat weight vector [P]."""
        outputs = self._forward(self.layers(flat), rows)[-1]
        return float(self._losses(outputs, self._targets(labels, flat.dtype)).mean())

    def layers(self, flat: Floats) -> list[Layer]:
        """The layers as views into a flat vector [P]."""
        return self._viewed(unflatten(self.manifest, flat))

    def _viewed(self, arrays: Mapping[str, Floats]) -> list[Layer]:
        return [
            Layer(
                arrays[f"{name}.weight"],
                arrays[f"{name}.bias"],
                relu,
                Norm(*(arrays[f"{norm}.{part}"] for part in NORM_PARTS)) if norm else None,
            )
            for name, relu, norm in self._places
        ]

    def _targets(self, labels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Class numbers for a softmax, otherwise a column [n, 1] of numbers."""
        return labels if self.architecture.loss == "softmax" else labels.astype(dtype).reshape(-1, 1)

    def _forward(self, layers: list[Layer], rows: Floats, seen: list[Seen | None] | None = None) -> list[Floats]:
        """The input of every layer, then the outputs.

        Normalised by the running statistics; with `seen` by the batch, and what it was is added to it for each layer.
        """
        values = [rows]
        for layer in layers:
            output = values[-1] @ layer.weight.T
            output += layer.bias
            found = None
            if layer.norm is not None:
                found = measured(layer.norm, output) if seen is None else learned(layer.norm, output)
                output = applied(layer.norm, found)
            if seen is not None:
                seen.append(found)
            if layer.relu:
                np.maximum(output, 0, out=output)
            values.append(output)
        return values

    def _gradient(
        self, layers: list[Layer], slopes: list[Layer], rows: Floats, targets: NDArray[Any]
    ) -> list[Seen | None]:
        """Write the gradient of the mean loss into `slopes`; what each layer's normalisation saw of the batch."""
        seen: list[Seen | None] = []
        values = self._forward(layers, rows, seen)
        slope = self._output_slope(values[-1], targets)
        for index in range(len(layers) - 1, -1, -1):
            norm, into, found = layers[index].norm, slopes[index].norm, seen[index]
            if norm is not None and into is not None and found is not None:
                slope = through(norm, found, into, slope)
            np.matmul(slope.T, values[index], out=slopes[index].weight)
            np.add.reduce(slope, axis=0, out=slopes[index].bias)
            if index:
                slope = slope @ layers[index].weight
                slope *= values[index] > 0  # behind the first layer every input comes from a Relu
        return seen

    def _output_slope(self, outputs: Floats, targets: NDArray[Any]) -> Floats:
        """The derivative of the mean loss by the outputs: (prediction - target) / n for all three losses."""
        if self.architecture.loss == "softmax":
            slope = softmax(outputs)
            slope[np.arange(len(slope)), targets] -= 1
        elif self.architecture.loss == "binary":
            slope = sigmoid(outputs)
            slope -= targets
        else:
            slope = outputs - targets
        slope /= slope.dtype.type(max(len(slope), 1))
        return slope

    def _losses(self, outputs: Floats, targets: NDArray[Any]) -> Floats:
        if self.architecture.loss == "softmax":
            peak = outputs.max(axis=1)
            total = np.log(np.exp(outputs - peak[:, None]).sum(axis=1)) + peak
            return total - outputs[np.arange(len(outputs)), targets]
        z, y = outputs[:, 0], targets[:, 0]
        if self.architecture.loss == "binary":
            return np.logaddexp(z.dtype.type(0), z) - z * y
        return np.square(z - y) / 2


def sigmoid(z: Floats) -> Floats:
    """1 / (1 + e^-z), without overflow."""
    half = z.dtype.type(0.5)
    return half * (np.tanh(half * z) + z.dtype.type(1))


def softmax(z: Floats) -> Floats:
    """Row by row e^z / Σ e^z, without overflow."""
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
