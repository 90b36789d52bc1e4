"""An accountant for the tests alone: privacy loss distributions on a grid, composed by Fourier transforms.

Of the mixture P = (1 - q)·N(0, σ²) + q·N(1, σ²) against Q = N(0, σ²) and the other way round; written from the
definition δ(ε) = E_P[(1 - e^(ε - L))₊] with L = log(P/Q), and nothing else in common with what it judges.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

# Of the grid: where little noise adds up over many rounds it has to be fine and go far.
FEW, MANY = 1 << 18, 1 << 20


def epsilons(noise: float, rate: float, rounds: int, deltas: Sequence[float], around: float) -> list[float]:
    """ε of so many rounds for each δ, of the worse of both directions; `around`: what it is about, which says how fine
    a grid has to be, and how far it must go."""
    # One round of little noise has losses up to twenty; of much noise they are small, and so must the steps be.
    points = FEW if rounds < 1000 or noise >= 2 else MANY
    step = max(50 / points if noise < 2 else 2e-5, 10 * around / points)
    places = np.arange(-points // 2, points // 2) * step
    found = [_epsilons(_losses(noise, rate, removed, places), rounds, deltas, places) for removed in (True, False)]
    return [max(pair) for pair in zip(*found, strict=True)]


def _losses(noise: float, rate: float, removed: bool, places: np.ndarray) -> np.ndarray:
    """The probability of each loss of one round, on the grid, which begins in its middle."""
    step = places[1] - places[0]
    edges = np.append(places - step / 2, places[-1] + step / 2)

    def below(loss: np.ndarray) -> np.ndarray:
        """The x up to which log(P/Q) is below this."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            inside = np.expm1(loss) / rate + 1.0
            return np.where(inside > 0, noise**2 * np.log(np.maximum(inside, 1e-300)) + 0.5, -np.inf)

    if removed:
        x = below(edges)
        cumulative = (1 - rate) * norm.cdf(x / noise) + rate * norm.cdf((x - 1) / noise)
    else:
        cumulative = norm.sf(below(-edges) / noise)
    return np.fft.ifftshift(np.diff(cumulative))


def _epsilons(losses: np.ndarray, rounds: int, deltas: Sequence[float], places: np.ndarray) -> list[float]:
    composed = losses if rounds == 1 else np.fft.irfft(np.fft.rfft(losses) ** rounds, len(places))
    composed = np.fft.fftshift(composed).clip(0.0)

    def spent(found: float) -> float:
        first = int(np.searchsorted(places, found, "right"))
        return float(np.sum(composed[first:] * -np.expm1(found - places[first:])))

    def least(delta: float) -> float:
        low, high = 0.0, float(places[-1])
        while high - low > 1e-6 * max(high, 0.01):
            middle = (low + high) / 2
            low, high = (low, middle) if spent(middle) <= delta else (middle, high)
        return high

    return [least(delta) for delta in deltas]
