"""A clip that follows a quantile of the updates' norms from round to round, which costs a part of the noise. Pure.

Andrew, Thakkar, McMahan, Ramaswamy, "Differentially Private Learning with Adaptive Clipping", NeurIPS 2021,
arXiv:1905.03871: with bᵢ = 1 for an update whose norm is within the clip C, else 0,

    b̃ = ½ + (Σ (bᵢ - ½) + N(0, σ_b²)) / n        C ← C · exp(-η·(b̃ - γ))

A device that is not there adds 0 to Σ (bᵢ - ½), one that is there ±½. So the count is a Gaussian mechanism of the noise
2·σ_b, and together with a sum that has noise z_Δ it is one of the noise z, where 1/z² = 1/z_Δ² + 1/(2·σ_b)². A run says
z, which is what it is charged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fedwire import noise

# The step of the logarithm of the clip, as in the paper.
RATE = 0.2
# σ_b is a twentieth of the devices, as in the paper, but at least twice z: then the sum's noise grows by 3.3 % at most.
SHARE, LEAST = 20, 2.0
# Counts are multiplied by this before whole noise is added, so that its grid is too fine to matter.
FINE = 1024
# Beyond these a clip means nothing any more.
SMALLEST, LARGEST = 1e-12, 1e12


def count_noise(multiplier: float, devices: int) -> float:
    """σ_b: the standard deviation of the noise in the count, of a round of noise `multiplier` in all."""
    return max(devices / SHARE, LEAST * multiplier)


def sum_noise(multiplier: float, devices: int) -> float:
    """z_Δ = (1/z² - 1/(2·σ_b)²)^-½: what is left to add to the sum, so that both together are worth `multiplier`."""
    return float((multiplier**-2 - (2 * count_noise(multiplier, devices)) ** -2) ** -0.5)


def follow(clip: float, norms: Sequence[float], quantile: float, multiplier: float) -> float:
    """The clip of the next round, after one of updates with these norms; it draws anew with every call."""
    devices = len(norms)
    twice = sum(1 if norm <= clip else -1 for norm in norms)  # 2·Σ (bᵢ - ½), which one device changes by 1
    (drawn,) = noise.wide_gaussian(2 * count_noise(multiplier, devices) * FINE, 1)
    within = min(max(0.5 + (twice + int(drawn) / FINE) / (2 * devices), 0.0), 1.0)  # few devices have much noise
    return min(max(clip * math.exp(-RATE * (within - quantile)), SMALLEST), LARGEST)
