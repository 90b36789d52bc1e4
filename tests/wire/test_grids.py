"""Clipping and noise on whole numbers: what is within the clip after rounding, and how much noise there is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedwire import grids
from fedwire.grids import Grid

CLIP = 0.5
FLOAT32 = np.finfo(np.float32)


def updates(count: int, length: int) -> np.ndarray:
    """Random updates [count, length] of every size, some of them huge, denormal, or nothing but zeros."""
    generator = np.random.default_rng(3)
    found = generator.standard_normal((count, length))
    found *= 10.0 ** generator.uniform(-44, 37, (count, 1))
    found[::97] = 0
    found[1::97] = FLOAT32.max * np.sign(found[1::97])
    found[2::97] = FLOAT32.smallest_subnormal
    found[3::97, 1:] = 0  # a single number
    return found.astype(np.float32)


@pytest.mark.parametrize("noise", [0.05, 1.0, 30.0])
def test_no_update_is_beyond_the_clip_after_rounding(noise: float) -> None:
    length = 7
    grid = Grid(CLIP, noise, length)
    most = 0.0
    for update in updates(34_000, length):
        whole = grid.whole(update, grid.factor(grids.norm(update)))
        assert math.fsum(whole * whole) * grid.step**2 <= CLIP**2
        cast = (whole * grid.step).astype(np.float32).astype(np.float64)
        most = max(most, math.fsum(cast * cast))
    assert 0.999 * CLIP**2 < most <= CLIP**2


def test_the_room_for_rounding_is_kept_also_for_many_numbers() -> None:
    grid = Grid(CLIP, 1.0, 1_000_000)
    update = np.full(1_000_000, 0.5 * grid.step, np.float32) + np.float32(CLIP / 1000)
    whole = grid.whole(update, grid.factor(grids.norm(update)))
    size = math.sqrt(float(whole @ whole)) * grid.step
    assert 0.998 * CLIP < size <= CLIP


def test_an_update_within_the_clip_stays_as_it_is() -> None:
    update = np.array([0.1, -0.2, 0.3], np.float32)
    grid = Grid(CLIP, 1.0, 3)
    assert grid.factor(grids.norm(update)) == 1.0
    assert np.abs(grid.whole(update, 1.0) * grid.step - update).max() <= grid.step / 2


@pytest.mark.parametrize("noise", [0.1, 1.0, 8.0])
def test_the_noise_is_as_much_as_it_says(noise: float) -> None:
    """The variance of n draws is within five of its own standard deviations, σ²·√(2/n)."""
    count = 200_000
    sigma = noise * CLIP
    drawn = grids.released(np.zeros(count, np.float32), CLIP, noise).astype(np.float64)
    assert abs(drawn.var() / sigma**2 - 1) < 5 * math.sqrt(2 / count)
    assert abs(drawn.mean()) < 5 * sigma / math.sqrt(count)
    assert np.unique(drawn).size > 0.8 * count  # the grid is fine enough that draws seldom coincide


def test_two_releases_are_never_equal() -> None:
    update = np.linspace(-1, 1, 50, dtype=np.float32)
    released = {grids.released(update, CLIP, 1.0).tobytes() for _ in range(200)}
    assert len(released) == 200


@pytest.mark.parametrize(("clip", "noise", "parameters"), [(0, 1, 1), (1, 0, 1), (math.inf, 1, 1), (1, 1, 10**13)])
def test_what_is_no_grid_is_refused(clip: float, noise: float, parameters: int) -> None:
    with pytest.raises(ValueError, match=r"clip|room"):
        Grid(clip, noise, parameters)


def test_an_update_that_is_not_finite_is_not_released() -> None:
    with pytest.raises(ValueError, match="finite"):
        grids.released(np.array([np.nan], np.float32), CLIP, 1.0)
