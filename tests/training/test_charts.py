"""What the curves of a run say of themselves."""

from __future__ import annotations

from typing import Any

from training.web.charts import Chart, charts, legend

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


def chart_of(name: str, *points: dict[str, Any]) -> Chart:
    return next(chart for chart in charts(points, NAMES) if chart.name == name)


def test_labels_of_large_values_fit_left_of_their_axis() -> None:
    large = {**point(1, "org_a"), "loss": 532478.357}
    chart = chart_of("loss", point(0, "org_a"), large)
    assert [tick["label"] for tick in chart.ticks] == ["0.100", "100.0", "1.00e5"]
    assert chart.left >= 6 + 6 * max(len(tick["label"]) for tick in chart.ticks)
    assert chart.marks[0]["x"] == chart.left
    assert all(float(pair.split(",")[0]) >= chart.left for line in chart.lines for pair in line["points"].split())
    assert chart.summary == "5.32e5 at round 1; the axis is logarithmic"


def test_only_who_measured_something_stands_in_the_legend_by_name_whatever_its_case() -> None:
    names = {"org_z": "Zeta", "org_n": "north", "org_b": "Bern", "org_l": "later"}
    told = legend([point(0, "org_z"), point(1, "org_z", "org_n", "org_b")], names)
    assert [row["label"] for row in told] == ["All organizations", "Bern", "north", "Zeta"]
    assert {row["label"]: row["kind"] for row in told}["Zeta"] == "series-1"


def test_what_a_round_took_is_drawn_before_its_model_is_measured() -> None:
    unmeasured = {"number": 1, "loss": None, "seconds": 2.5, "bytes_up": 10, "bytes_down": 20, "organizations": {}}
    told = summaries({**point(0, "org_a"), "seconds": None, "bytes_up": None, "bytes_down": None}, unmeasured)
    assert (told["seconds"], told["bytes"]) == ("2.50 s at round 1", "30 B at round 1")
    assert told["loss"] == "0.500 at round 0"
