"""How a device trains a model of its own beside the common one: FedPer, FedBN, FedRep, Ditto and fine-tuning.

Its own part are tensors by name: those of the model that stay on the device (FedPer, FedBN, FedRep), or a whole second
model (Ditto). Fine-tuning keeps nothing: its model follows from the common one whenever it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.trainers import Plan, Tick, Trainer
from fedwire.errors import FedportalError
from fedwire.messages import Task
from fedwire.personal import ABILITIES, DITTO, FEDREP, FINETUNE
from fedwire.tensors import Float32

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Local:
    """Who trains on what: a trainer, the rows, and whom to tell of every epoch."""

    trainer: Trainer
    rows: Float32
    labels: NDArray[Any]
    tick: Tick

    def __call__(self, arrays: Arrays, plan: Plan, **more: Any) -> dict[str, Float32]:
        """The weights after training that begins with `arrays`."""
        return self.trainer.train(arrays, self.rows, self.labels, plan, self.tick, **more)


def asked(task: Task) -> frozenset[str]:
    """Which abilities of personalization the task requires."""
    return ABILITIES.intersection(task["training"].get("requires", ()))


def staying(task: Task) -> frozenset[str]:
    """The tensors that stay on this device."""
    return frozenset(task["training"].get("local", ()))


def joined(arrays: Arrays, own: Arrays | None) -> Arrays:
    """The model with this device's own part in place of the common one."""
    return {**arrays, **own} if own else arrays


def trained(local: Local, task: Task, plan: Plan, arrays: Arrays, own: Arrays | None) -> tuple[Arrays, Arrays | None]:
    """All weights after local training, and this device's next own part; None where there is none to keep.

    FedPer and FedBN train everything together. FedRep trains the head for `head_epochs` passes with the body as it is,
    then the body with the head as it is. Ditto trains the common model and beside it its own, see `beside`.
    """
    abilities, stays, start = asked(task), staying(task), joined(arrays, own)
    if DITTO in abilities:
        return local(arrays, plan), beside(local, task, plan, arrays, own)
    if FEDREP in abilities:
        body = frozenset(arrays) - stays
        head = local(start, replace(plan, epochs=_whole(task, "head_epochs")), frozen=body)
        weights = local({**start, **head}, plan, frozen=stays)
    else:
        weights = local(start, plan)
    return weights, {name: weights[name] for name in stays if name in weights} if stays else None


def beside(local: Local, task: Task, plan: Plan, arrays: Arrays, own: Arrays | None) -> Arrays:
    """v ← v - η·(∇F(v) + λ·(v - w)) for `personal_epochs` passes, w being the model received; v begins as w."""
    near = replace(plan, epochs=_whole(task, "personal_epochs"), mu=_number(task, "lambda"), alpha=0.0)
    return local(joined(arrays, own), near, anchor=arrays)


def tuned(local: Local, task: Task, plan: Plan, arrays: Arrays) -> Arrays:
    """The model received after `personal_epochs` more passes over this device's rows."""
    return {**arrays, **local(arrays, replace(plan, epochs=_whole(task, "personal_epochs")))}


def keeps(task: Task) -> bool:
    """Whether this device keeps something of its own between rounds."""
    return bool(asked(task) - {FINETUNE})


def is_tuned(task: Task) -> bool:
    """Whether this device's own model is made anew from the model received."""
    return FINETUNE in asked(task)


def check_finite(own: Arrays) -> None:
    """Raises `not_finite`."""
    if not all(np.isfinite(array).all() for array in own.values() if np.asarray(array).dtype.kind == "f"):
        raise FedportalError("not_finite")


def _number(task: Task, name: str) -> float:
    value = task["training"].get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise FedportalError("field_invalid", field=name, reason="it must be a number of at least 0")
    return float(value)


def _whole(task: Task, name: str) -> int:
    return int(_number(task, name))
