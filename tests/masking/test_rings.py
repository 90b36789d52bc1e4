"""Updates as whole numbers: clipped, scaled, rounded, weighted, and read back from a sum."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedwire.errors import FedportalError
from fedwire.masking.rings import MOST_ROOM, Ring

RINGS = [Ring(32, 1.0, 128, 1), Ring(32, 0.5, 3, 100), Ring(64, 2.0, 1024, 1 << 20), Ring(64, 1e-3, 12, 1)]
FLOATS = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=True)


def signed(ring: Ring, vector: np.ndarray) -> np.ndarray:
    return vector.view(f"<i{ring.bits // 8}").astype(object)


@pytest.mark.parametrize(
    ("bits", "devices", "weight", "room"),
    [(32, 128, 1, 24), (32, 128, 1024, 14), (64, 1024, 1 << 20, 33), (32, 2, 1, 30)],
)
def test_room_is_what_the_protocol_says(bits: int, devices: int, weight: int, room: int) -> None:
    assert Ring(bits, 1.0, devices, weight).room == room


def test_small_ring_by_hand() -> None:
    """Room for 7 bits: clip 1 is 127. The update (0.6, -0.8) is (76.2, -101.6), each rounded to a neighbour."""
    ring = Ring(32, 1.0, 1 << 24, 1)
    assert (ring.room, ring.largest) == (7, 127)
    found = {tuple(signed(ring, ring.encode(np.float32([0.6, -0.8]), 1))) for _ in range(200)}
    assert found <= {(1, a, b) for a in (76, 77) for b in (-101, -102)}
    assert len(found) == 4


@pytest.mark.parametrize("ring", RINGS)
@given(update=arrays(np.float32, st.integers(0, 20), elements=FLOATS), share=st.floats(0, 1))
def test_no_vector_is_larger_than_its_clip_and_weight(ring: Ring, update: np.ndarray, share: float) -> None:
    weight = max(1, round(ring.most_weight * share))
    found = signed(ring, ring.encode(update, weight))
    assert found[0] == weight
    assert all(number % weight == 0 and abs(number) <= weight * ring.largest for number in found[1:])
    exact = update.astype(np.float64) * min(1.0, ring.clip / max(np.linalg.norm(update.astype(np.float64)), 1e-300))
    for number, value in zip(found[1:], exact, strict=True):
        assert abs(number / weight - value * ring.scale) <= 1 + 1e-6 * ring.largest


@pytest.mark.parametrize("ring", RINGS)
def test_sum_of_largest_vectors_does_not_wrap(ring: Ring) -> None:
    for sign in (1, -1):
        one = ring.encode(np.float32([sign * ring.clip]), ring.most_weight)
        total = one * np.array(ring.devices, ring.word)
        mean, weights = ring.decode(total)
        assert weights == ring.devices * ring.most_weight
        assert mean[0] == pytest.approx(sign * ring.clip, rel=1e-6)


def test_rounding_has_no_bias() -> None:
    ring = Ring(32, 1.0, 1 << 20, 1)  # 11 bits: coarse
    update = np.full(10_000, 0.3 / ring.scale, np.float32)
    found = np.mean([signed(ring, ring.encode(update, 1))[1:].mean() for _ in range(20)])
    assert found == pytest.approx(0.3, abs=0.01)  # of 200,000 draws: five standard deviations


def test_weighted_mean_is_that_of_the_updates() -> None:
    ring = Ring(64, 10.0, 3, 1000)
    updates = np.random.default_rng(0).normal(size=(3, 50)).astype(np.float32)
    total = sum(ring.encode(update, weight) for update, weight in zip(updates, (10, 200, 1000), strict=True))
    mean, weights = ring.decode(total)
    assert weights == 1210
    expected = np.average(updates.astype(np.float64), axis=0, weights=(10, 200, 1000))
    assert np.abs(mean - expected).max() < 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_update_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(FedportalError) as refused:
        RINGS[0].encode(np.float32([1, value]), 1)
    assert refused.value.code == "not_finite"


@pytest.mark.parametrize("weight", [0, -1, 101])
def test_weight_without_room_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match="weight"):
        RINGS[1].encode(np.float32([1]), weight)


def test_sum_that_no_honest_devices_make_is_refused() -> None:
    ring = Ring(32, 1.0, 4, 1)
    for total in ([0, 5], [5, 5], [2, 2 * ring.largest + 1], [2, -2 * ring.largest - 1]):
        with pytest.raises(ValueError, match=r"weights|larger"):
            ring.decode(np.array(total, "<i4").view("<u4"))


NOISY = [Ring(32, 1.0, 12, 1, 0.3), Ring(32, 2.0, 128, 1, 5.0), Ring(64, 1.0, 128, 1, 1.0)]


@pytest.mark.parametrize("ring", NOISY)
def test_noise_has_its_share_of_the_ring(ring: Ring) -> None:
    assert ring.room >= 8
    assert ring.total < 1 << (ring.bits - 1)
    assert ring.sigma == ring.noise * ring.largest
    if ring.room < MOST_ROOM:
        assert Ring(ring.bits, ring.clip, ring.devices, 1).room > ring.room


@pytest.mark.parametrize("ring", NOISY)
def test_each_device_adds_noise_of_the_terms(ring: Ring) -> None:
    update = np.zeros(200_000, np.float32)
    update[0] = ring.clip / 2
    found = signed(ring, ring.encode(update, 1))
    assert found[0] == 1
    added = found[2:].astype(np.float64) / ring.sigma
    assert abs(added.mean()) < 6 / math.sqrt(len(added))
    assert abs(added.var() - 1) < 6 * math.sqrt(2 / len(added))
    assert abs(found[1] - ring.largest / 2) < 10 * ring.sigma


def test_mean_under_noise_is_that_of_the_updates_and_the_noise() -> None:
    ring = Ring(32, 1.0, 12, 1, 0.3)
    update = np.full(100_000, 0.001, np.float32)
    total = sum((ring.encode(update, 1) for _ in range(12)), np.zeros(100_001, ring.word))
    mean, weights = ring.decode(total)
    assert weights == 12
    sigma = 0.3 * math.sqrt(12) / 12
    assert mean.std() == pytest.approx(sigma, rel=0.02)
    assert mean.mean() == pytest.approx(0.001, abs=6 * sigma / math.sqrt(100_000))


def test_no_weight_multiplies_what_noise_hides() -> None:
    with pytest.raises(ValueError, match="weight"):
        Ring(32, 1.0, 12, 8, 0.3).encode(np.float32([1]), 2)


@pytest.mark.parametrize("ring", [Ring(32, 1.0, 128, 1), Ring(32, 0.5, 1 << 20, 1), Ring(64, 2.0, 12, 1)])
@given(update=arrays(np.float32, st.integers(1, 200), elements=st.floats(-10, 10, width=32)))
def test_rounding_makes_no_vector_longer_than_the_sensitivity(ring: Ring, update: np.ndarray) -> None:
    """‖q‖ ≤ 2ᴮ - 1 + √P: what one device can change in the sum, in steps of the grid."""
    found = signed(ring, ring.encode(update, 1))[1:].astype(np.float64)
    assert np.linalg.norm(found) / ring.scale <= ring.sensitivity(len(update)) * (1 + 1e-9)


def test_sensitivity_by_hand() -> None:
    ring = Ring(32, 1.0, 1 << 20, 1)  # 11 bits: 2,047 steps
    assert ring.sensitivity(10_000) == pytest.approx(1 + 100 / 2047)
    assert Ring(32, 10.0, 12, 1).sensitivity(1_000_000) == pytest.approx(10, rel=1e-5)
