"""The noise that the portal adds: to a sum of updates that are each within the clip, once, and none to the base."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedwire.tensors import decode_model
from tests.aggregation.conftest import Folder, manifest_of
from training.aggregation.assembly import Recipe, write
from training.aggregation.memory import StateFiles
from training.aggregation.noising import Noise
from training.aggregation.strategies import STRATEGIES, find
from training.aggregation.transforms import Update

CLIP = 0.5


def noised(
    folder: Folder, rows: list[tuple[np.ndarray, int]], noise: Noise, strategy: str = "fedavg", threads: int = 1
) -> np.ndarray:
    """What a round that begins with zeros makes of these updates, as one vector in the manifest's order."""
    length = len(rows[0][0])
    manifest = manifest_of(length)
    found, out = find(strategy), folder.fresh()
    updates = [folder.update(manifest, vector, samples) for vector, samples in rows]
    base = folder.model(manifest, np.zeros(length, np.float32))
    recipe = Recipe(found, found.checked({}), manifest, base, updates, StateFiles(None, folder.fresh()), noise=noise)
    write(recipe, out, threads)
    _, arrays = decode_model(out)
    return np.concatenate([arrays[spec.name].ravel() for spec in manifest.weights])


def test_an_update_counts_up_to_the_clip_whatever_its_size_and_its_rows(folder: Folder) -> None:
    small = Noise(CLIP, 1e-2)
    length = 50
    huge = np.full(length, 1e30, np.float32)
    unit = CLIP / math.sqrt(length)
    for samples in (1, 10**6):
        found = noised(folder, [(huge, samples), (np.zeros(length, np.float32), 3)], small)
        # Half of the clipped update, and noise of half of a hundredth of the clip in each number.
        assert np.abs(found - unit / 2).max() < 8 * 0.01 * CLIP / 2


@pytest.mark.parametrize("threads", [1, 2])
def test_the_noise_of_a_mean_is_that_of_the_sum_over_the_devices(folder: Folder, threads: int) -> None:
    length, devices = 200_000, 4
    rows = [(np.zeros(length, np.float32), 1 + each) for each in range(devices)]
    found = noised(folder, rows, Noise(CLIP, 2.0), threads=threads).astype(np.float64)
    claimed = 2.0 * CLIP / devices
    assert abs(found.var() / claimed**2 - 1) < 5 * math.sqrt(2 / length)
    halves = found.reshape(2, -1)
    assert abs(np.corrcoef(halves)[0, 1]) < 5 / math.sqrt(length / 2)  # no stream was used twice


def test_two_rounds_of_the_same_are_never_equal(folder: Folder) -> None:
    rows = [(np.ones(30, np.float32), 5)]
    assert len({noised(folder, rows, Noise(CLIP, 1.0)).tobytes() for _ in range(20)}) == 20


def test_a_server_step_works_on_what_was_released(folder: Folder) -> None:
    rows = [(np.full(9, 3, np.float32), 1)]
    found = noised(folder, rows, Noise(CLIP, 1e-2), "fedavgm")
    assert np.abs(found - CLIP / 3).max() < 8 * 0.01 * CLIP


def test_what_is_no_mean_has_no_noise_to_suit_it(folder: Folder) -> None:
    for name in ("median", "krum"):
        assert name in STRATEGIES
        with pytest.raises(ValueError, match="belongs to a mean"):
            noised(folder, [(np.ones(4, np.float32), 1)] * 5, Noise(CLIP, 1.0), name)


def test_an_update_that_was_stored_says_nothing_of_its_own_size(folder: Folder) -> None:
    """The norm that was noted when an update came is not what it is clipped by."""
    manifest = manifest_of(16)
    update = folder.update(manifest, np.full(16, 100, np.float32), 1)
    lying = Update(update.path, update.sha256, 1, norm=1e-9)
    base, out, strategy = folder.model(manifest, np.zeros(16, np.float32)), folder.fresh(), find("fedavg")
    write(Recipe(strategy, strategy.checked({}), manifest, base, [lying], noise=Noise(CLIP, 1e-2)), out)
    _, arrays = decode_model(out)
    assert np.abs(arrays["a"]).max() < CLIP
