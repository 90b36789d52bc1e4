"""The axes of charts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedportal.common import axes
from fedportal.common.axes import bounds, margin, shown
from registry.web.charts import _bounds as of_versions


@pytest.mark.parametrize("measure", ["accuracy", "auc"])
@pytest.mark.parametrize("values", [[1.0], [0.949], [0.97, 0.99], [0.0], [0.4, 1.0], [0.9995, 0.9999]])
def test_no_ratio_has_an_axis_that_leaves_zero_to_one(measure: str, values: list[float]) -> None:
    for axis in (bounds, of_versions):
        low, high = axis(measure, values)
        assert 0 <= low < high <= 1
        assert low <= min(values)
        assert max(values) <= high


def test_a_loss_may_be_above_one() -> None:
    assert bounds("loss", [0.5, 3.0]) == (0.0, 3.0)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0.000"),
        (0.1157, "0.116"),
        (12.3456, "12.346"),
        (478.357, "478.4"),
        (4953.96, "4954"),
        (53247.8, "53248"),
        (532478.357, "5.32e5"),
        (0.00012, "1.20e-4"),
    ],
)
def test_a_number_on_an_axis_is_short_however_large(value: float, words: str) -> None:
    assert shown("loss", value) == words


@given(st.floats(1e-99, 1e99), st.sampled_from(["loss", "accuracy", "other:error"]))
def test_no_label_is_longer_than_the_room_beside_the_axis(value: float, measure: str) -> None:
    label = shown(measure, value)
    assert len(label) <= 8
    assert margin([label]) >= 6 + 6 * len(label)


def test_a_loss_over_more_than_two_decades_has_a_logarithmic_axis() -> None:
    scale = axes.axis("loss", [0.1157, 0.9, 4953.96])
    assert scale.logarithmic
    assert scale.ticks() == [0.1, 10.0, 1000.0]
    assert (scale.low, scale.high) == (0.1, 10000.0)
    assert [round(scale.place(value), 3) for value in (0.1, 1, 10, 10000)] == [0, 0.2, 0.4, 1]


@pytest.mark.parametrize(
    ("measure", "values"),
    [("loss", [0.1, 9.0]), ("loss", [0.0, 500.0]), ("bytes", [1, 1000]), ("auc", [0.001, 1])],
)
def test_other_axes_are_linear(measure: str, values: list[float]) -> None:
    scale = axes.axis(measure, values)
    assert not scale.logarithmic
    assert (scale.low, scale.high) == bounds(measure, values)
    assert len(scale.ticks()) == 3


@given(st.lists(st.floats(1e-6, 1e12), min_size=1, max_size=20))
def test_every_value_lies_on_its_axis(values: list[float]) -> None:
    scale = axes.axis("loss", values)
    assert all(-1e-9 <= scale.place(value) <= 1 + 1e-9 for value in values)
    assert len(scale.ticks()) <= 4
