"""The axes of charts."""

from __future__ import annotations

import pytest

from fedportal.common.axes import bounds
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
