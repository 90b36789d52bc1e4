"""Convolutional models, trained by torch. The only module of the SDK that imports torch, and only when it is used."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.trainers.plan import Plan, Tick
from fedwire import metrics
from fedwire.architectures import Architecture, Conv, Dense, Flatten, MaxPool, Norm, Relu, Step
from fedwire.errors import FedportalError
from fedwire.histograms import LOGIT, Scale
from fedwire.messages import Evaluation
from fedwire.tensors import Float32, unflatten

ROWS_AT_ONCE = 1024


def torch_module() -> Any:
    """torch. Raises `torch_missing` when it is not installed."""
    try:
        import torch  # noqa: PLC0415  (takes a second and 200 MB, and most devices do without)
    except ImportError as error:
        raise FedportalError("torch_missing") from error
    return torch


def build(architecture: Architecture) -> Any:
    """A torch module of this architecture; the names of its `state_dict` are those of the manifest.

    Its input is [n, inputs] (or [n, C, H, W] for a cnn) before standardisation, its output what the last step gives.
    """
    torch = torch_module()

    class Standardise(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(architecture.inputs))
            self.register_buffer("std", torch.ones(architecture.inputs))

        def forward(self, rows: Any) -> Any:
            return ((rows.flatten(1) - self.mean) / self.std).view(rows.shape)

    class Model(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            if architecture.standardise:
                self.standardise = Standardise()
            self.layers = torch.nn.Sequential(*(_layer(torch, step) for step in architecture.steps))

        def forward(self, rows: Any) -> Any:
            if architecture.standardise:
                rows = self.standardise(rows)
            return self.layers(rows)

    return Model()


def state_dict_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Copies of the arrays as torch tensors."""
    torch = torch_module()
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def arrays_of(state: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The tensors (of torch, on any device, or arrays) as numpy arrays."""
    return {name: _array(value) for name, value in state.items()}


class TorchTrainer:
    """Trains with torch on the processor, or on the first GPU if there is one and `device` does not say otherwise.

    On the processor the same seed gives the same bits on the same machine; on a GPU torch is asked for the same.
    """

    def __init__(self, architecture: Architecture, device: str | None = None) -> None:
        self._torch = torch_module()
        self.architecture = architecture
        self.device = device or ("cuda" if self._torch.cuda.is_available() else "cpu")

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
        torch = self._torch
        layers = self._layers(arrays).train()
        _freeze(layers, frozenset(frozen))
        inputs, targets = self._rows(rows), self._targets(labels)
        parameters = [parameter for parameter in layers.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(
            parameters, lr=plan.learning_rate, momentum=plan.momentum, weight_decay=plan.weight_decay
        )
        pull = self._pull(layers, plan.pull, anchor if anchor is not None else arrays, shift)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            for batch in plan.batches(len(rows), tick):
                chosen = torch.from_numpy(batch).to(self.device)
                optimizer.zero_grad(set_to_none=True)
                layers.train(len(batch) > 1)  # one row says nothing of a variance
                self._losses(layers(inputs[chosen]), targets[chosen]).mean().backward()
                pull()
                optimizer.step()
        return {f"layers.{name}": _array(value) for name, value in layers.state_dict().items()}

    def each_gradient(self, flat: Float32, rows: Float32, labels: NDArray[Any]) -> NDArray[Any]:
        """The gradients [n, P] of the losses of these rows, each by itself, at the flat weight vector [P].

        Raises ValueError for a model with batch normalisation, whose rows have none of their own.
        """
        if any(isinstance(step, Norm) for step in self.architecture.steps):
            raise ValueError("batch normalisation mixes the rows of a batch")
        torch, manifest = self._torch, self.architecture.manifest()
        layers = self._layers(unflatten(manifest, flat))
        weights = {name: parameter.detach() for name, parameter in layers.named_parameters()}

        def loss(weights: Any, row: Any, target: Any) -> Any:
            outputs = torch.func.functional_call(layers, weights, (row.unsqueeze(0),))
            return self._losses(outputs, target.unsqueeze(0))[0]

        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))
        found = each(weights, self._rows(rows), self._targets(labels))
        parts = [found[spec.name.removeprefix("layers.")].flatten(1) for spec in manifest.weights]
        return _array(torch.cat(parts, dim=1))

    def losses(self, arrays: Mapping[str, Float32], rows: Float32, labels: NDArray[Any]) -> Float32:
        """The loss per row [n]."""
        outputs = self._torch.from_numpy(self.forward(arrays, rows))
        return _array(self._losses(outputs, self._torch.from_numpy(np.asarray(labels))))

    def evaluate(
        self, arrays: Mapping[str, Float32], rows: Float32, labels: NDArray[Any], scale: Scale = LOGIT
    ) -> Evaluation:
        """The report on these rows, its histograms on this scale."""
        outputs = self.forward(arrays, rows)
        if self.architecture.loss == "squared":
            return metrics.regression(outputs[:, 0], labels)
        losses = _array(self._losses(self._torch.from_numpy(outputs), self._torch.from_numpy(np.asarray(labels))))
        scores = outputs[:, 0] if self.architecture.loss == "binary" else outputs
        return metrics.evaluation(scores, labels, losses, logits=True, scale=scale)

    def forward(self, arrays: Mapping[str, Float32], rows: Float32) -> Float32:
        """What the last step gives [n, outputs], before any sigmoid or softmax. Rows come standardised."""
        torch, layers, parts = self._torch, self._layers(arrays).eval(), []
        with torch.no_grad():
            for start in range(0, len(rows), ROWS_AT_ONCE):
                parts.append(_array(layers(self._rows(rows[start : start + ROWS_AT_ONCE]))))
        return np.concatenate(parts) if parts else np.empty((0, self.architecture.outputs), np.float32)

    def _layers(self, arrays: Mapping[str, Float32]) -> Any:
        layers = build(self.architecture).layers
        state = {name.removeprefix("layers."): a for name, a in arrays.items() if name.startswith("layers.")}
        wanted = OrderedDict(state_dict_of(state))
        for name, value in wanted.items():
            if name.endswith(".running_var"):
                value.clamp_(min=0)  # an optimizer at the server may have moved it below
        # Says that batch normalisations count no batches, which torch would otherwise miss.
        wanted._metadata = layers.state_dict()._metadata  # type: ignore[attr-defined]
        layers.load_state_dict(wanted)
        return layers.to(self.device)

    def _pull(self, layers: Any, mu: float, anchor: Mapping[str, Float32], shift: Float32 | None) -> Callable[[], None]:
        """Adds mu·(w - w₀) + shift to the gradients, w₀ being `anchor`."""
        torch, terms = self._torch, []
        parts = unflatten(self.architecture.manifest(), shift) if shift is not None else {}
        for name, parameter in layers.named_parameters():
            if not parameter.requires_grad:
                continue
            start = torch.tensor(np.array(anchor[f"layers.{name}"]), device=self.device) if mu else None
            part = parts.get(f"layers.{name}")
            terms.append((parameter, start, torch.tensor(part, device=self.device) if part is not None else None))

        def pull() -> None:
            with torch.no_grad():
                for parameter, start, part in terms:
                    if start is not None:
                        parameter.grad.add_(parameter - start, alpha=mu)
                    if part is not None:
                        parameter.grad.add_(part)

        return pull

    def _rows(self, rows: Float32) -> Any:
        return self._torch.from_numpy(np.array(rows)).to(self.device).view(-1, *self.architecture.input_shape)

    def _targets(self, labels: NDArray[Any]) -> Any:
        return self._torch.from_numpy(np.array(labels)).to(self.device)

    def _losses(self, outputs: Any, targets: Any) -> Any:
        functional = self._torch.nn.functional
        if self.architecture.loss == "softmax":
            return functional.cross_entropy(outputs, targets, reduction="none")
        target = targets.to(outputs.dtype)
        if self.architecture.loss == "binary":
            return functional.binary_cross_entropy_with_logits(outputs[:, 0], target, reduction="none")
        return (outputs[:, 0] - target).square() / 2


def _freeze(layers: Any, frozen: frozenset[str]) -> None:
    """Let the parameters and running statistics of these names stay as they are."""
    for name, parameter in layers.named_parameters():
        parameter.requires_grad_(f"layers.{name}" not in frozen)
    for name, module in layers.named_modules():
        if f"layers.{name}.running_mean" in frozen:
            module.momentum = 0.0


def _norm(torch: Any, size: int, images: bool) -> Any:
    made = torch.nn.BatchNorm2d(size) if images else torch.nn.BatchNorm1d(size)
    made.num_batches_tracked = None  # a counter that nobody needs with a momentum
    return made


def _layer(torch: Any, step: Step) -> Any:
    match step:
        case Dense(inputs=inputs, outputs=outputs):
            return torch.nn.Linear(inputs, outputs)
        case Conv(inputs=inputs, outputs=outputs):
            return torch.nn.Conv2d(inputs, outputs, 3, padding=1)
        case Norm(size=size, images=images):
            return _norm(torch, size, images)
        case Relu():
            return torch.nn.ReLU()
        case MaxPool():
            return torch.nn.MaxPool2d(2)
        case Flatten():
            return torch.nn.Flatten()


def _array(value: Any) -> NDArray[Any]:
    if not hasattr(value, "detach"):
        return np.asarray(value)
    tensor = value.detach().cpu()
    # numpy has no bfloat16; a weight travels as float32 anyway.
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
