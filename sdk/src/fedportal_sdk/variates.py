"""What SCAFFOLD and FedDyn have a device keep between rounds: a vector of its own, and how it moves.

The vector of a round is written down before the round's answer leaves, and stays beside the one before it. Which of
them counts is for the portal to say: `counted_round` in the next task names the last round in which this device's
answer counted. So an answer that was lost, came too late, or belonged to an attempt that failed leaves no trace, and
neither does a crash at any moment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.local import Refusal
from fedportal_sdk.trainers import Plan
from fedwire.errors import FedportalError
from fedwire.messages import Task
from fedwire.tensors import Float32
from fedwire.vectors import decode_vector, encode_vector

Floats = NDArray[Any]
# What of training["requires"] makes a device keep a vector.
ABILITIES = frozenset({"scaffold", "feddyn"})
KEPT_RUNS = 20
SUFFIX = ".safetensors"


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
        """The device's vector after an update Δ [P] from training on so many rows. Raises `not_finite`."""
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
        self._folder = folder

    def own(self, run: str, counted: int, parameters: int) -> Float32:
        """The vector [P] after the round that counted last; zeros before the first.

        Raises `Refusal` when this device does not have it any more: zeros would spoil the mean that the portal keeps.
        """
        if not counted:
            return np.zeros(parameters, np.float32)
        try:
            return decode_vector(self._file(run, counted).read_bytes(), parameters)
        except (FileNotFoundError, FedportalError) as error:
            raise Refusal(f"this device does not have what it kept in round {counted} of this run any more") from error

    def keep(self, run: str, round_number: int, counted: int, vector: Float32) -> None:
        """Write down, synced, what the vector is if the answer to this round counts; forget those before `counted`."""
        path = self._file(run, round_number)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_suffix(".part")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(encode_vector(vector))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        for old in path.parent.glob(f"*{SUFFIX}"):
            if int(old.stem) < counted:
                old.unlink(missing_ok=True)
        self._tidy(path.parent)

    def forget(self, run: str) -> None:
        """The run is over: remove its vectors."""
        shutil.rmtree(self._file(run, 0).parent, ignore_errors=True)

    def _file(self, run: str, round_number: int) -> Path:
        # The portal's word is no path.
        return self._folder / hashlib.sha256(run.encode()).hexdigest()[:24] / f"{int(round_number)}{SUFFIX}"

    def _tidy(self, keep: Path) -> None:
        """Remove the vectors of all but the runs that this device worked for lately: it may not hear how they end."""
        with contextlib.suppress(FileNotFoundError):
            folders = sorted((p for p in self._folder.iterdir() if p != keep), key=lambda p: -p.stat().st_mtime)
            for folder in folders[KEPT_RUNS - 1 :]:
                shutil.rmtree(folder, ignore_errors=True)
