"""An accountant for the tests alone: privacy loss distributions on a grid, composed by Fourier transforms.

Of the mixture P = (1 - q)·N(0, σ²) + q·N(1, σ²) against Q = N(0, σ²) and the other way round; written from the
definition δ(ε) = E_P[(1 - e^(ε - L))₊] with L = log(P/Q), and nothing else in common with what it judges.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

STEP = 5e-5
POINTS = 1 << 20  # losses within ± 26


def epsilon(noise: float, rate: float, rounds: int, delta: float) -> float:
    """ε of so many rounds, of the worse of both directions."""
    return max(_epsilon(_losses(noise, rate, removed), rounds, delta) for removed in (True, False))


def _losses(noise: float, rate: float, removed: bool) -> np.ndarray:
    """The probability of each loss of one round, on the grid; loss k·STEP at place k modulo POINTS."""
    edges = (np.arange(-POINTS // 2, POINTS // 2 + 1) - 0.5) * STEP

    def below(loss: np.ndarray) -> np.ndarray:
        """The x up to which log(P/Q) is below this."""
        inside = np.expm1(loss) / rate + 1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(inside > 0, noise**2 * np.log(np.maximum(inside, 1e-300)) + 0.5, -np.inf)

    if removed:
        x = below(edges)
        cumulative = (1 - rate) * norm.cdf(x / noise) + rate * norm.cdf((x - 1) / noise)
    else:
        cumulative = norm.sf(below(-edges) / noise)
    return np.fft.ifftshift(np.diff(cumulative))


def _epsilon(losses: np.ndarray, rounds: int, delta: float) -> float:
    composed = np.fft.fftshift(np.fft.ifft(np.fft.fft(losses) ** rounds).real).clip(0.0)
    places = np.arange(-POINTS // 2, POINTS // 2) * STEP

    def spent(found: float) -> float:
        above = places > found
        return float(np.sum(composed[above] * -np.expm1(found - places[above])))

    low, high = 0.0, float(places[-1])
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if spent(middle) <= delta else (middle, high)
    return high
