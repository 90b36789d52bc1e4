"""The discrete Gaussian: its distribution, what it says of its error, and that nobody can seed it."""

from __future__ import annotations

import ast
import inspect
import math

import numpy as np
import pytest

from fedwire import noise

SIGMAS = [0.3, 0.5, 1.0, 3.0, 64.0, 1024.0, 4096.0]
DRAWS = 400_000


def exact(sigma: float) -> dict[int, float]:
    """P(x) ∝ exp(-x²/2σ²), summed with the exactness of `math.fsum`."""
    reach = math.ceil(12 * sigma) + 2
    weights = {x: math.exp(-(x * x) / (2 * sigma * sigma)) for x in range(-reach, reach + 1)}
    total = math.fsum(weights.values())
    return {x: weight / total for x, weight in weights.items()}


@pytest.mark.parametrize("sigma", SIGMAS)
def test_table_is_the_distribution_to_the_last_bits(sigma: float) -> None:
    table = [0, *map(int, noise._cumulative(sigma)), 2**64]
    assert table == sorted(table)
    reach = noise._reach(sigma)
    found = {
        x: (after - before) / 2**64
        for x, before, after in zip(range(-reach, reach + 1), table, table[1:], strict=False)
    }
    expected = exact(sigma)
    assert sum(abs(found.get(x, 0.0) - share) for x, share in expected.items()) / 2 < noise.error_of(sigma, 1)
    assert all(found.get(x, 0.0) == pytest.approx(share, rel=1e-9) for x, share in expected.items() if share > 1e-9)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_draws_are_as_frequent_as_they_should_be(sigma: float) -> None:
    """Chi squared over the numbers that are expected at least fifty times: within six standard deviations."""
    drawn, counts = np.unique(noise.discrete_gaussian(sigma, DRAWS), return_counts=True)
    found, squares, cells = dict(zip(drawn.tolist(), counts.tolist(), strict=True)), 0.0, 0
    for x, share in exact(sigma).items():
        if share * DRAWS >= 50:
            squares += (found.get(x, 0) - share * DRAWS) ** 2 / (share * DRAWS)
            cells += 1
    assert abs(squares - (cells - 1)) < 6 * math.sqrt(2 * (cells - 1)) + 6


def folded(step: int, part: float) -> dict[int, float]:
    """The distribution of step·x + y with x of the standard deviation `part` and y of OVERLAP·step, summed up."""
    total: dict[int, float] = {}
    fine = exact(noise.OVERLAP * step)
    for x, share in exact(part).items():
        for y, other in fine.items():
            total[step * x + y] = total.get(step * x + y, 0.0) + share * other
    return total


@pytest.mark.parametrize(("step", "part"), [(2, 10.0), (7, 10.0), (30, 8.0)])
def test_composition_is_one_discrete_gaussian(step: int, part: float) -> None:
    found = folded(step, part)
    expected = exact(math.hypot(step * part, noise.OVERLAP * step))
    assert sum(abs(found.get(x, 0.0) - share) for x, share in expected.items()) / 2 < 1e-13


@pytest.mark.parametrize("sigma", [1.0, 4096.0, 4096.5, 1e6, 2.0**33, 2.0**50])
def test_parts_have_tables_and_the_whole_variance(sigma: float) -> None:
    parts = noise._parts(sigma)
    assert all(0 < part <= noise.MOST_SIGMA for _, part in parts)
    assert math.sqrt(sum((step * part) ** 2 for step, part in parts)) == pytest.approx(sigma, rel=1e-12)
    assert noise.furthest(sigma) >= noise.TAIL * sigma
    assert noise.wide_error_of(sigma, 1000) < 1e-9


@pytest.mark.parametrize("sigma", [5000.0, 1e6, 2.0**33])
def test_wide_draws_have_the_moments_of_the_normal_distribution(sigma: float) -> None:
    drawn = noise.wide_gaussian(sigma, DRAWS)
    assert np.abs(drawn).max() <= noise.furthest(sigma)
    assert abs((drawn / sigma).mean()) < 6 / math.sqrt(DRAWS)
    assert abs((drawn / sigma).var() - 1) < 6 * math.sqrt(2 / DRAWS)
    assert abs(((drawn / sigma) ** 4).mean() - 3) < 6 * math.sqrt(96 / DRAWS)
    for modulus in (2, 3, 1024):  # no step of a coarser part shows
        counts = np.bincount(drawn % modulus, minlength=modulus)
        expected = DRAWS / modulus
        squares = ((counts - expected) ** 2 / expected).sum()
        assert abs(squares - (modulus - 1)) < 6 * math.sqrt(2 * (modulus - 1)) + 6


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, 2.0**51])
def test_wide_noise_without_a_standard_deviation_is_none(sigma: float) -> None:
    with pytest.raises(ValueError, match="standard deviation"):
        noise.wide_gaussian(sigma, 1)


@pytest.mark.parametrize("sigma", [3.0, 64.0, 4096.0])
def test_draws_have_the_moments_of_the_normal_distribution(sigma: float) -> None:
    drawn = noise.discrete_gaussian(sigma, DRAWS) / sigma
    assert abs(drawn.mean()) < 6 / math.sqrt(DRAWS)
    assert abs(drawn.var() - 1) < 6 * math.sqrt(2 / DRAWS)
    assert abs((drawn**4).mean() - 3) < 6 * math.sqrt(96 / DRAWS)
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 6 / math.sqrt(DRAWS)


def test_no_two_draws_are_alike() -> None:
    assert (noise.discrete_gaussian(64.0, 1000) != noise.discrete_gaussian(64.0, 1000)).mean() > 0.9


@pytest.mark.parametrize("sigma", [0.0, -1.0, 4097.0, math.nan, math.inf])
def test_standard_deviations_without_a_table_are_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="standard deviation"):
        noise.discrete_gaussian(sigma, 1)


def test_error_is_counted_for_each_number() -> None:
    assert noise.error_of(1024.0, 1_000_000) == pytest.approx(1e6 * noise.error_of(1024.0, 1))
    assert noise.error_of(1024.0, 1_000_000) < 2e-9


def test_there_is_no_seed() -> None:
    """Neither a parameter nor numpy's generators: only the operating system's randomness."""
    names = {node.attr for node in ast.walk(ast.parse(inspect.getsource(noise))) if isinstance(node, ast.Attribute)}
    assert "token_bytes" in names
    assert not names & {"random", "default_rng", "seed", "Generator", "RandomState"}
    for function in (noise.discrete_gaussian, noise.wide_gaussian):
        assert set(inspect.signature(function).parameters) <= {"sigma", "count", "values"}


@pytest.mark.parametrize("sigma", [0.5, 3.0, 64.0, 1000.0])
def test_looking_up_finds_what_a_search_finds(sigma: float) -> None:
    table = noise._cumulative(sigma)
    real = table[: 2 * noise._reach(sigma)]
    drawn = np.random.default_rng(1).integers(0, 2**64, 5000, dtype=np.uint64)
    words = np.concatenate([drawn, real, real - 1, real + 1])
    found = np.minimum(noise._looked_up(table, words), len(real))
    np.testing.assert_array_equal(found, np.searchsorted(real, words, side="right"))
