"""What a task says about local training."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedwire import effort
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.histograms import LOGIT, Scale
from fedwire.messages import Evaluation
from fedwire.tensors import Float32

# Called after every epoch with its number and the number of epochs; may raise to end the training.
Tick = Callable[[int, int], None]


@dataclass(frozen=True)
class Plan:
    """Mini-batch SGD: v ← momentum·v + g + weight_decay·w + (mu + alpha)·(w - w₀) + shift,  w ← w - learning_rate·v.

    w₀ are the weights that training begins with, unless a trainer is given others; so is the vector `shift`.
    The order of the rows in epoch e is drawn by PCG64 from (seed, round, e), so the same task over the same rows gives
    the same update, bit for bit on the same machine.
    """

    epochs: int = 1
    learning_rate: float = 0.1
    batch_size: int = 32
    seed: int = 0
    momentum: float = 0.0
    weight_decay: float = 0.0
    mu: float = 0.0
    alpha: float = 0.0  # what FedDyn calls mu
    round: int = 0
    share: float = 1.0  # of the steps; the first ones are taken

    @classmethod
    def of(cls, training: Mapping[str, Any], round_number: int = 0) -> Plan:
        """The plan in a task's `training`; what it leaves out has the defaults above. Raises `field_invalid`."""
        values: dict[str, Any] = {"round": round_number}
        for field in fields(cls):
            value = training.get(field.name)
            if field.name == "round" or value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise _invalid(field.name, "it must be a number")
            values[field.name] = int(value) if field.type == "int" else float(value)
        plan = cls(**values)
        plan._check()
        return plan

    @property
    def pull(self) -> float:
        """How strongly training is held near the weights it begins with."""
        return self.mu + self.alpha

    def steps(self, rows: int) -> int:
        """τ: the number of steps over so many rows."""
        return effort.steps_of(self.epochs * math.ceil(rows / self.batch_size), self.share)

    def normaliser(self, rows: int) -> float:
        """a: how often the gradients of these steps count in the update, (w₀ - w)/learning_rate = Σ cₖ·gₖ, a = Σ cₖ.

        With momentum ρ the gradient of step k (from 0) counts 1 + ρ + … + ρ^(τ-1-k) times, so
        a = Σₛ₌₁…τ (1-ρˢ)/(1-ρ) = (τ - ρ·(1-ρ^τ)/(1-ρ)) / (1-ρ), which is τ without momentum.
        """
        steps, rho = self.steps(rows), self.momentum
        return (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho)

    def batches(self, rows: int, tick: Tick) -> Iterator[NDArray[np.int64]]:
        """The row numbers of one batch after the other, all epochs, or as many as the share asks for."""
        left = self.steps(rows)
        for epoch in range(self.epochs):
            generator = np.random.Generator(np.random.PCG64([self.seed & 0xFFFFFFFFFFFFFFFF, self.round, epoch]))
            order = generator.permutation(rows)
            for start in range(0, min(rows, left * self.batch_size), self.batch_size):
                yield order[start : start + self.batch_size]
            left -= math.ceil(rows / self.batch_size)
            tick(epoch + 1, self.epochs)
            if left <= 0:
                break

    def _check(self) -> None:
        for name, least in (
            ("epochs", 0),
            ("batch_size", 1),
            ("learning_rate", 0),
            ("weight_decay", 0),
            ("mu", 0),
            ("alpha", 0),
        ):
            if getattr(self, name) < least:
                raise _invalid(name, f"it must be at least {least}")
        effort.checked(self.share, "share")
        if not 0 <= self.momentum < 1:
            raise _invalid("momentum", "it must be from 0 to below 1")


class Trainer(Protocol):
    """Trains and measures models of one architecture. Arrays go by the names of the manifest."""

    architecture: Architecture

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
        """The weights after local training that began with `arrays`, which stay as they are.

        `shift` [P], in the manifest's order, is added to the gradient of every step. `anchor`: the w₀ that the plan
        pulls towards, if it is not `arrays`. The tensors in `frozen` stay as they are, bit for bit.
        """

    def each_gradient(self, flat: Float32, rows: Float32, labels: NDArray[Any]) -> NDArray[Any]:
        """The gradients [n, P] of the losses of these rows, each by itself, at the flat weight vector [P].

        Raises ValueError for a model whose rows have none of their own.
        """

    def losses(self, arrays: Mapping[str, Float32], rows: Float32, labels: NDArray[Any]) -> Float32:
        """The loss per row [n]."""

    def forward(self, arrays: Mapping[str, Float32], rows: Float32) -> NDArray[Any]:
        """What the last layer gives [n, outputs], before any sigmoid or softmax."""

    def evaluate(
        self, arrays: Mapping[str, Float32], rows: Float32, labels: NDArray[Any], scale: Scale = LOGIT
    ) -> Evaluation:
        """The report on these rows, its histograms on this scale."""


def _invalid(name: str, reason: str) -> FedportalError:
    return FedportalError("field_invalid", field=name, reason=reason)
