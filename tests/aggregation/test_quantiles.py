"""A clip that follows a quantile: where it goes, what it costs, and that its count is noised."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.aggregation import quantiles


@pytest.mark.parametrize("devices", [1, 3, 100, 10_000])
@pytest.mark.parametrize("noise", [0.01, 1.0, 30.0])
def test_sum_and_count_together_are_worth_the_noise_that_is_charged(noise: float, devices: int) -> None:
    """A device moves the sum by the clip and the count by a half: as one Gaussian the squares of both add up."""
    squared = quantiles.sum_noise(noise, devices) ** -2 + (0.5 / quantiles.count_noise(noise, devices)) ** 2
    assert squared**-0.5 == pytest.approx(noise, rel=1e-12)
    assert noise < quantiles.sum_noise(noise, devices) < 1.033 * noise


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("start", [1e-2, 1e2])
def test_the_clip_finds_the_quantile_from_far_away(start: float, quantile: float) -> None:
    norms = np.random.default_rng(5).lognormal(0, 1, 2000)
    clip, seen = start, []
    for round_ in range(300):
        clip = quantiles.follow(clip, list(norms), quantile, 1.0)
        seen.append(clip) if round_ >= 250 else None
    within = np.mean(norms <= np.exp(np.mean(np.log(seen))))
    assert abs(within - quantile) < 0.05


def test_the_count_is_noised_as_much_as_it_says() -> None:
    """With half of them within, the clip moves by exp(-η·(½ + noise/n - γ)); the noise is σ_b."""
    norms, draws = [0.5, 1.5] * 50, 4000
    moved = [math.log(quantiles.follow(1.0, norms, 0.5, 1.0)) for _ in range(draws)]
    noise = (np.array(moved) / -quantiles.RATE) * len(norms)
    claimed = quantiles.count_noise(1.0, len(norms))
    assert abs(noise.var() / claimed**2 - 1) < 5 * math.sqrt(2 / draws)
    assert abs(noise.mean()) < 5 * claimed / math.sqrt(draws)
    assert len(set(moved)) > draws / 2


def test_a_clip_stays_a_number() -> None:
    assert quantiles.follow(quantiles.SMALLEST, [0.0], 0.0, 1e4) >= quantiles.SMALLEST
    assert quantiles.follow(quantiles.LARGEST, [1e30], 1.0, 1e4) <= quantiles.LARGEST
