"""Training whose every step has noise that hides single rows (DP-SGD); see `fedwire.gradients`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.trainers.plan import Plan, Tick, Trainer
from fedwire import effort, gradients
from fedwire.errors import FedportalError
from fedwire.tensors import Float32, flatten, unflatten

# So many numbers of gradients of single rows exist at a time.
NUMBERS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Asked:
    """`clip`: the largest L2 norm of a row's gradient. `noise`: the standard deviation of the noise in each step's sum,
    over the clip. `rate`: with what probability a row comes in a step."""

    clip: float
    noise: float
    rate: float

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> Asked | None:
        """What a task's `training` asks for; None where it asks for no such noise. Raises `field_invalid`."""
        said = training.get("gradients")
        if said is None:
            return None
        found: list[Any] = [said.get(name) if isinstance(said, Mapping) else None for name in ("clip", "noise", "rate")]
        if not all(type(value) in (int, float) and 0 < value < math.inf for value in found) or found[2] > 1:
            reason = "it must say a clip, noise and a rate up to 1, positive numbers"
            raise FedportalError("field_invalid", field="gradients", reason=reason)
        return cls(*map(float, found))


def steps(plan: Plan, asked: Asked) -> int:
    """How many steps are taken: of how many rows there are they know nothing."""
    return effort.steps_of(gradients.steps_of(plan.epochs, asked.rate), plan.share)


def trained(
    trainer: Trainer,
    arrays: Mapping[str, Float32],
    rows: Float32,
    labels: NDArray[Any],
    plan: Plan,
    asked: Asked,
    tick: Tick,
) -> dict[str, Float32]:
    """The weights after training that began with `arrays`, which stay as they are.

    In every step g = (Σ clip(∇ℓᵢ) + N(0, (noise·clip)²)) / batch_size over the rows i whose coin says so, and then as
    the plan says; what follows g costs nothing more. It is never the same twice: the plan's seed counts for nothing.
    Raises ValueError for a model whose rows have no gradient of their own.
    """
    manifest = trainer.architecture.manifest()
    weights = flatten(manifest, arrays)
    start, velocity = weights.astype(np.float64), np.zeros(len(weights))
    count, told = steps(plan, asked), 0
    for step in range(1, count + 1):
        come = gradients.drawn(len(rows), asked.rate)
        blocks = _blocks(trainer, weights, rows, labels, come)
        slope = gradients.noisy_sum(blocks, len(weights), asked.clip, asked.noise) / plan.batch_size
        slope += plan.weight_decay * weights + plan.pull * (weights - start)
        velocity = plan.momentum * velocity + slope
        weights = (weights - plan.learning_rate * velocity).astype(np.float32)
        if (passes := math.ceil(plan.epochs * step / count)) > told:
            told = passes
            tick(passes, plan.epochs)
    return unflatten(manifest, weights)


def _blocks(
    trainer: Trainer, weights: Float32, rows: Float32, labels: NDArray[Any], come: NDArray[np.int64]
) -> Iterator[NDArray[Any]]:
    """The gradients [b, P] of these rows, some at a time."""
    some = max(NUMBERS_AT_ONCE // max(len(weights), 1), 1)
    for first in range(0, len(come), some):
        chosen = come[first : first + some]
        with np.errstate(all="ignore"):
            yield trainer.each_gradient(weights, rows[chosen], labels[chosen])
