"""Whole updates chosen and weighed by how they lie to one another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tests.aggregation import plain
from training.aggregation import selecting
from training.aggregation.gram import Float64, mixed, squared_distances

PROPERTY = settings(max_examples=60, deadline=None)


def gram_of(rows: Float64) -> Float64:
    return rows @ rows.T


def f64(*rows: list[float]) -> Float64:
    return np.array(rows, np.float64)


def random_rows(count: int, length: int = 6, seed: int = 0) -> Float64:
    return np.random.default_rng(seed).standard_normal((count, length))


@some.composite
def rounds(draw: some.DrawFn, least: int = 1) -> Float64:
    """Rows in general position, of any size."""
    count, length, seed = draw(some.integers(least, 16)), draw(some.integers(2, 8)), draw(some.integers(0, 10**6))
    rows = np.random.default_rng(seed).standard_normal((count, length))
    return rows * draw(some.sampled_from([1e-6, 1.0, 1e6]))


def test_distances_by_hand() -> None:
    assert squared_distances(gram_of(f64([0, 0], [3, 4], [3, 0]))).tolist() == [[0, 25, 9], [25, 0, 16], [9, 16, 0]]


def test_equal_updates_are_at_distance_zero() -> None:
    row = random_rows(1, 1000)[0]
    assert (squared_distances(gram_of(np.array([row, row, row]))) == 0).all()


def test_krum_scores_by_hand() -> None:
    # n = 5, f = 1: two neighbours each. On a line at 0, 1, 3, 7, 100.
    scores = selecting.krum_scores(squared_distances(gram_of(f64([0], [1], [3], [7], [100]))), 2)
    assert scores.tolist() == [1 + 9, 1 + 4, 4 + 9, 16 + 36, 93**2 + 97**2]
    assert selecting.krum(gram_of(f64([0], [1], [3], [7], [100])), 1).tolist() == [0, 1, 0, 0, 0]


def test_multi_krum_by_hand() -> None:
    products = gram_of(f64([0], [1], [3], [7], [100]))
    assert selecting.multi_krum(products, 1, 0).tolist() == [0.5, 0.5, 0, 0, 0]
    assert selecting.multi_krum(products, 1, 4).tolist() == [0.25, 0.25, 0.25, 0.25, 0]


def test_of_equally_good_updates_the_first_is_chosen() -> None:
    assert selecting.krum(gram_of(f64([1], [1], [1], [1], [1])), 1).tolist() == [1, 0, 0, 0, 0]


def test_bulyan_selects_by_hand() -> None:
    # n = 7, f = 1: five are chosen, over 4, 3, then 2 neighbours: 3 with 63 before 2 with 70, 2 with 69 before 1 with
    # 83, 1 with 82 before 10 with 85, 10 with 104 before 12 with 148, and 12 rather than 0, as 500 is nearer to it.
    chosen = selecting.bulyan_selection(gram_of(f64([0], [1], [2], [3], [10], [12], [500])), 1)
    assert chosen.tolist() == [1, 2, 3, 4, 5]


def test_bulyan_without_faulty_updates_selects_all() -> None:
    assert selecting.bulyan_selection(gram_of(random_rows(5)), 0).tolist() == [0, 1, 2, 3, 4]


def test_geometric_median_of_three_points_on_a_line_is_the_middle_one() -> None:
    assert selecting.geometric_median(gram_of(f64([0, 0], [1, 1], [10, 10]))).tolist() == [0, 1, 0]


def test_geometric_median_of_a_square_is_its_centre() -> None:
    rows = f64([0, 0], [2, 0], [2, 2], [0, 2])
    assert np.allclose(selecting.geometric_median(gram_of(rows)) @ rows, [1, 1], atol=1e-8)


def test_geometric_median_of_a_triangle_is_its_fermat_point() -> None:
    # Equilateral but for one far corner on the axis of the others: the angles at the point are 120 degrees.
    rows = f64([0, 1], [0, -1], [9, 0])
    assert np.allclose(selecting.geometric_median(gram_of(rows)) @ rows, [1 / np.sqrt(3), 0], atol=1e-7)


def test_geometric_median_of_two_is_the_point_between_them() -> None:
    assert selecting.geometric_median(gram_of(f64([0, 3], [4, 0]))).tolist() == [0.5, 0.5]


def test_geometric_median_where_most_are_equal_is_what_most_are() -> None:
    assert selecting.geometric_median(gram_of(f64([3, 4], [3, 4], [3, 4], [90, 0], [0, 90]))).tolist() == [
        *(1 / 3, 1 / 3, 1 / 3),
        *(0, 0),
    ]


def test_norms_are_clipped_by_hand() -> None:
    rows = f64([3, 4], [0, 1], [30, 40])
    assert selecting.norm_clipping(gram_of(rows), 10).tolist() == [1 / 3, 1 / 3, 1 / 3 * 0.2]
    assert selecting.norm_clipping(gram_of(rows), 0).tolist() == [1 / 3, 1 / 3, 1 / 3 * 0.1]


def test_an_update_that_is_zero_is_not_clipped() -> None:
    assert selecting.norm_clipping(gram_of(f64([0, 0], [0, 0], [3, 4])), 1).tolist() == [1 / 3, 1 / 3, 1 / 3 * 0.2]


def test_centred_clipping_by_hand() -> None:
    # At 2 and 10, radius 4. First v = (2 + 4)/2 = 3, then 3 + (-1 + 4)/2 = 4.5.
    rows = f64([2], [10])
    assert (selecting.centred_clipping(gram_of(rows), 4, 1) @ rows).tolist() == [3]
    assert np.allclose(selecting.centred_clipping(gram_of(rows), 4, 2) @ rows, [4.5], rtol=1e-14)


def test_trust_by_hand() -> None:
    # The root is (0, 2). Cosines 1, 1, 0 and -1: the second is brought to length 2, the others do not count.
    rows = f64([0, 2], [0, 8], [5, 0], [0, -1])
    weights = selecting.fltrust(gram_of(rows), np.eye(4)[0])
    assert weights.tolist() == [0.5, 0.125, 0, 0]
    assert (weights @ rows).tolist() == [0, 2]


def test_several_trusted_updates_are_one() -> None:
    # Their mean by rows is (0, 2), which counts once; of the others only (3, 4), cosine 0.8, brought to length 2.
    rows = f64([0, 1], [0, 5], [3, 4], [0, -1])
    weights = selecting.fltrust(gram_of(rows), f64([0.75, 0.25, 0, 0])[0])
    assert np.allclose(weights, [0.75 / 1.8, 0.25 / 1.8, 0.8 * 0.4 / 1.8, 0])


def test_trusted_update_of_zero_cannot_be_trusted() -> None:
    with pytest.raises(ValueError, match="zero"):
        selecting.fltrust(gram_of(f64([0, 0], [1, 0])), np.eye(2)[0])


def test_mixing_by_hand() -> None:
    # n = 4, f = 2: each with its nearest.
    mixing = selecting.nearest_neighbour_mixing(gram_of(f64([0], [1], [10], [12])), 2)
    assert mixing.tolist() == [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]]


@pytest.mark.parametrize(
    "rule",
    [
        lambda products: selecting.krum(products, 1),
        lambda products: selecting.multi_krum(products, 0, 5),
        lambda products: selecting.bulyan_selection(products, 1),
        lambda products: selecting.nearest_neighbour_mixing(products, 4),
    ],
)
def test_too_few_updates_are_refused(rule) -> None:
    with pytest.raises(ValueError, match="4 updates are fewer"):
        rule(gram_of(random_rows(4)))


@PROPERTY
@given(rounds(least=7), some.integers(0, 1))
def test_selections_are_the_reference(rows: Float64, faulty: int) -> None:
    products, slack = gram_of(rows), 1e-9 * np.abs(rows).max()
    best = plain.krum_order(rows, faulty)[0]
    assert selecting.krum(products, faulty)[best] == 1
    assert np.allclose(selecting.multi_krum(products, faulty, 3) @ rows, plain.multi_krum(rows, faulty, 3), atol=slack)
    assert selecting.bulyan_selection(products, faulty).tolist() == plain.bulyan_chosen(rows, faulty)
    mixing = selecting.nearest_neighbour_mixing(products, faulty)
    assert np.allclose(mixing @ rows, plain.mixed(rows, faulty), atol=slack)


@PROPERTY
@given(rounds())
def test_clippings_are_the_reference(rows: Float64) -> None:
    products, slack = gram_of(rows), 1e-9 * np.abs(rows).max()
    assert np.allclose(selecting.norm_clipping(products, 0) @ rows, plain.norm_clipping(rows, 0), atol=slack)
    clipped = selecting.centred_clipping(products, 0, 5) @ rows
    assert np.allclose(clipped, plain.centred_clipping(rows, 0, 5), atol=slack)


@PROPERTY
@given(rounds())
def test_geometric_median_is_the_reference(rows: Float64) -> None:
    found = selecting.geometric_median(gram_of(rows)) @ rows
    least = np.linalg.norm(rows - plain.geometric_median(rows), axis=1).sum()
    assert np.linalg.norm(rows - found, axis=1).sum() <= least * (1 + 1e-12)
    if len(rows) != 2:  # between two every point is one
        assert np.abs(found - plain.geometric_median(rows)).max() <= 1e-6 * np.abs(rows).max()


@PROPERTY
@given(rounds(least=7), some.integers(0, 10**6), some.floats(0.001, 1000))
def test_selections_move_and_grow_with_the_updates(rows: Float64, seed: int, factor: float) -> None:
    moved = factor * (rows + np.abs(rows).max() * np.random.default_rng(seed).standard_normal(rows.shape[1]))
    for rule in (
        lambda products: selecting.krum(products, 1),
        lambda products: selecting.multi_krum(products, 1, 0),
        lambda products: selecting.bulyan_selection(products, 1),
        lambda products: selecting.nearest_neighbour_mixing(products, 1),
    ):
        assert (rule(gram_of(moved)) == rule(gram_of(rows))).all()
    here, there = selecting.geometric_median(gram_of(rows)), selecting.geometric_median(gram_of(moved))
    assert np.abs((here - there) @ rows).max() <= 1e-6 * np.abs(rows).max()


@PROPERTY
@given(rounds(), some.integers(0, 15))
def test_trust_points_where_the_trusted_update_points(rows: Float64, root: int) -> None:
    root %= len(rows)
    found = selecting.fltrust(gram_of(rows), np.eye(len(rows))[root]) @ rows
    assert found @ rows[root] > 0
    assert np.linalg.norm(found) <= np.linalg.norm(rows[root]) * (1 + 1e-9)


@pytest.mark.parametrize("size", [1e3, 1e15, 1e30, -1e37])
@pytest.mark.parametrize("faulty", [1, 4, 9])
def test_geometric_median_stays_with_the_honest_ones_whatever_the_others_send(size: float, faulty: int) -> None:
    """‖z - c‖ ≤ 2(n - f)/(n - 2f)·r for honest updates within r of c (Pillutla et al. 2019)."""
    rows = random_rows(20, 30, seed=faulty)
    rows[:faulty] *= size
    centre = rows[faulty:].mean(axis=0)
    radius = np.linalg.norm(rows[faulty:] - centre, axis=1).max()
    found = selecting.geometric_median(gram_of(rows)) @ rows
    assert np.linalg.norm(found - centre) <= 2 * (20 - faulty) / (20 - 2 * faulty) * radius


@pytest.mark.parametrize("size", [1e3, 1e15, 1e30])
def test_wrong_updates_of_any_size_are_not_selected(size: float) -> None:
    rows = random_rows(23, 30)
    rows[:5] *= size
    products = gram_of(rows)
    assert not selecting.krum(products, 5)[:5].any()
    assert not selecting.multi_krum(products, 5, 0)[:5].any()
    assert not np.isin(selecting.bulyan_selection(products, 5), range(5)).any()
    assert not selecting.nearest_neighbour_mixing(products, 5)[5:, :5].any()


def test_clippings_bound_what_one_update_moves() -> None:
    rows = random_rows(10, 5)
    before = selecting.centred_clipping(gram_of(rows), 1, 4) @ rows, selecting.norm_clipping(gram_of(rows), 1) @ rows
    rows[0] *= 1e20
    after = selecting.centred_clipping(gram_of(rows), 1, 4) @ rows, selecting.norm_clipping(gram_of(rows), 1) @ rows
    assert np.linalg.norm(after[0] - before[0]) <= 4 * 2 / 10
    assert np.linalg.norm(after[1] - before[1]) <= 2 / 10


def test_mixture_of_mixtures_has_the_gram_matrix_of_the_mixed() -> None:
    rows = random_rows(9)
    mixing = selecting.nearest_neighbour_mixing(gram_of(rows), 3)
    assert np.allclose(mixed(gram_of(rows), mixing), gram_of(mixing @ rows), atol=1e-12)
    weights = np.arange(9.0)
    assert np.allclose(selecting.after_mixing(weights, mixing) @ rows, weights @ (mixing @ rows), atol=1e-12)
