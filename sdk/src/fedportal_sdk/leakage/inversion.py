"""Gradient inversion: the row behind an update.

An update of one step over one row is -η·g(x). In a fully connected layer ∂L/∂W = δ·xᵀ and ∂L/∂b = δ, so each neuron's
row of ∂L/∂W over its ∂L/∂b *is* x (Phong et al., "Privacy-Preserving Deep Learning via Additively Homomorphic
Encryption", IEEE TIFS 2018, section 3); η cancels. Over several rows or steps each ratio is a weighted mean of them,
and where a neuron answers to one row only, that row. `least_squares` takes all neurons together, which is the best
linear guess where noise lies on all of them alike. Under noise `informed` and `classwise` add what is known of rows in
general and of a class: the conditional mean of a normal distribution, which no linear guess is better than.

What has no such layer, or too much noise, is searched for: the row whose gradient points where the update does
(Geiping et al., "Inverting Gradients", NeurIPS 2020: cosine distance, steps by the sign; its smoothness term is for
photographs and left out). The label is read off the last layer first (Zhao et al., "iDLG", 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedportal_sdk.leakage.chains import Chain, Floats

# A neuron whose bias moved less than this part of the most moved one says nothing.
SILENT = 1e-5
# What two rows that agree to the last bit are given.
MOST_PSNR = 200.0
STARTS = 3
STEPS = 150
RATE = 0.05
AT_ONCE = 100


@dataclass(frozen=True)
class Prior:
    """What an attacker knows of rows before they see anything: mean [d], covariance [d, d], and between which numbers
    the values lie [d]."""

    mean: Floats
    covariance: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, rows: Floats) -> Prior:
        """That of a population of rows [n, d]."""
        covariance = np.atleast_2d(np.cov(rows.T)) if len(rows) > 1 else np.eye(rows.shape[1])
        return cls(rows.mean(axis=0), covariance, rows.min(axis=0), rows.max(axis=0))

    @property
    def span(self) -> float:
        """The range of values, which PSNR is relative to."""
        return float(self.high.max() - self.low.min()) or 1.0

    def within(self, rows: Floats) -> Floats:
        """The rows with what lies outside the known range moved to its end."""
        return np.asarray(np.clip(rows, self.low, self.high))


def psnr(guess: Floats, truth: Floats, span: float) -> Floats:
    """10·log₁₀(span² / mean squared error) in dB for each row, at most MOST_PSNR."""
    error = np.square(guess - truth).mean(axis=-1)
    return np.asarray(np.minimum(10 * np.log10(span * span / np.maximum(error, 1e-300)), MOST_PSNR))


def ratios(chain: Chain, update: Floats) -> Floats:
    """ΔW/Δb of each neuron of the first layer that moved [k, d]: each a weighted mean of the rows behind the update."""
    weight, bias = chain.layer(update, 0)
    moved = np.abs(bias) > SILENT * max(float(np.abs(bias).max()), 1e-300)
    return np.asarray(weight[moved] / bias[moved, None])


def least_squares(chain: Chain, updates: Floats) -> Floats:
    """x = Σⱼ ΔWⱼ·Δbⱼ / Σⱼ Δbⱼ² for each update [n, P] → [n, d]; zeros where no neuron moved."""
    weight, bias = chain.layer(updates, 0)
    squares = np.square(bias).sum(axis=-1)
    return np.asarray(np.einsum("noi,no->ni", weight, bias) / np.where(squares > 0, squares, 1)[:, None])


def informed(chain: Chain, updates: Floats, prior: Prior, noise: float) -> Floats:
    """The mean of x given the least-squares guess y = x + e and the prior N(μ, Σ): μ + Σ(Σ + s²I)⁻¹(y - μ) [n, d].

    e has the variance s² = σ²/‖Δb‖² when each number of the update carries noise of the standard deviation σ; ‖Δb‖² is
    what is left of the measured one without the noise's share. Without noise it is `least_squares`.
    """
    guess = least_squares(chain, updates)
    if noise <= 0:
        return guess
    bias = chain.layer(updates, 0)[1]
    share = bias.shape[-1] * noise * noise
    spread = noise * noise / np.maximum(np.square(bias).sum(axis=-1) - share, 0.01 * share)
    scale, axes = np.linalg.eigh(prior.covariance)
    scale = np.maximum(scale, 0)
    kept = scale[None, :] / (scale[None, :] + spread[:, None])
    return np.asarray(prior.mean + (((guess - prior.mean) @ axes) * kept) @ axes.T)


def classwise(
    chain: Chain,
    updates: Floats,
    labels: NDArray[Any],
    moves: Mapping[int, Floats],
    priors: Mapping[int, Prior],
    noise: float,
) -> Floats:
    """As `informed`, but the attacker knows the model: `moves` says how a class's mean row moves the first layer's
    biases [outputs], which they take for the update's own, and `priors` what rows of a class are like. [n, d]

    y = Σⱼ ΔWⱼ·mⱼ/‖m‖² and s² = σ²/‖m‖². Each of the labels [n] must be in both.
    """
    weight, _ = chain.layer(updates, 0)
    found = np.empty((len(updates), weight.shape[-1]))
    for label in np.unique(labels):
        moved, prior, places = moves[int(label)], priors[int(label)], np.flatnonzero(labels == label)
        strength = max(float(moved @ moved), 1e-300)
        guess = moved @ weight[places] / strength
        spread = prior.covariance + noise * noise / strength * np.eye(weight.shape[-1])
        found[places] = prior.mean + (guess - prior.mean) @ np.linalg.solve(spread, prior.covariance)
    return found


def labels_of(chain: Chain, updates: Floats) -> NDArray[np.int64] | None:
    """The class of each update's row: ∂L/∂b of the last layer is p - y, negative for the row's class alone, so the
    update is largest there. Of two classes with one output: 1 where it grew. None for a model without classes."""
    if chain.architecture.loss == "squared":
        return None
    bias = chain.layer(updates, len(chain.places) - 1)[1]
    found = bias.argmax(axis=-1) if chain.architecture.loss == "softmax" else (bias[:, 0] > 0)
    return np.asarray(found, np.int64)


def searched(
    chain: Chain,
    weights: Floats,
    updates: Floats,
    prior: Prior,
    random: np.random.Generator,
    steps: int = STEPS,
) -> Floats | None:
    """For each update the row that was found to have the most similar gradient, from `STARTS` points drawn uniformly
    in the known range [n, d]; None for a model without classes, whose label cannot be read off."""
    labels = labels_of(chain, updates)
    if labels is None:
        return None
    lengths = np.linalg.norm(updates, axis=1, keepdims=True)
    wanted = -updates / np.where(lengths > 0, lengths, 1)
    found = np.empty((len(updates), len(prior.low)))
    # So few at once that their arrays stay in the cache and each product on one processor: others work here, too.
    for start in range(0, len(updates), AT_ONCE):
        some = slice(start, start + AT_ONCE)
        tries = [_descended(chain, weights, wanted[some], labels[some], prior, random, steps) for _ in range(STARTS)]
        away = np.stack([distance for _, distance in tries])
        found[some] = np.stack([rows for rows, _ in tries])[away.argmin(axis=0), np.arange(away.shape[1])]
    return found


def _descended(
    chain: Chain,
    weights: Floats,
    wanted: Floats,
    labels: NDArray[Any],
    prior: Prior,
    random: np.random.Generator,
    steps: int,
) -> tuple[Floats, Floats]:
    """Rows [n, d] from one random start each, by Adam on signs, and the distance that is left [n]."""
    width = np.where(prior.high > prior.low, prior.high - prior.low, 1.0)
    rows = prior.low + random.random((len(wanted), len(width))) * (prior.high - prior.low)
    mean, square = np.zeros_like(rows), np.zeros_like(rows)
    for step in range(1, steps + 1):
        slope = np.sign(chain.turned(weights, rows, labels, wanted)[1])
        mean += 0.1 * (slope - mean)
        square += 0.001 * (np.square(slope) - square)
        pace = RATE * width * (1 if step <= steps // 2 else 0.1 if step <= 7 * steps // 8 else 0.01)
        rows = prior.within(rows - pace * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8))
    return rows, chain.turned(weights, rows, labels, wanted)[0]
