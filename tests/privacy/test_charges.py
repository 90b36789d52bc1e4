"""What a round costs, by how it is protected."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedwire.grids import Grid
from fedwire.masking.rings import Ring
from fedwire.masking.terms import least_threshold
from training.privacy import accounting, charges
from training.privacy.accounting import Mechanism
from training.privacy.protection import CENTRAL, DISTRIBUTED, GROUPED, LOCAL, OPEN, RECORDS, SECURE, Protection


def test_without_noise_nothing_is_charged() -> None:
    assert charges.of(OPEN) is None
    assert charges.of(Protection(sums=SECURE)) is None


@pytest.mark.parametrize("mechanism", [CENTRAL, LOCAL])
def test_noise_on_a_grid_is_worth_what_was_asked_for(mechanism: str) -> None:
    protection = Protection(mechanism=mechanism, noise=1.5, clip=0.5)
    for parameters in (1, 62, 10**6, 10**9):
        grid = Grid(protection.clip, protection.noise, parameters)
        # No update is longer than this after it was rounded, which moves each number by half a step at most.
        longest = grid.within + math.sqrt(parameters) * grid.step / 2
        found = charges.of(protection, parameters)
        assert found == Mechanism(1.5)
        assert found.noise <= grid.sigma * grid.step / longest


@pytest.mark.parametrize("sums", [SECURE, GROUPED])
def test_shares_are_worth_a_little_less_because_the_ring_is_coarser(sums: str) -> None:
    protection = Protection(sums=sums, mechanism=DISTRIBUTED, noise=1.0, clip=2.0)
    costs = [charges.of(protection, parameters) for parameters in (62, 10**6, 10**8)]
    noises = [cost.noise for cost in costs if cost is not None]
    assert 1 > noises[0] > noises[1] > noises[2] > 0.98
    # No sum of fewer devices, each with its share, is charged for less than it is worth.
    for devices in (2, 17, 128):
        real = Ring(32, 2.0, devices, 1, 1 / math.sqrt(devices))
        assert noises[1] <= 2.0 / real.sensitivity(10**6)


def test_gradients_cost_a_step_for_each_batch() -> None:
    protection = Protection(mechanism=RECORDS, noise=1.1, rate=0.05)
    assert charges.of(protection) == Mechanism(1.1, 0.05, 20)
    assert charges.of(protection, epochs=3) == Mechanism(1.1, 0.05, 60)
    assert charges.of(replace(protection, rate=0.3), epochs=2) == Mechanism(1.1, 0.3, 7)
    sampled = accounting.epsilon([Mechanism(1.1, 0.05, 20)], 1e-5)
    assert sampled < accounting.epsilon([Mechanism(1.1, 1.0, 20)], 1e-5)


@given(
    owners=st.lists(st.integers(0, 4), min_size=2, max_size=40),
    noise=st.floats(0.1, 10),
    least=st.integers(1, 20),
)
def test_shares_are_enough_without_those_of_the_largest_organization(
    owners: list[int], noise: float, least: int
) -> None:
    names = [f"org-{number}" for number in owners]
    threshold, known = least_threshold(names), max(Counter(names).values())
    left = max(threshold, least) - known
    share = charges.share(noise, names, threshold, least)
    assert left >= 1
    assert left * share**2 >= noise**2 * (1 - 1e-12)
