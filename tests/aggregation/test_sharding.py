"""A model made in parts is the model made in one piece, bit for bit."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from fedwire.errors import FedportalError
from tests.aggregation.conftest import Folder, manifest_of
from training.aggregation import sharding
from training.aggregation.assembly import Digests, Recipe, write_model
from training.aggregation.kernels import Truncated
from training.aggregation.layout import BLOCK, TILE, Range, block_length
from training.aggregation.memory import StateFiles
from training.aggregation.sharding import Part
from training.aggregation.strategies import STRATEGIES
from training.aggregation.transforms import Update
from training.aggregation.variates import Cohort

LENGTH = 5 * TILE + 123
REPORTS = {"steps": 4.0, "normaliser": 4.0, "base_loss": 0.5}
EVERY = pytest.mark.parametrize("name", STRATEGIES)


def recipe_of(folder: Folder, name: str, state: StateFiles | None, **more: float) -> Recipe:
    strategy, generator = STRATEGIES[name], np.random.default_rng(5)
    manifest = manifest_of(LENGTH, 2)
    numbers = generator.standard_normal((8, LENGTH), dtype=np.float32)
    sent = [folder.update(manifest, row, place + 1) for place, row in enumerate(numbers[1:])]
    updates = [Update(one.path, one.sha256, one.samples, one.norm, REPORTS, trusted=one.samples < 3) for one in sent]
    base = folder.model(manifest, numbers[0], (3, 4))
    return Recipe(strategy, strategy.checked(more), manifest, base, updates, state)


def state_files(folder: Folder, base: Path | None = None) -> StateFiles:
    return StateFiles(base, folder.fresh(), Cohort(7, 7))


def in_one(recipe: Recipe, out: Path, threads: int = 1) -> Digests:
    return write_model(
        recipe.strategy,
        recipe.values,
        manifest=recipe.manifest,
        base=recipe.base,
        updates=recipe.updates,
        out=out,
        state=recipe.state,
        threads=threads,
    )


def in_parts(folder: Folder, recipe: Recipe, count: int, out: Path, threads: int = 1) -> Digests:
    """In any order, as several workers would."""
    ranges = sharding.parts(LENGTH, count)
    looked: list[Part] = [(within, folder.fresh()) for within in ranges] if recipe.looks else []
    for within, path in random.Random(count).sample(looked, len(looked)):
        sharding.write_products(recipe, within, path, threads, lambda: None)
    written: list[Part] = [(within, folder.fresh()) for within in ranges]
    for within, path in random.Random(count).sample(written, len(written)):
        sharding.write_part(recipe, looked, within, path, threads, lambda: None)
    return sharding.join(recipe, written, out, threads, lambda: None)


@EVERY
def test_parts_leave_no_trace(folder: Folder, name: str) -> None:
    begin = recipe_of(folder, name, state_files(folder))
    in_one(begin, folder.fresh())
    assert begin.state is not None
    # The second round, which finds a state where there is one.
    before = begin.state.out if begin.state.out.exists() else None
    whole = in_one(recipe_of(folder, name, state_files(folder, before)), folder.fresh())
    for count, threads in ((1, 1), (2, 1), (4, 2), (100, 1)):
        recipe = recipe_of(folder, name, state_files(folder, before))
        assert in_parts(folder, recipe, count, folder.fresh(), threads) == whole


@pytest.mark.parametrize("name", ["krum", "median", "bulyan", "geometric_median"])
def test_mixing_leaves_no_trace_either(folder: Folder, name: str) -> None:
    recipe = recipe_of(folder, name, None, nnm=1)
    assert in_parts(folder, recipe, 3, folder.fresh()) == in_one(recipe, folder.fresh())


@pytest.mark.parametrize("length", [1, TILE, TILE + 1, 33 * TILE, 3 * BLOCK, 40 * BLOCK + 7])
@pytest.mark.parametrize("count", [1, 2, 16, 1000])
def test_parts_are_whole_blocks_that_cover_the_vector(length: int, count: int) -> None:
    found = sharding.parts(length, count)
    assert [part.start for part in found] == [0, *(part.stop for part in found[:-1])]
    assert found[-1].stop == length
    assert len(found) <= count
    assert all(part.start % block_length(length) == 0 for part in found)


def test_part_that_is_cut_off_is_noticed(folder: Folder) -> None:
    recipe, path = recipe_of(folder, "fedavg", None), folder.fresh()
    (within,) = sharding.parts(LENGTH, 1)
    sharding.write_part(recipe, [], within, path, 1, lambda: None)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Truncated):
        sharding.join(recipe, [(within, path)], folder.fresh(), 1, lambda: None)


def test_products_that_are_cut_off_are_noticed(folder: Folder) -> None:
    recipe, path = recipe_of(folder, "krum", None), folder.fresh()
    (within,) = sharding.parts(LENGTH, 1)
    sharding.write_products(recipe, within, path, 1, lambda: None)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Truncated):
        sharding.write_part(recipe, [(within, path)], within, folder.fresh(), 1, lambda: None)


def test_part_whose_numbers_are_not_finite_is_refused(folder: Folder) -> None:
    manifest = manifest_of(8)
    huge = np.full(8, 3e38, np.float32)
    updates = [folder.update(manifest, huge, 1)]
    recipe = Recipe(STRATEGIES["fedavg"], {}, manifest, folder.model(manifest, huge), updates)
    with pytest.raises(FedportalError) as refused:
        sharding.write_part(recipe, [], Range(0, 8), folder.fresh(), 1, lambda: None)
    assert refused.value.code == "not_finite"
