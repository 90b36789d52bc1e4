"""What the curves of a run say of themselves."""

from __future__ import annotations

from typing import Any

from training.web.charts import Chart, charts, further, legend
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


def worst(*points: dict[str, Any]) -> str:
    return next(chart.worst for chart in charts(points, NAMES) if chart.name == "loss")


def test_who_does_worst_is_said_only_of_values_of_the_same_round() -> None:
    both, one = point(0, "org_a", "org_m"), point(1, "org_a")
    assert worst(both) == ""  # one cannot tell them apart
    both["organizations"]["org_m"] = {**both["organizations"]["org_m"], "loss": 0.75}
    assert worst(both) == "highest: metro 0.750"
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


def test_gap_and_drift_are_one_line_and_the_change_of_loss_has_one_for_each() -> None:
    found = {chart.name: chart for chart in charts([point(0, "org_a", "org_m"), point(1, "org_a", "org_m")], NAMES)}
    assert found["gap:accuracy"].summary == "0.040 at round 1"
    assert found["drift"].summary == "12.50 % at round 1"
    assert [len(found[name].lines) for name in ("gap:accuracy", "drift", "loss_change")] == [1, 1, 3]
    assert found["gap:loss"].hidden
    assert not found["drift"].hidden


def test_staleness_is_the_mean_and_the_most_of_each_asynchronous_round() -> None:
    points = [point(0, "org_a"), {**point(1, "org_a"), "staleness": 0.5, "staleness_most": 2}]
    chart = chart_of("staleness", *points)
    assert [(line["kind"], line["label"]) for line in chart.lines] == [("series-1", "Most"), ("all", "Mean")]
    assert (chart.summary, chart.columns) == ("0.500 at round 1", ["Round", "Mean", "Most"])
    assert chart.rows == [["1", "0.500", "2.000"]]
    assert chart_of("staleness", *points[:1]).hidden  # a synchronous run has no such picture


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
    told = {chart.name: chart.worst for chart in charts(points, NAMES, ["dice", "sensitivity"])}
    assert told["other:sensitivity"] == "lowest: metro 0.500"
    assert told["other:dice"] == ""


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
    equal = {**SPREAD, "gap": 0.0, "least": 0.5, "most": 0.5004}
    told = fairness([{**point(0), "fairness": {"loss": equal, "auc": SPREAD}}], NAMES)
    assert told is not None
    assert [row["worst"] for row in told["rows"]] == ["metro", "–"]


def test_table_of_slices_says_for_whom_the_model_does_worse() -> None:
    parts = {"F": {"loss": 0.5, "accuracy": 0.75, "auc": None, "samples": 12}}
    sex = {"parts": parts, "fairness": {"loss": {**SPREAD, "worst": "F"}}}
    (found,) = slices([{**point(3), "slices": {"sex": sex}}])
    assert found["gap"] == "Loss is higher by 0.250 for F than for all together."
    assert found["rows"] == [{"value": "F", "samples": 12, "accuracy": "0.750", "auc": "–", "loss": "0.500"}]
    assert slices([point(0)]) == []
    sex["fairness"] = {"loss": {**SPREAD, "most": 0.5}}
    assert slices([{**point(3), "slices": {"sex": sex}}])[0]["gap"] == ""


def test_devices_own_models_have_a_line_beside_the_whole_where_there_are_any() -> None:
    first, second = point(0, "org_a", "org_m"), point(1, "org_a", "org_m")
    second["personal"] = {"accuracy": 0.97, "auc": None, "loss": 0.125, "organizations": {}}
    told = chart_of("accuracy", first, second)
    assert told.summary == "0.900 at round 1; own models 0.970"
    assert [line["kind"] for line in told.lines] == ["series-2", "series-1", "personal", "all"]
    assert told.columns == ["Round", "All organizations", "Devices’ own models", "acme", "metro"]
    assert [row[2] for row in told.rows] == ["0.970", "–"]
    assert "personal" not in [line["kind"] for line in chart_of("auc", first, second).lines]
    assert "personal" not in [line["kind"] for line in chart_of("seconds", first, second).lines]
    assert [row["kind"] for row in legend([first, second], NAMES)][:2] == ["all", "personal"]
    assert "own models" not in chart_of("accuracy", first).summary
