"""The cells of federated inference: what they count, how much one row changes them, and what is no answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedwire import inference
from fedwire.errors import FedportalError
from fedwire.inference import GRID, Asked

ROWS = 200


def drawn(classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, predicted classes and labels of some rows; some scores lie outside the range."""
    draws = np.random.default_rng(4)
    return draws.normal(0.5, 0.6, ROWS), draws.integers(0, classes, ROWS), draws.integers(0, classes, ROWS)


@pytest.mark.parametrize("summary", inference.SUMMARIES)
def test_one_row_changes_the_cells_by_their_sensitivity_at_most(summary: str) -> None:
    """Noise is measured by this: were it larger, ε would be told too small."""
    asked, rows = Asked(summary, classes=3, bins=7), drawn()
    whole = inference.cells_of(asked, *rows)
    for gone in range(ROWS):
        less = inference.cells_of(asked, *(np.delete(column, gone) for column in rows))
        assert np.linalg.norm(whole - less) <= asked.sensitivity + 1e-9
    assert len(whole) == asked.cells


def test_cells_of_two_devices_add_up_to_those_of_both_together() -> None:
    for summary in inference.SUMMARIES:
        asked, rows = Asked(summary, classes=3, bins=7), drawn()
        halves = [
            inference.cells_of(asked, *(column[part] for column in rows)) for part in (slice(90), slice(90, None))
        ]
        assert (halves[0] + halves[1]).tolist() == inference.cells_of(asked, *rows).tolist()


def test_scores_outside_the_range_count_at_its_ends() -> None:
    asked = Asked("histogram", bins=4, low=-1.0, high=1.0)
    scores, none = np.array([-5.0, -1.0, -0.5, 0.0, 0.99, 1.0, 7.0]), np.zeros(7, np.int64)
    assert inference.cells_of(asked, scores, none, none).tolist() == [2, 1, 1, 3]
    mean = Asked("mean", low=-1.0, high=1.0)
    assert inference.cells_of(mean, np.array([-5.0, 5.0]), none[:2], none[:2]).tolist() == [2 * GRID, GRID]


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    asked = Asked("histogram", bins=200, noise=3.0)
    exact = np.full(200, 50)
    found = np.array([inference.noised(asked, exact) for _ in range(50)]) - exact
    assert found.std() == pytest.approx(3.0, rel=0.05)
    assert abs(found.mean()) < 0.15
    assert inference.noised(Asked("histogram", bins=200), exact) == exact.tolist()


def test_the_description_travels_and_comes_back() -> None:
    asked = Asked("histogram", bins=5, low=-2.0, high=2.0, noise=0.5, rows="held_out", least_count=12)
    assert inference.asked_of(asked.as_json()) == asked


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({}, "summary"),
        ({"summary": "counts", "classes": 0}, "summary"),
        ({"summary": "confusion", "classes": 41}, "summary"),
        ({"summary": "mean", "classes": 1}, "summary"),
        ({"summary": "histogram", "bins": 201}, "bins"),
        ({"summary": "histogram", "bins": True}, "bins"),
        ({"summary": "histogram", "low": float("nan")}, "low"),
        ({"summary": "histogram", "high": 10**400}, "high"),
        ({"summary": "counts", "noise": 2e3}, "noise"),
        ({"summary": "counts", "rows_of": "a"}, "rows_of"),
    ],
)
def test_a_description_of_something_else_is_refused(said: dict[str, Any], field: str) -> None:
    with pytest.raises(FedportalError) as refused:
        inference.asked_of(said)
    assert (refused.value.code, refused.value.context["field"]) == ("field_invalid", field)


@pytest.mark.parametrize("cells", [[10 * GRID + 1, GRID], [10 * GRID, 11 * GRID], [10 * GRID, -1], [9 * GRID, GRID]])
def test_a_mean_that_no_device_can_have_is_refused(cells: list[int]) -> None:
    inference.check(Asked("mean"), [10 * GRID, 4 * GRID], 1000)
    with pytest.raises(FedportalError) as refused:
        inference.check(Asked("mean"), cells, 1000)
    assert refused.value.code == "inference_invalid"
