"""What SCAFFOLD and FedDyn have a device keep between rounds: a vector of its own, and how it moves.

Which of the vectors kept counts is for the portal to say; see `fedportal_sdk._shelf`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk._shelf import KEPT_RUNS, Shelf
from fedportal_sdk.local import Refusal
from fedportal_sdk.trainers import Plan
from fedwire.errors import FedportalError
from fedwire.messages import Task
from fedwire.tensors import Float32
from fedwire.vectors import decode_vector, encode_vector

__all__ = ["ABILITIES", "KEPT_RUNS", "Drift", "Variates", "ability_of"]

Floats = NDArray[Any]
# What of training["requires"] makes a device keep a vector.
ABILITIES = frozenset({"scaffold", "feddyn"})


def scaffold_shift(own: Floats, common: Floats) -> Floats:
    """c - cᵢ: what SCAFFOLD adds to the gradient of every local step."""
    return common - own


def scaffold_after(own: Floats, common: Floats, delta: Floats, steps: int, rate: float) -> Floats:
    """cᵢ⁺ = cᵢ - c - Δᵢ/(Kᵢ·η): the mean of the gradients of the steps that moved the weights by Δᵢ (option II)."""
    return own - common - delta / (steps * rate)


def feddyn_shift(own: Floats) -> Floats:
    """-gᵢ: what FedDyn adds to the gradient of every local step, beside α·(x - w)."""
    return -own


def feddyn_after(own: Floats, delta: Floats, alpha: float) -> Floats:
    """gᵢ⁺ = gᵢ - α·Δᵢ: the gradient of the device's loss where its training ended, if it ended at its optimum."""
    return own - alpha * delta


@dataclass(frozen=True)
class Drift:
    """The correction of one task: `shift` [P] goes to the trainer, `after` gives the vector to keep."""

    ability: str
    own: Float32
    common: Float32
    plan: Plan

    @property
    def shift(self) -> Float32:
        """What is added to the gradient of every local step."""
        shift = scaffold_shift(self.own, self.common) if self.ability == "scaffold" else feddyn_shift(self.own)
        return shift.astype(np.float32)

    def after(self, delta: Float32, rows: int) -> Float32:
        """The device's vector after an update Δ [P], as the portal reads it, from training on so many rows.

        Raises `not_finite`.
        """
        if self.ability == "scaffold":
            found = scaffold_after(self.own, self.common, delta, self.plan.steps(rows), self.plan.learning_rate)
        else:
            found = feddyn_after(self.own, delta, self.plan.alpha)
        if not np.isfinite(found).all():
            raise FedportalError("not_finite")
        return found.astype(np.float32)


def ability_of(task: Task) -> str | None:
    """Which of ABILITIES the task asks for."""
    return next(iter(sorted(ABILITIES.intersection(task["training"].get("requires", ())))), None)


class Variates:
    """The vectors of one device, a folder for each run and a file for each round, readable by their owner only."""

    def __init__(self, folder: Path) -> None:
        self._shelf = Shelf(folder)

    def own(self, run: str, counted: int, parameters: int) -> Float32:
        """The vector [P] after the round that counted last; zeros before the first.

        Raises `Refusal` when this device does not have it any more: zeros would spoil the mean that the portal keeps.
        """
        if not counted:
            return np.zeros(parameters, np.float32)
        try:
            return decode_vector(self._shelf.read(run, counted) or b"", parameters)
        except FedportalError as error:
            raise Refusal(f"this device does not have what it kept in round {counted} of this run any more") from error

    def keep(self, run: str, round_number: int, counted: int, vector: Float32) -> None:
        """Write down, synced, what the vector is if the answer to this round counts; forget those before `counted`."""
        self._shelf.keep(run, round_number, counted, [encode_vector(vector)])

    def forget(self, run: str) -> None:
        """The run is over: remove its vectors."""
        self._shelf.forget(run)
