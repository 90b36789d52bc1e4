"""Robust rules as they are carried out on files: see `coordinate` and `selecting` for what they compute.

The weights that transforms gave are not looked at, but for `Trusting`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from fedwire.errors import FedportalError
from fedwire.tensors import Float32
from training.aggregation.combine import Plan, Products, mean
from training.aggregation.coordinate import mean_near_median
from training.aggregation.gram import Float64, mixed
from training.aggregation.kernels import Rows
from training.aggregation.layout import PIECE, Range, cut
from training.aggregation.selecting import after_mixing, bulyan_selection, fltrust, nearest_neighbour_mixing

# Combines a matrix, which it may overwrite, into a row.
Rule = Callable[[Float32, Float32], None]


@dataclass(frozen=True)
class ByCoordinate:
    """A rule on each coordinate. `mix`: how many may be faulty for nearest-neighbour mixing before it, None without."""

    rule: Rule
    mix: int | None = None

    @property
    def looks(self) -> bool:
        """Only to mix."""
        return self.mix is not None

    def plan(self, weights: Sequence[float], products: Products) -> Plan:
        """All updates, mixed or not."""
        if self.mix is None:
            return Plan([1.0] * len(weights), partial(by_pieces, self.rule, None))
        return _of_mixed(self.rule, nearest_neighbour_mixing(products(), self.mix))


@dataclass(frozen=True)
class Selecting:
    """A weighted sum whose weights come from the Gram matrix. `mix` as above."""

    select: Callable[[Float64], Float64]
    mix: int | None = None
    looks: ClassVar[bool] = True

    def plan(self, weights: Sequence[float], products: Products) -> Plan:
        """The mean with the weights selected."""
        found = products()
        if self.mix is None:
            return Plan(self.select(found).tolist(), mean)
        mixing = nearest_neighbour_mixing(found, self.mix)
        return Plan(after_mixing(self.select(mixed(found, mixing)), mixing).tolist(), mean)


@dataclass(frozen=True)
class Trusting:
    """A weighted sum by how updates lie to a trusted one, which the weights of the transforms make up."""

    looks: ClassVar[bool] = True

    def plan(self, weights: Sequence[float], products: Products) -> Plan:
        """The mean with the weights that trust gives. Raises `trusted_missing` when the trusted update is 0."""
        try:
            return Plan(fltrust(products(), np.array(weights)).tolist(), mean)
        except ValueError as error:
            raise FedportalError("trusted_missing", reason=f"{error}.") from error


@dataclass(frozen=True)
class Bulyan:
    """θ = n - 2f updates by repeated Krum, then per coordinate the mean of the θ - 2f nearest their median."""

    faulty: int
    mix: int | None = None
    looks: ClassVar[bool] = True

    def plan(self, weights: Sequence[float], products: Products) -> Plan:
        """The updates selected, mixed or not."""
        found = products()
        keep = len(weights) - 4 * self.faulty
        rule = partial(_near_median, keep)
        if self.mix is None:
            selected = np.zeros(len(weights))
            selected[bulyan_selection(found, self.faulty)] = 1
            return Plan(selected.tolist(), partial(by_pieces, rule, None))
        mixing = nearest_neighbour_mixing(found, self.mix)
        return _of_mixed(rule, mixing[bulyan_selection(mixed(found, mixing), self.faulty)])


def by_pieces(rule: Rule, mixing: Float32 | None, rows: Rows, part: Range, out: Float32) -> None:
    """The rule on one piece of the rows after the other, so that they stay in the cache."""
    for piece in cut(part, PIECE):
        matrix = rows.matrix(piece)
        place = piece.start - part.start
        rule(matrix if mixing is None else mixing @ matrix, out[place : place + len(piece)])


def _of_mixed(rule: Rule, mixing: Float64) -> Plan:
    """Only updates that are part of a mixture are read."""
    used = mixing.any(axis=0)
    return Plan(used.astype(float).tolist(), partial(by_pieces, rule, mixing[:, used].astype(np.float32)))


def _near_median(keep: int, rows: Float32, out: Float32) -> None:
    mean_near_median(rows, keep, out)
