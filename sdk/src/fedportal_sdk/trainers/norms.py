"""Batch normalisation in numpy (Ioffe and Szegedy 2015, arXiv:1502.03167), with the constants that torch has.

Over the rows of a batch, column by column: x̂ = (x - μ)/√(σ² + ε),  y = γ·x̂ + β. Training normalises by the batch and
moves the running statistics by a tenth towards it (the variance as Σ(x - μ)²/(n - 1)); measuring uses these. A batch of
one row says nothing of a variance: it is normalised by the running statistics and does not move them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
EPSILON = 1e-5
MOMENTUM = 0.1


class Norm(NamedTuple):
    """Views [C] of one normalisation: γ, β and the running statistics, or their slopes."""

    weight: Floats
    bias: Floats
    mean: Floats
    var: Floats


class Seen(NamedTuple):
    """What one batch was: x̂ [n, C], 1/√(σ² + ε) [C], and its μ and σ² [C]; None where it did not count."""

    normal: Floats
    scale: Floats
    mean: Floats | None
    var: Floats | None


def measured(norm: Norm, values: Floats) -> Seen:
    """`values` [n, C] normalised by the running statistics."""
    scale = _scale(np.maximum(norm.var, 0))  # an optimizer at the server may have moved it below zero
    return Seen((values - norm.mean) * scale, scale, None, None)


def learned(norm: Norm, values: Floats) -> Seen:
    """`values` [n, C] normalised by themselves."""
    if len(values) < 2:
        return measured(norm, values)
    mean = values.mean(axis=0)
    centred = values - mean
    var = np.square(centred).mean(axis=0)
    scale = _scale(var)
    return Seen(centred * scale, scale, mean, var)


def applied(norm: Norm, seen: Seen) -> Floats:
    """γ·x̂ + β."""
    return seen.normal * norm.weight + norm.bias


def slope(norm: Norm, seen: Seen, into: Norm, output: Floats) -> Floats:
    """The derivative by the values, from that by the output [n, C]; those by γ and β go into `into`.

    μ and σ² of the batch depend on the values too: ∂x = γ/√(σ² + ε)·(∂y - mean(∂y) - x̂·mean(∂y·x̂)).
    """
    np.add.reduce(output, axis=0, out=into.bias)
    np.add.reduce(output * seen.normal, axis=0, out=into.weight)
    into.mean[...] = 0
    into.var[...] = 0
    found = output
    if seen.mean is not None:
        rows = output.dtype.type(len(output))
        found = output - into.bias / rows - seen.normal * (into.weight / rows)
    result: Floats = found * (norm.weight * seen.scale)
    return result


def track(norm: Norm, seen: Seen) -> None:
    """Move the running statistics towards the batch, in place."""
    if seen.mean is None or seen.var is None:
        return
    rows, take = len(seen.normal), norm.mean.dtype.type(MOMENTUM)
    norm.mean[...] += take * (seen.mean - norm.mean)
    norm.var[...] += take * (seen.var * norm.mean.dtype.type(rows / (rows - 1)) - norm.var)


def _scale(var: Floats) -> Floats:
    return 1 / np.sqrt(var + var.dtype.type(EPSILON))
