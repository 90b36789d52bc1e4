"""What the curves of a run say of themselves."""

from __future__ import annotations

from typing import Any

from training.web.charts import charts

NAMES = {"org_a": "acme", "org_m": "metro"}


def point(number: int, *organizations: str) -> dict[str, Any]:
    ratios = {"loss": 0.5, "accuracy": 0.9, "auc": 0.9, "others": {}}
    costs = {"seconds": 1.0, "bytes_up": 1, "bytes_down": 1}
    return {"number": number, **ratios, **costs, "organizations": dict.fromkeys(organizations, ratios)}


def summaries(*points: dict[str, Any]) -> dict[str, str]:
    return {chart.name: chart.summary for chart in charts(points, NAMES)}


def test_value_that_fewer_organizations_measured_is_marked() -> None:
    told = summaries(point(0, "org_a", "org_m"), point(1, "org_a"))
    assert told["loss"] == "0.500 at round 1, by 1 of 2 organizations"
    assert "organizations" not in told["seconds"]


def test_value_that_all_measured_is_not() -> None:
    assert summaries(point(0, "org_a"), point(1, "org_a", "org_m"))["loss"] == "0.500 at round 1"


def worst(*points: dict[str, Any]) -> str:
    return next(chart.worst for chart in charts(points, NAMES) if chart.name == "loss")


def test_who_does_worst_is_said_only_of_values_of_the_same_round() -> None:
    both, one = point(0, "org_a", "org_m"), point(1, "org_a")
    assert worst(both).startswith("highest: ")
    assert worst(both, one) == ""  # metro's last value is of an earlier model
