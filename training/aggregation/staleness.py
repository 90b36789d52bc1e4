"""Answers that began from an older model: how much they count, and what they are from where the model stands now.

The staleness τ of an answer is the number of models that were made since the one it began from. An answer with τ = 0 is
taken as it is, bit for bit, so a round of fresh answers gives what a synchronous one does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from fedwire.tensors import Float32
from training.aggregation.kernels import Vector, Weights
from training.aggregation.layout import Layout, Range
from training.aggregation.transforms import Update


def polynomial(staleness: int, exponent: float) -> float:
    """s(τ) = (1 + τ)^-a (Xie, Koyejo and Gupta 2019, arXiv:1903.03934); 1 for τ = 0, and for all τ with a = 0."""
    return float((1 + staleness) ** -exponent)


class Discounted(Vector):
    """s·Δ, read from Δ."""

    def __init__(self, update: Vector, factor: float) -> None:
        super().__init__(update.path, 0, update.length)
        self._update = update
        self._factor = np.float32(factor)
        self.files = update.files

    @contextmanager
    def opened(self) -> Iterator[Vector]:
        """Keep the update's file open meanwhile."""
        with self._update.opened():
            yield self

    def read(self, part: Range, into: Float32) -> Float32:
        """The numbers of `part`, in the first places of `into`. Raises Truncated, OSError."""
        tile = self._update.read(part, into)
        np.multiply(tile, self._factor, out=tile)
        return tile


class Rebased(Vector):
    """(x_τ - x) + Δ: how the model that a device trained from x_τ differs from the model x as it is now."""

    def __init__(self, update: Vector, began: Vector, now: Vector) -> None:
        super().__init__(update.path, 0, update.length)
        self._update = update
        self._began = began
        self._now = now
        self.files = update.files + began.files

    @contextmanager
    def opened(self) -> Iterator[Vector]:
        """Keep the files of the update and of the old model open meanwhile; the other is held by whoever has it."""
        with ExitStack() as stack:
            stack.enter_context(self._update.opened())
            stack.enter_context(self._began.opened())
            yield self

    def read(self, part: Range, into: Float32) -> Float32:
        """The numbers of `part`, in the first places of `into`. Raises Truncated, OSError."""
        tile, other = self._began.read(part, into), np.empty(len(part), np.float32)
        np.subtract(tile, self._now.read(part, other), out=tile)
        np.add(tile, self._update.read(part, other), out=tile)
        return tile


def from_here(
    vectors: Sequence[Vector], updates: Sequence[Update], now: Vector, layout: Layout, *, rebases: bool
) -> list[Vector]:
    """The vectors of these updates as they count for the model `now`: with `rebases` measured from it, and discounted.

    An update without a base of its own began from `now`.
    """
    found = []
    for vector, update in zip(vectors, updates, strict=True):
        if rebases and update.base is not None:
            vector = Rebased(vector, Weights(update.base, layout), now)
        found.append(vector if update.discount == 1 else Discounted(vector, update.discount))
    return found
