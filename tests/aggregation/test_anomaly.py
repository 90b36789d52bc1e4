"""Updates that are unlike the others are named with a reason, and honest ones are left alone."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.aggregation.conftest import Folder, manifest_of
from training.aggregation import anomaly
from training.aggregation.anomaly import Anomaly, anomalies
from training.aggregation.layout import Layout


def judged(rows: np.ndarray) -> list[Anomaly]:
    wide = np.asarray(rows, np.float64)
    return anomalies(wide @ wide.T)


def federation(devices: int, seed: int, features: int = 30, local_rows: int = 60) -> tuple[np.ndarray, list]:
    """Devices with rows of one kind: true weights, and (x, y) for each."""
    generator = np.random.default_rng(seed)
    truth = generator.standard_normal(features)
    sites = []
    for _ in range(devices):
        x = generator.standard_normal((int(local_rows * generator.uniform(0.7, 1.5)), features))
        sites.append((x, (generator.random(len(x)) < 1 / (1 + np.exp(-x @ truth))).astype(float)))
    return truth, sites


def trained(weights: np.ndarray, x: np.ndarray, y: np.ndarray, steps: int = 5, rate: float = 0.3) -> np.ndarray:
    """The update of a few steps of logistic regression."""
    local = weights.copy()
    for _ in range(steps):
        local -= rate * x.T @ (1 / (1 + np.exp(-x @ local)) - y) / len(y)
    return local - weights


def rounds_of(seed: int, attackers: int, rounds: int = 12) -> list[list[Anomaly]]:
    """What is said of 20 devices in a run, of which the first ones send their update times -4."""
    _, sites = federation(20, seed)
    weights, told = np.zeros(30), []
    for _ in range(rounds):
        updates = np.stack([trained(weights, x, y) for x, y in sites])
        sent = updates.copy()
        sent[:attackers] *= -4
        told.append(judged(sent))
        weights = weights + np.median(sent, axis=0)
    return told


@pytest.mark.parametrize("seed", range(5))
def test_devices_that_send_their_update_times_minus_four_are_flagged_in_every_round(seed: int) -> None:
    for told in rounds_of(seed, attackers=4):
        assert all(one.flagged for one in told[:4])
        assert all(one.times > 2.5 for one in told[:4])
        assert not any(one.flagged for one in told[4:])


def test_honest_devices_with_data_of_one_kind_are_left_alone() -> None:
    flags = [one.flagged for seed in range(10) for told in rounds_of(seed, attackers=0) for one in told]
    assert len(flags) == 10 * 12 * 20
    assert sum(flags) <= len(flags) / 1000


@pytest.mark.parametrize("length", [1, 2, 3, 10, 10_000])
def test_noise_without_a_direction_is_not_told_to_point_away(length: int) -> None:
    rows = np.random.default_rng(length).standard_normal((20, length))
    assert not any("points away" in one.reason for one in judged(rows))


def test_reasons_are_words_with_numbers() -> None:
    rows = np.random.default_rng(1).normal(1, 0.05, (9, 40))
    rows[0] *= 4
    rows[1] *= -1
    rows[2] *= 0.01
    rows[3, :20] += 2
    rows[3] *= np.linalg.norm(rows[8]) / np.linalg.norm(rows[3])
    told = judged(rows)
    assert told[0].reason == "its norm is 4.0 times the median of the round"
    assert told[1].reason == "it points away from the others (cosine −1.00)"
    assert told[2].reason == "its norm is 0.01 times the median of the round"
    assert re.fullmatch(
        r"its direction is [34]\.\d times as far from the others' as is usual in this round", told[3].reason
    )
    assert [one.reason for one in told[4:]] == [""] * 5


def test_an_inverted_and_long_update_has_both_reasons() -> None:
    rows = np.random.default_rng(1).normal(1, 0.05, (9, 40))
    rows[0] *= -4
    assert judged(rows)[0].reason == (
        "its norm is 4.0 times the median of the round; it points away from the others (cosine −1.00)"
    )


def test_numbers_by_hand() -> None:
    # Norms 5, 5, 5, 10: the median is 5, the deviation its least, a twentieth of that.
    told = judged(np.array([[3, 4], [3, 4], [3, 4], [6, 8]]))
    assert [one.norm for one in told] == [5, 5, 5, 10]
    assert [one.times for one in told] == [1, 1, 1, 2]
    assert told[3].deviations == pytest.approx(20)
    assert [one.cosine for one in told] == pytest.approx([1, 1, 1, 1])
    assert [one.distance for one in told] == [1, 1, 1, 1]
    assert told[3].score == pytest.approx(0.8)
    assert not told[3].flagged


def test_a_device_that_trained_longer_in_the_same_direction_is_left_alone() -> None:
    rows = np.random.default_rng(4).normal(1, 0.02, (10, 40))
    rows[0] *= 2.2
    assert not any(one.flagged for one in judged(rows))


def test_updates_of_zeros_are_all_alike() -> None:
    assert [(one.score, one.reason) for one in judged(np.zeros((5, 3)))] == [(0, "")] * 5


def test_update_of_zeros_among_others_did_not_train() -> None:
    told = judged(np.array([[1.0, 1], [1, 1.1], [1.1, 1], [0, 0]]))
    assert [one.flagged for one in told] == [False, False, False, True]
    assert told[3].reason == "its norm is 0 times the median of the round"


@pytest.mark.parametrize("count", [1, 2])
def test_nobody_is_flagged_where_there_is_nothing_to_compare_with(count: int) -> None:
    told = judged(np.array([[1.0, 0], [-1000, 5]])[:count])
    assert [(one.score, one.reason) for one in told] == [(0, "")] * count


@settings(max_examples=60, deadline=None)
@given(some.integers(0, 10**6), some.integers(3, 25), some.integers(0, 4), some.sampled_from([1e30, -1e15, 4.0, 0.0]))
def test_scores_are_finite_and_say_why(seed: int, count: int, wrong: int, size: float) -> None:
    rows = np.random.default_rng(seed).standard_normal((count, 12))
    rows[:wrong] *= size
    for one in judged(rows):
        assert 0 <= one.score <= anomaly.HIGHEST
        assert -1 <= one.cosine <= 1
        assert bool(one.reason) == one.flagged


@settings(max_examples=40, deadline=None)
@given(some.integers(0, 10**6), some.sampled_from([2.0**-20, 0.5, 1024.0]))
def test_scores_do_not_depend_on_the_unit(seed: int, factor: float) -> None:
    rows = np.random.default_rng(seed).standard_normal((9, 12))
    for one, other in zip(judged(rows), judged(rows * factor), strict=True):
        assert other.score == pytest.approx(one.score, rel=1e-4, abs=1e-9)


def test_scores_follow_their_updates_whatever_the_order(folder: Folder) -> None:
    manifest = manifest_of(5000)
    rows = np.random.default_rng(3).standard_normal((8, 5000), dtype=np.float32)
    rows[2] *= 10
    updates = [folder.update(manifest, row, 1) for row in rows]
    layout = Layout.of(manifest)
    told = anomaly.of_updates(updates, layout)
    assert [one.flagged for one in told] == [place == 2 for place in range(8)]
    assert anomaly.of_updates(updates[::-1], layout, threads=2) == told[::-1]
