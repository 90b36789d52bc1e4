"""Noise in the gradients of training, about single rows (DP-SGD): whose coin, which sum, how many steps.

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv:1607.00133. Every step each row tosses a coin
of a probability that the run says, the gradient of each that comes is clipped as a whole, the sum gets noise of
noise · clip, and is divided by a number that the run says too. Neither probability, divisor nor number of steps
depends on how many rows there are, so what a step gives is one sampled Gaussian mechanism about any one row that is
there or not, and nobody but the device learns which rows came.

As everything under noise, sums are whole numbers of a grid (`fedwire.grids`), and coins and noise come from the
operating system.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedwire.grids import Grid
from fedwire.masking import streams

# What a device must know where it is asked to train so.
ABILITY = "noisy_gradients"


def steps_of(epochs: int, rate: float) -> int:
    """How many steps are so many passes, when each row comes with this probability: the same for every device."""
    return max(math.ceil(epochs / rate * (1 - 1e-12)), 0)


def drawn(rows: int, rate: float) -> NDArray[np.int64]:
    """The numbers of the rows that come in a step: each with the probability `rate`, cut to 64 bits, by a coin of its
    own. Raises ValueError for a rate beyond (0, 1]."""
    if not 0 < rate <= 1:
        raise ValueError(f"no coin falls with the probability {rate}")
    if rate == 1:
        return np.arange(rows)
    words = np.zeros(rows, "<u8")
    streams.add(words, secrets.token_bytes(streams.KEY_BYTES))
    return np.flatnonzero(words < np.uint64(math.floor(rate * 2.0**64)))


def clipped_sum(grid: Grid, gradients: Iterable[NDArray[Any]]) -> NDArray[np.float64]:
    """Σ of the gradients of single rows, given in blocks [b, P], each clipped to the L2 norm of the grid: whole numbers
    of its steps, exact. One row more or less changes it, times the step, by at most the clip.

    A gradient with a number that is not finite counts as zeros: that there was one is not to be told either.
    """
    total = np.zeros(grid.parameters, np.float64)
    for block in gradients:
        exact = block.astype(np.float64)
        exact[~np.isfinite(exact).all(axis=1)] = 0
        # The largest number goes ahead, so that squares neither overflow nor vanish.
        largest = np.abs(exact).max(axis=1, initial=np.finfo(np.float64).tiny)
        with np.errstate(over="ignore"):  # what is beyond all numbers is shortened to nothing
            norms = largest * np.linalg.norm(exact / largest[:, None], axis=1)
        exact *= np.array([grid.factor(float(norm)) for norm in norms])[:, None] / grid.step
        total += np.rint(exact, out=exact).sum(axis=0)
    return total


def noisy_sum(gradients: Iterable[NDArray[Any]], parameters: int, clip: float, noise: float) -> NDArray[np.float64]:
    """What a step may show of the gradients of its rows, given in blocks [b, P]: Σ of all, each clipped to the L2 norm
    `clip`, with noise of the standard deviation noise · clip in every number [P].

    It draws anew with every call. Together with rows from `drawn` it is one Gaussian mechanism of that noise, sampled
    with that rate. Raises what `Grid` raises.
    """
    grid = Grid(clip, noise, parameters)
    total = clipped_sum(grid, gradients)
    total += grid.drawn(parameters)
    total *= grid.step
    return total
