"""The robust strategies on files: what each promises, whatever devices send."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from fedwire.errors import FedportalError
from tests.aggregation import plain
from tests.aggregation.conftest import Folder, manifest_of
from training.aggregation.assembly import write_weights
from training.aggregation.layout import PIECE, TILE
from training.aggregation.strategies import find
from training.aggregation.strategies.robust import MULTI_KRUM, ROBUST, TRIMMED_MEAN
from training.aggregation.strategy import Strategy
from training.aggregation.transforms import in_order

PROPERTY = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ROWS = some.tuples(some.integers(7, 14), some.integers(2, 40), some.integers(0, 10**6))
EVERY = pytest.mark.parametrize("strategy", ROBUST, ids=lambda strategy: strategy.name)
MIXABLE = [strategy for strategy in ROBUST if any(parameter.name == "nnm" for parameter in strategy.parameters)]
EVERY_WAY = pytest.mark.parametrize(
    ("strategy", "nnm"),
    [pytest.param(strategy, 0, id=strategy.name) for strategy in ROBUST]
    + [pytest.param(strategy, 1, id=f"mixed {strategy.name}") for strategy in MIXABLE],
)


def updates(count: int, length: int, seed: int) -> list[tuple[np.ndarray, int]]:
    generator = np.random.default_rng(seed)
    return [(generator.standard_normal(length, dtype=np.float32), int(n)) for n in generator.integers(1, 99, count)]


def told(strategy: Strategy, **wanted: float) -> dict[str, float]:
    """Those of the parameters that the strategy has."""
    names = {parameter.name for parameter in strategy.parameters}
    return {name: value for name, value in wanted.items() if name in names}


def result(folder: Folder, strategy: Strategy, rows: list[tuple[np.ndarray, int]], **more: float) -> np.ndarray:
    return folder.aggregate(np.zeros_like(rows[0][0]), rows, strategy=strategy, **told(strategy, **more))[0]


def by_digest(folder: Folder, rows: list[tuple[np.ndarray, int]]) -> np.ndarray:
    """The rows in the order in which they are folded, in float64."""
    manifest = manifest_of(len(rows[0][0]))
    files = [(folder.update(manifest, vector, n), vector) for vector, n in rows]
    order = in_order([update for update, _ in files])
    vectors = {update.path: vector for update, vector in files}
    return np.stack([vectors[update.path] for update in order]).astype(np.float64)


@EVERY_WAY
@PROPERTY
@given(ROWS)
def test_result_is_the_reference(shared_folder: Folder, strategy: Strategy, nnm: int, drawn: tuple) -> None:
    rows = updates(*drawn)
    ordered = by_digest(shared_folder, rows)
    new = result(shared_folder, strategy, rows, nnm=nnm)
    if strategy.name == "bulyan" and nnm:
        # Mixed updates are often equal or lie evenly around their median: then rounding decides between equal choices.
        low, high = plain.mixed(ordered, 1).min(axis=0), plain.mixed(ordered, 1).max(axis=0)
        assert ((new >= low - 1e-6) & (new <= high + 1e-6)).all()
        return
    expected = plain.of(strategy.name, ordered, mix=bool(nnm))
    assert np.abs(new - expected).max() <= 1e-6 * max(np.abs(vector).max() for vector, _ in rows)


@EVERY_WAY
@PROPERTY
@given(ROWS, some.randoms(use_true_random=False))
def test_order_of_arrival_leaves_no_trace(
    shared_folder: Folder, strategy: Strategy, nnm: int, drawn: tuple, random
) -> None:
    rows = updates(*drawn)
    shuffled = random.sample(rows, len(rows))
    first, second = (result(shared_folder, strategy, order, nnm=nnm) for order in (rows, shuffled))
    assert first.tobytes() == second.tobytes()


@EVERY_WAY
def test_number_of_threads_leaves_no_trace(folder: Folder, strategy: Strategy, nnm: int) -> None:
    rows = updates(9, 3 * TILE + PIECE + 5, 1)
    base = np.ones_like(rows[0][0])
    digests = {
        folder.aggregate(base, rows, strategy=strategy, threads=threads, **told(strategy, nnm=nnm))[1]
        for threads in (1, 2, 5)
    }
    assert len(digests) == 1


@EVERY
def test_number_of_rows_that_a_device_claims_does_not_count(folder: Folder, strategy: Strategy) -> None:
    rows = updates(9, 20, 2)
    same = [(vector, 1) for vector, _ in rows]
    assert np.allclose(result(folder, strategy, rows), result(folder, strategy, same), atol=1e-6)


@EVERY
def test_equal_updates_give_what_all_of_them_say(folder: Folder, strategy: Strategy) -> None:
    vector = np.array([1.5, -2, 0, 8], np.float32)
    new = result(folder, strategy, [(vector, n) for n in range(1, 10)])
    assert np.allclose(new, vector, rtol=1e-6)


@EVERY
def test_one_update_is_added_as_it_is_where_one_is_enough(folder: Folder, strategy: Strategy) -> None:
    vector = np.array([1.5, -2, 0, 8], np.float32)
    if strategy.least_updates(strategy.checked(told(strategy, faulty=0))) > 1:
        with pytest.raises(FedportalError, match="at least 3 updates"):
            result(folder, strategy, [(vector, 3)], faulty=0)
    else:
        assert np.allclose(result(folder, strategy, [(vector, 3)], faulty=0), vector, rtol=1e-6)


@pytest.mark.parametrize("name", ["trimmed_mean", "bulyan"])
def test_guarding_against_nobody_is_the_mean(folder: Folder, name: str) -> None:
    rows = updates(9, 20, 3)
    mean = np.mean([vector.astype(np.float64) for vector, _ in rows], axis=0)
    assert np.allclose(result(folder, find(name), rows, faulty=0), mean, atol=1e-6)


def test_multi_krum_that_keeps_all_is_the_mean(folder: Folder) -> None:
    rows = updates(9, 20, 3)
    mean = np.mean([vector.astype(np.float64) for vector, _ in rows], axis=0)
    assert np.allclose(result(folder, MULTI_KRUM, rows, keep=9), mean, atol=1e-6)


@EVERY
@PROPERTY
@given(ROWS, some.sampled_from([0.25, 0.5, 2.0, 64.0]))
def test_result_grows_with_the_updates(shared_folder: Folder, strategy: Strategy, drawn: tuple, factor: float) -> None:
    rows = updates(*drawn)
    grown = [(vector * np.float32(factor), n) for vector, n in rows]
    expected = result(shared_folder, strategy, rows).astype(np.float64) * factor
    assert np.abs(result(shared_folder, strategy, grown) - expected).max() <= 1e-5 * factor


@pytest.mark.parametrize("strategy", [s for s in ROBUST if "clipping" not in s.name], ids=lambda s: s.name)
@PROPERTY
@given(ROWS)
def test_result_moves_with_the_updates(shared_folder: Folder, strategy: Strategy, drawn: tuple) -> None:
    rows = updates(*drawn)
    move = np.random.default_rng(5).standard_normal(drawn[1], dtype=np.float32)
    moved = [(vector + move, n) for vector, n in rows]
    expected = result(shared_folder, strategy, rows) + move
    assert np.abs(result(shared_folder, strategy, moved) - expected).max() <= 1e-4


@EVERY_WAY
@PROPERTY
@given(some.integers(0, 10**6), some.sampled_from([-4.0, 1e6, 1e20, -1e37]), some.integers(1, 2))
def test_wrong_updates_do_not_carry_the_result_away(
    shared_folder: Folder, strategy: Strategy, nnm: int, seed: int, size: float, faulty: int
) -> None:
    """Two of eleven send whatever they like; the result stays within the reach of what the others sent."""
    rows = updates(11, 30, seed)
    wrong = [(np.float32(size) * np.abs(vector) + np.float32(size), 10**6) for vector, _ in rows[:faulty]]
    new = result(shared_folder, strategy, wrong + rows[faulty:], nnm=nnm, faulty=faulty)
    reach = max(float(np.linalg.norm(vector)) for vector, _ in rows[faulty:])
    assert np.linalg.norm(new.astype(np.float64)) <= 2 * reach


def test_fraction_that_is_trimmed_follows_the_number_of_updates(folder: Folder) -> None:
    rows = [(np.array([n], np.float32), 1) for n in [*range(1, 10), 1000]]
    assert result(folder, TRIMMED_MEAN, rows, faulty=0, fraction=0.1).tolist() == [5.5]
    assert result(folder, TRIMMED_MEAN, rows, faulty=4, fraction=0.1).tolist() == [5.5]
    assert result(folder, TRIMMED_MEAN, [*rows[:4], rows[-1]], faulty=0, fraction=0.49).tolist() == [3]


@pytest.mark.parametrize(
    ("name", "values", "least"),
    [
        ("median", {"faulty": 2}, 5),
        ("trimmed_mean", {"faulty": 3}, 7),
        ("krum", {"faulty": 2}, 7),
        ("multi_krum", {"faulty": 2}, 7),
        ("multi_krum", {"faulty": 2, "keep": 9}, 9),
        ("bulyan", {"faulty": 2}, 11),
        ("geometric_median", {"faulty": 2}, 5),
        ("norm_clipping", {}, 1),
        ("centered_clipping", {"faulty": 2}, 5),
    ],
)
def test_fewer_updates_than_the_promise_needs_are_refused(folder: Folder, name: str, values: dict, least: int) -> None:
    rows = updates(least, 5, 0)
    assert np.isfinite(result(folder, find(name), rows, **values)).all()
    if least > 1:
        with pytest.raises(FedportalError, match=f"at least {least} updates") as refused:
            result(folder, find(name), rows[1:], **values)
        assert refused.value.code == "updates_too_few"


@EVERY
def test_memory_is_a_tile_per_update_at_most(folder: Folder, strategy: Strategy) -> None:
    import tracemalloc

    manifest = manifest_of(16 * TILE)
    vectors = [vector for vector, _ in updates(11, 16 * TILE, 6)]
    base = folder.model(manifest, vectors[0])
    files = [folder.update(manifest, vector, 1) for vector in vectors]
    del vectors
    tracemalloc.start()
    try:
        write_weights(strategy, strategy.checked({}), manifest, base, files, folder.fresh(), 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (len(files) + 3) * TILE * 4
