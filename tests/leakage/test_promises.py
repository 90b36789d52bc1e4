"""What protection must do against these attacks, over 100 digits and a small multi-layer perceptron.

All of scikit-learn's digits are known to the attacker, who reads the model's widths, weights and settings.
"""

from __future__ import annotations

import numpy as np
import pytest

from fedportal_sdk.leakage import trials
from fedportal_sdk.leakage.canaries import Canaries
from fedportal_sdk.leakage.guards import Guard, groups
from fedportal_sdk.leakage.trials import TOLERANCE, Bench
from fedportal_sdk.trainers import Plan
from tests.leakage.world import IMAGES, World

ALIVE = 60.0
# Noise is drawn anew each time; of one draw the mean is off by a few tenths of a decibel.
DRAWS = 4


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_without_protection_every_image_is_recovered(world):
    found = world.attacked()
    assert found.attacks["ratios"] >= ALIVE
    assert found.attacks["search"] >= 40
    assert found.share == 1.0
    assert np.abs(found.guesses - world.canaries.rows[world.places]).max() < 1e-3


@pytest.mark.parametrize("codec", ["float16", "int8"])
def test_fewer_bytes_are_no_protection(world, codec):
    assert world.attacked(codec={"name": codec}).above > 30


@pytest.mark.parametrize("devices", [10, 100])
def test_of_a_sum_no_attack_tells_more_than_the_mean_of_the_class(world, devices):
    found = world.attacked(sums="secure", least_devices=devices)
    assert found.rows == IMAGES
    assert found.above <= TOLERANCE
    assert found.floor == pytest.approx(14.3, abs=0.5)


def test_a_small_sum_of_single_rows_may_still_hold_one_that_stands_alone(world):
    """Which is why secure sums are promised with noise, or with more rows, and the audit says `closest`."""
    few, many = (world.attacked(sums="secure", least_devices=devices) for devices in (10, 100))
    assert few.share > 0.1
    assert many.share < few.share


def test_before_the_sum_the_portal_holds_numbers_that_say_nothing(world):
    found = world.attacked(mask=True, sums="secure")
    assert found.above <= TOLERANCE
    assert found.share == 0


@pytest.mark.parametrize("noise", [0.1, 0.3, 1.0])
def test_under_a_devices_own_noise_no_attack_tells_more_than_the_mean_of_the_class(world, noise):
    found = [world.attacked(mechanism="local", noise=noise) for _ in range(DRAWS)]
    assert {name for one in found for name in one.attacks} == {"ratios", "search", "informed", "classwise"}
    assert np.mean([one.above for one in found]) <= TOLERANCE


def test_with_a_hundredth_of_the_noise_the_same_attacks_see_the_images(world):
    assert world.attacked(mechanism="local", noise=0.001).above > 10


def test_whoever_knows_the_class_from_elsewhere_gains_until_the_noise_is_half_the_clip(world):
    little, more = (world.attacked(mechanism="local", noise=noise) for noise in (0.1, 0.5))
    assert little.told is not None
    assert more.told is not None
    assert little.told - little.floor > 1
    assert more.told - more.floor <= TOLERANCE


def test_under_sums_with_noise_no_attack_tells_more_than_the_mean_of_the_class(world):
    found = world.attacked(sums="secure", mechanism="distributed", noise=0.1)
    assert found.above <= TOLERANCE
    assert found.share < 0.1


def test_noise_that_the_portal_adds_itself_is_not_on_what_it_holds(world):
    assert world.attacked(mechanism="central", noise=1.0).attacks["ratios"] >= ALIVE


def test_members_are_told_from_others_without_protection_and_not_under_noise(world):
    few = Canaries("digits", world.canaries.rows[:400], world.canaries.labels[:400])
    bench = Bench(world.bench.chain, world.bench.weights, Plan(epochs=60, learning_rate=0.2))
    plain = trials.tell_members(bench, Guard(), few, np.random.default_rng(1))
    noised = trials.tell_members(bench, Guard(mechanism="local", clip=1.0, noise=0.5), few, np.random.default_rng(1))
    assert plain["loss"].auc_interval[0] > 0.6
    assert all(low <= 0.5 <= high + 0.05 for low, high in (one.auc_interval for one in noised.values()))


def test_every_device_is_in_one_sum_of_enough():
    assert groups(100, 10) == [(start, start + 10) for start in range(0, 100, 10)]
    assert groups(25, 10) == [(0, 10), (10, 25)]
    assert groups(5, 5) == [(0, 5)]
