"""The inner products of updates in files, beside float64 on whole vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from training.aggregation.gram import Float64, gram, squared_distances
from training.aggregation.kernels import Vector
from training.aggregation.layout import PIECE, TILE

PROPERTY = settings(max_examples=25, deadline=None)
# What rounding of short sums does to a product, as a share of the lengths of its two updates.
SLACK = 1e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gram")


def found(folder: Path, rows: np.ndarray, threads: int = 1) -> Float64:
    vectors = []
    for place, row in enumerate(rows):
        path = folder / f"{place}"
        path.write_bytes(row.astype(np.float32).tobytes())
        vectors.append(Vector(path, 0, len(row)))
    return gram(vectors, threads)


def plain(rows: np.ndarray) -> Float64:
    wide = rows.astype(np.float32).astype(np.float64)
    return wide @ wide.T


def random_rows(count: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, length))


@PROPERTY
@given(
    some.integers(1, 40),
    some.sampled_from([1, 7, 1023, 1025, PIECE + 1, TILE + 3]),
    some.integers(0, 10**6),
    some.sampled_from([1e-30, 1e-9, 1.0, 1e9, 1e30]),
)
def test_products_are_those_of_float64(folder: Path, count: int, length: int, seed: int, scale: float) -> None:
    rows = random_rows(count, length, seed) * scale
    products = found(folder, rows)
    lengths = np.sqrt(np.diagonal(plain(rows)))
    assert np.abs(products - plain(rows)).max() <= SLACK * lengths.max() ** 2
    assert (np.abs(products - plain(rows)) <= SLACK * np.outer(lengths, lengths)).all()
    assert (products == products.T).all()


def test_products_by_hand(folder: Path) -> None:
    assert found(folder, np.array([[3, 4], [1, 0], [0, 2]])).tolist() == [[25, 3, 8], [3, 1, 0], [8, 0, 4]]


@pytest.mark.parametrize("apart", [1e-2, 1e-4, 1e-6])
def test_updates_that_are_nearly_the_same_are_told_apart(folder: Path, apart: float) -> None:
    same = random_rows(1, 3 * PIECE)
    rows = (same + apart * random_rows(5, 3 * PIECE, 1)).astype(np.float32)
    wide = rows.astype(np.float64)
    true = ((wide[:, None] - wide[None]) ** 2).sum(axis=2)
    assert np.allclose(squared_distances(found(folder, rows)), true, rtol=1e-3)


def test_equal_updates_are_at_distance_zero(folder: Path) -> None:
    rows = np.repeat(random_rows(2, 3 * PIECE), [3, 2], axis=0)
    assert (squared_distances(found(folder, rows))[:3, :3] == 0).all()


@pytest.mark.parametrize("size", [1e8, 1e14, 1e30])
def test_one_update_of_any_size_leaves_the_products_of_the_others(folder: Path, size: float) -> None:
    rows = random_rows(6, 2 * PIECE)
    before = found(folder, rows)[1:, 1:]
    rows[0] *= size
    assert np.allclose(found(folder, rows)[1:, 1:], before, rtol=SLACK, atol=SLACK * before.max())


def test_part_in_which_nothing_moved_counts_as_nothing(folder: Path) -> None:
    rows = random_rows(4, 20 * TILE)
    rows[:, TILE:] = 0
    assert np.allclose(found(folder, rows), plain(rows), rtol=0, atol=SLACK * TILE)


@pytest.mark.parametrize("count", [1, 2, 33, 50])
def test_threads_leave_no_trace(folder: Path, count: int) -> None:
    rows = random_rows(count, 4 * TILE + 3)
    first = found(folder, rows)
    for threads in (2, 5):
        assert (found(folder, rows, threads) == first).all()
