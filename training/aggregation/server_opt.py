"""From the combined update to the new model: the server's optimizers and what they remember from round to round.

A step may keep *state vectors*, as long as the model and float32 like it. They are read and written tile by tile with
the model, so memory does not grow with them either.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from fedwire.tensors import Float32

State = Sequence[Float32]


class ServerStep(Protocol):
    """Writes the new weights of one tile over the combined update, and the next state over the state.

    It changes nothing else, and every number depends on the numbers at its own place only.
    """

    @property
    def state(self) -> tuple[float, ...]:
        """The value with which every number of each state vector begins; empty for a step that remembers nothing."""

    def tile(self, base: Float32, update: Float32, state: State) -> None:
        """`update` becomes the new weights that follow `base`; each vector of `state` becomes what it is next."""


@dataclass(frozen=True)
class Add:
    """new = base + Δ: a server step with learning rate 1."""

    state: ClassVar[tuple[float, ...]] = ()

    def tile(self, base: Float32, update: Float32, state: State) -> None:
        """Add the base."""
        np.add(base, update, out=update)


@dataclass(frozen=True)
class Scaled:
    """new = base + η·Δ. Its state, the mean of the devices' variates, is folded before it and stays as it is."""

    rate: float

    state: ClassVar[tuple[float, ...]] = (0.0,)

    def tile(self, base: Float32, update: Float32, state: State) -> None:
        """Add the share of the update."""
        np.multiply(update, np.float32(self.rate), out=update)
        np.add(base, update, out=update)


@dataclass(frozen=True)
class Times:
    """new = base + η·Δ, and nothing is remembered. With η = 1 it is `Add`, bit for bit."""

    rate: float

    state: ClassVar[tuple[float, ...]] = ()

    def tile(self, base: Float32, update: Float32, state: State) -> None:
        """Add the share of the update."""
        np.multiply(update, np.float32(self.rate), out=update)
        np.add(base, update, out=update)


@dataclass(frozen=True)
class Corrected:
    """new = base + Δ - h/α (Acar et al. 2021). Its state h is folded before it and stays as it is."""

    alpha: float

    state: ClassVar[tuple[float, ...]] = (0.0,)

    def tile(self, base: Float32, update: Float32, state: State) -> None:
        """Add what is left of the update."""
        (h,) = state
        np.subtract(update, h / np.float32(self.alpha), out=update)
        np.add(base, update, out=update)


@dataclass(frozen=True)
class Momentum:
    """m ← β·m + Δ,  new = base + η·m (Hsu, Qi and Brown 2019, FedAvgM). m begins at 0.

    With η = 1 and β = 0 it is `Add`, bit for bit.
    """

    rate: float
    beta: float

    state: ClassVar[tuple[float, ...]] = (0.0,)

    def tile(self, base: Float32, update: Float32, state: State) -> None:
        """One step of gradient descent with momentum, -Δ being the gradient."""
        (m,) = state
        np.multiply(m, np.float32(self.beta), out=m)
        np.add(m, update, out=m)
        np.multiply(m, np.float32(self.rate), out=update)
        np.add(base, update, out=update)


# Makes the next second moment of `v`; `squares` is Δ² and may be overwritten.
Moment = Callable[[Float32, Float32], None]


@dataclass(frozen=True)
class Adaptive:
    """m ← β₁·m + (1-β₁)·Δ,  v ← moment(v, Δ²),  new = base + η·m / (√v + τ).

    Algorithm 2 of Reddi et al. 2021 to the letter: m begins at 0, v at τ², and no bias is corrected. Implementations in
    wide use differ: many begin v at 0, and those that hand -Δ as a gradient to a ready-made Adam multiply the step by
    √(1-β₂ᵗ)/(1-β₁ᵗ), so their first steps are longer; Adagrad often comes without m, which is β₁ = 0 here.
    """

    rate: float
    beta1: float
    tau: float
    moment: Moment

    @property
    def state(self) -> tuple[float, ...]:
        """m and v."""
        return 0.0, self.tau * self.tau

    def tile(self, base: Float32, update: Float32, state: State) -> None:
        """One step of Algorithm 2."""
        m, v = state
        self.moment(v, update * update)
        np.multiply(m, np.float32(self.beta1), out=m)
        np.multiply(update, np.float32(1 - self.beta1), out=update)
        np.add(m, update, out=m)
        np.sqrt(v, out=update)
        np.add(update, np.float32(self.tau), out=update)
        np.divide(m, update, out=update)
        np.multiply(update, np.float32(self.rate), out=update)
        np.add(base, update, out=update)


def adagrad(v: Float32, squares: Float32) -> None:
    """v ← v + Δ²: the sum of all squares so far."""
    np.add(v, squares, out=v)


def adam(beta2: float) -> Moment:
    """v ← β₂·v + (1-β₂)·Δ²: the moving average of the squares."""
    keep, take = np.float32(beta2), np.float32(1 - beta2)

    def moment(v: Float32, squares: Float32) -> None:
        np.multiply(v, keep, out=v)
        np.multiply(squares, take, out=squares)
        np.add(v, squares, out=v)

    return moment


def yogi(beta2: float) -> Moment:
    """v ← v - (1-β₂)·Δ²·sign(v - Δ²): v moves towards the square by no more than (1-β₂) of that square."""
    take = np.float32(1 - beta2)

    def moment(v: Float32, squares: Float32) -> None:
        direction = np.sign(v - squares)
        np.multiply(squares, take, out=squares)
        np.multiply(squares, direction, out=squares)
        np.subtract(v, squares, out=v)

    return moment
