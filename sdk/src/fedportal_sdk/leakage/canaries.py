"""Rows whose exposure is measured without exposing anybody: handwritten digits that everybody may see, rows that are
made up, or an organization's own, which stay on its machine.

The digits are the first 500 of the test set, as scikit-learn has it, of "Optical Recognition of Handwritten Digits"
(Alpaydin and Kaynak, 1998; UCI Machine Learning Repository, CC BY 4.0), 8×8 pixels of 0 to 16: `digits.bin` holds 500
labels, then 500·64 pixels, a byte each, compressed by zlib.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.leakage.chains import Floats
from fedwire.architectures import Architecture

DIGITS, MADE, OWN = "digits", "made", "own"
COUNT, PIXELS, SIDE, MOST = 500, 64, 8, 16.0


@dataclass(frozen=True)
class Canaries:
    """Rows [n, d] as the model takes them, with their labels [n]; `side`: of square pictures, 0 where they are none."""

    source: str
    rows: Floats
    labels: NDArray[Any]
    side: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def class_means(self) -> Floats:
        """For each row the mean of the rows of its class [n, d]; of all rows where labels are numbers."""
        if self.labels.dtype.kind == "f":
            return np.tile(self.rows.mean(axis=0), (len(self), 1))
        found = np.empty_like(self.rows)
        for value in np.unique(self.labels):
            found[self.labels == value] = self.rows[self.labels == value].mean(axis=0)
        return found


def known(architecture: Architecture, random: np.random.Generator) -> Canaries:
    """500 rows that fit the model: digits for one that takes 64 numbers and tells ten classes apart, otherwise rows
    around a centre for each class with a variance of one, as standardised columns have."""
    if architecture.inputs == PIXELS and architecture.classes == 10:
        return _digits(architecture.standardise)
    if architecture.kind == "linear":
        rows = random.normal(size=(COUNT, architecture.inputs))
        direction = random.normal(size=architecture.inputs) / np.sqrt(architecture.inputs)
        return Canaries(MADE, rows, (rows @ direction).astype(np.float32))
    labels = np.arange(COUNT) % architecture.classes
    centres = random.normal(size=(architecture.classes, architecture.inputs))
    rows = (centres[labels] + random.normal(size=(COUNT, architecture.inputs))) / np.sqrt(2)
    return Canaries(MADE, rows, labels.astype(np.int64))


def _digits(standardised: bool) -> Canaries:
    """Pixels from 0 to 1, or each with mean 0 and variance 1 where the model standardises its columns."""
    raw = np.frombuffer(zlib.decompress((files(__package__) / "digits.bin").read_bytes()), np.uint8)
    labels, rows = raw[:COUNT].astype(np.int64), raw[COUNT:].reshape(COUNT, PIXELS) / MOST
    if standardised:
        spread = rows.std(axis=0)
        rows = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1)
    return Canaries(DIGITS, rows, labels, SIDE)
