"""What the curves of a run say of themselves."""

from __future__ import annotations

from typing import Any

from training.web.charts import charts, further
from training.web.fairness import fairness, slices

NAMES = {"org_a": "acme", "org_m": "metro"}


def point(number: int, *organizations: str, **others: float) -> dict[str, Any]:
    ratios = {"loss": 0.5, "accuracy": 0.9, "auc": 0.9, "others": others, "loss_change": -0.25}
    costs = {"seconds": 1.0, "bytes_up": 1, "bytes_down": 1, "drift": 0.125, "gaps": {"accuracy": 0.04}}
    return {"number": number, **ratios, **costs, "organizations": dict.fromkeys(organizations, ratios)}


def summaries(*points: dict[str, Any]) -> dict[str, str]:
    return {chart.name: chart.summary for chart in charts(points, NAMES)}


def test_value_that_fewer_organizations_measured_is_marked() -> None:
    told = summaries(point(0, "org_a", "org_m"), point(1, "org_a"))
    assert told["loss"] == "0.500 at round 1, by 1 of 2 organizations"
    assert "organizations" not in told["seconds"]


def test_value_that_all_measured_is_not() -> None:
    assert summaries(point(0, "org_a"), point(1, "org_a", "org_m"))["loss"] == "0.500 at round 1"


def test_gap_and_drift_are_one_line_and_the_change_of_loss_has_one_for_each() -> None:
    found = {chart.name: chart for chart in charts([point(0, "org_a", "org_m"), point(1, "org_a", "org_m")], NAMES)}
    assert found["gap:accuracy"].summary == "0.040 at round 1"
    assert found["drift"].summary == "12.50 % at round 1"
    assert [len(found[name].lines) for name in ("gap:accuracy", "drift", "loss_change")] == [1, 1, 3]
    assert found["gap:loss"].hidden
    assert not found["drift"].hidden


def test_person_chooses_which_further_metrics_are_drawn() -> None:
    points = [point(0, "org_a", dice=0.5, sensitivity=0.25, auc_fever=0.75)]
    assert further(points) == [
        ("auc_fever", "AUC fever", True),
        ("dice", "Dice", True),
        ("sensitivity", "Sensitivity", False),  # follows from counts: drawn when asked for
    ]
    assert [drawn for _, _, drawn in further(points, ["sensitivity"])] == [False, False, True]
    drawn = {chart.name for chart in charts(points, NAMES, ["sensitivity"])}
    assert {name for name in drawn if name.startswith("other:")} == {"other:sensitivity"}


def test_worst_is_told_where_it_is_known_which_way_is_better() -> None:
    points = [{**point(0), "organizations": {"org_a": point(0, dice=0.5), "org_m": point(0, sensitivity=0.5)}}]
    points[0]["organizations"] = {
        key: {"others": {"dice": value, "sensitivity": value}, "loss": 0.1, "accuracy": 1.0, "auc": None}
        for key, value in (("org_a", 0.75), ("org_m", 0.5))
    }
    points[0]["others"] = {"dice": 0.6, "sensitivity": 0.6}
    worst = {chart.name: chart.worst for chart in charts(points, NAMES, ["dice", "sensitivity"])}
    assert worst["other:sensitivity"] == "lowest: metro 0.500"
    assert worst["other:dice"] == ""


SPREAD = {"gap": 0.25, "worst": "org_m", "least": 0.5, "most": 1.0, "deviation": 0.125}


def test_table_of_fairness_names_the_worst_organization_of_the_newest_model() -> None:
    points = [point(0), {**point(1), "fairness": {"accuracy": SPREAD}}, point(2)]
    assert fairness(points, NAMES) == {
        "number": 1,
        "rows": [
            {"measure": "Accuracy", "worst": "metro", "gap": "0.250", "least": "0.500", "most": "1.000"}
            | {"deviation": "0.125"}
        ],
    }
    assert fairness([point(0)], NAMES) is None


def test_table_of_slices_says_for_whom_the_model_does_worse() -> None:
    parts = {"F": {"loss": 0.5, "accuracy": 0.75, "auc": None, "samples": 12}}
    sex = {"parts": parts, "fairness": {"loss": {**SPREAD, "worst": "F"}}}
    (found,) = slices([{**point(3), "slices": {"sex": sex}}])
    assert found["gap"] == "Loss is higher by 0.250 for F than for all together."
    assert found["rows"] == [{"value": "F", "samples": 12, "accuracy": "0.750", "auc": "–", "loss": "0.500"}]
    assert slices([point(0)]) == []
