"""Merged metrics are those of all rows together."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedwire import metrics, reports
from fedwire.errors import FedportalError
from fedwire.histograms import BINS, EQUAL, LOGIT, Scale
from training.aggregation.metrics import merged

EMPTY = [0] * BINS[LOGIT]
OLD = [0] * BINS[EQUAL]


def report(scores: list[float], labels: list[int], scale: Scale = LOGIT) -> Any:
    return metrics.evaluation(scores, labels, [0.25 * (1 + label) for label in labels], scale=scale)


def test_four_rows_by_hand() -> None:
    found = metrics.evaluation([0.9, 0.2, 0.6, 0.4], [1, 0, 0, 1], [0.1, 0.2, 0.9, 0.8])
    assert (found["samples"], found["correct"]) == (4, 2)
    assert found["loss_sum"] == pytest.approx(2.0)
    # z = ln(p/(1-p)) is 2.1972, -1.3863, 0.4055, -0.4055; the bin is 352 + ⌊32·asinh(100·z)⌋.
    assert [place for place, count in enumerate(found["positives"]) if count] == [211, 546]
    assert [place for place, count in enumerate(found["negatives"]) if count] == [172, 492]
    # Pairs (positive, negative): .9>.2, .9>.6, .4>.2 are right and .4>.6 is not.
    ratios = metrics.ratios(found)
    # Of the class 1 (.9, .4) one is found, of the class 0 (.2, .6) one is.
    others = {"sensitivity": 0.5, "specificity": 0.5, "balanced_accuracy": 0.5}
    assert ratios == {"loss": 0.5, "accuracy": 0.5, "auc": 0.75, "samples": 4, "others": others}


@pytest.mark.parametrize("scale", [LOGIT, EQUAL])
def test_scores_at_both_ends_are_counted(scale: Scale) -> None:
    found = report([0.0, 1.0, 1.0], [0, 1, 0], scale)
    assert (found["negatives"][0], found["negatives"][-1], found["positives"][-1]) == (1, 1, 1)


def test_without_both_classes_there_is_no_auc() -> None:
    assert metrics.ratios(report([], []))["auc"] is None
    assert metrics.ratios(report([0.3, 0.7], [1, 1]))["auc"] is None


def test_of_no_rows_there_is_no_ratio() -> None:
    assert metrics.ratios(metrics.merge([])) == {
        "loss": None,
        "accuracy": None,
        "auc": None,
        "samples": 0,
        "others": {},
    }
    assert metrics.ratios(report([], []))["accuracy"] is None


rows = st.lists(st.tuples(st.integers(0, 999).map(lambda n: (n % 200 + 0.5) / 200), st.integers(0, 1)), max_size=60)


@given(st.lists(rows, max_size=5))
def test_merging_gives_the_report_on_all_rows(parts: list[list[tuple[float, int]]]) -> None:
    reports = [report([s for s, _ in part], [y for _, y in part]) for part in parts]
    everything = [pair for part in parts for pair in part]
    whole = report([s for s, _ in everything], [y for _, y in everything])
    merged = metrics.merge(reports)
    if parts:
        assert merged == whole
    random.Random(1).shuffle(reports)
    assert metrics.merge(reports) == merged


@given(st.lists(st.floats(-1e12, 1e12), min_size=2, max_size=20), st.randoms())
def test_the_order_of_merging_does_not_change_a_bit(losses: list[float], chance: random.Random) -> None:
    reports: list[Any] = [{"samples": 1, "loss_sum": loss, "correct": 0} for loss in losses]
    before = metrics.merge(reports)
    chance.shuffle(reports)
    assert metrics.merge(reports) == before


def test_many_classes_count_the_highest_score() -> None:
    found = metrics.evaluation([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2]], [1, 2], [0.3, 1.6])
    assert (found["samples"], found["correct"]) == (2, 1)
    assert "positives" not in found
    assert metrics.ratios(found)["auc"] is None


def test_a_prediction_of_numbers_has_errors_and_no_accuracy() -> None:
    found = metrics.merge([metrics.regression([1.0, 2.0], [1.5, 1.0]), metrics.regression([3.0], [3.0])])
    ratios = metrics.ratios(found)
    assert ratios["loss"] == pytest.approx((0.125 + 0.5) / 3)
    assert ratios["others"] == {"absolute_error": pytest.approx(0.5), "squared_error": pytest.approx(1.25 / 3)}
    assert ratios["accuracy"] is None


def test_further_metrics_are_summed_by_name_and_divided_by_the_rows_they_cover() -> None:
    first, second = report([0.5], [1]), report([0.5, 0.1], [1, 0])
    first["sums"], second["sums"] = {"dice": 0.5}, {"dice": 1.0, "brier": 0.3}
    others = metrics.ratios(metrics.merge([first, second]))["others"]
    assert (others["dice"], others["brier"]) == (0.5, pytest.approx(0.15))  # 1.5 over 3 rows, 0.3 over 2


def test_sum_may_cover_some_rows_of_one_report() -> None:
    found = report([0.5, 0.1, 0.2], [1, 0, 0])
    found["sums"], found["over"] = {"area": 1.0}, {"area": 2}
    other = report([0.5], [1])
    other["sums"] = {"area": 2.0}
    assert metrics.ratios(found)["others"]["area"] == 0.5
    assert metrics.ratios(metrics.merge([found, other]))["others"]["area"] == 1.0  # 3 over 2 + 1


def test_metric_per_row_is_given_by_name() -> None:
    found = metrics.evaluation([0.9, 0.1], [1, 0], [0.1, 0.2], named={"brier": [0.01, 0.03]})
    assert metrics.ratios(found)["others"]["brier"] == pytest.approx(0.02)
    with pytest.raises(FedportalError):
        metrics.evaluation([0.9], [1], [0.1], named={"brier": [0.01, 0.02]})


def test_named_scores_have_the_auc_of_all_rows_and_not_the_mean_of_two() -> None:
    def part(scores: list[float], labels: list[int]) -> Any:
        return metrics.evaluation([0.5] * len(labels), labels, [0.0] * len(labels), scored={"fever": (scores, labels)})

    # Either alone ranks its rows perfectly; together .4 (class 1) stands below .6 (class 0).
    first, second = part([0.4, 0.3], [1, 0]), part([0.9, 0.6], [1, 0])
    assert [metrics.ratios(one)["others"]["auc_fever"] for one in (first, second)] == [1.0, 1.0]
    assert metrics.ratios(metrics.merge([first, second]))["others"]["auc_fever"] == 0.75


def test_two_classes_with_a_score_each_are_counted_too() -> None:
    found = metrics.evaluation([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], [0, 1, 0], [0.1, 0.2, 0.9])
    assert found["confusion"] == [1, 1, 0, 1]
    assert metrics.ratios(found)["others"] == {"sensitivity": 1.0, "specificity": 0.5, "balanced_accuracy": 0.75}


def test_counts_and_histograms_merge_into_counts() -> None:
    counted = metrics.evaluation([[0.9, 0.1], [0.2, 0.8]], [0, 0], [0.1, 0.2])
    merged = metrics.merge([counted, report([0.5, 0.2, 0.1], [1, 1, 0])])
    assert merged["confusion"] == [2, 1, 1, 1]
    assert metrics.merge([merged, report([0.9], [1])])["confusion"] == [2, 1, 1, 2]


@given(rows)
def test_counts_are_those_of_the_scores_on_either_scale(pairs: list[tuple[float, int]]) -> None:
    found, older = (metrics.confusion(report([s for s, _ in pairs], [y for _, y in pairs], n)) for n in (LOGIT, EQUAL))
    assert found == older
    assert found == [
        sum(label == wanted and (score >= 0.5) == said for score, label in pairs)
        for wanted, said in ((0, False), (0, True), (1, False), (1, True))
    ]


def test_balanced_accuracy_of_all_rows_is_not_the_mean_of_two() -> None:
    first, second = report([0.9, 0.1], [1, 0]), report([0.1] * 8, [1] * 4 + [0] * 4)
    merged = metrics.ratios(metrics.merge([first, second]))["others"]
    assert merged["sensitivity"] == 0.2  # 1 of 5; the mean of 1 and 0 would be a half
    assert merged["balanced_accuracy"] == pytest.approx(0.6)


def test_slices_are_merged_value_by_value() -> None:
    first, second = report([0.9, 0.1], [1, 0]), report([0.9], [0])
    first["slices"] = {"sex": {"F": report([0.9], [1]), "M": report([0.1], [0])}}
    second["slices"] = {"sex": {"F": report([0.9], [0])}, "age": {"old": report([0.9], [0])}}
    merged = metrics.merge([first, second])["slices"]
    assert {name: list(parts) for name, parts in merged.items()} == {"age": ["old"], "sex": ["F", "M"]}
    assert merged["sex"]["F"] == report([0.9, 0.9], [1, 0])


@pytest.mark.parametrize(
    ("scores", "labels", "losses"),
    [
        ([0.1], [1, 0], [0.1]),
        ([0.1], [1], []),
        ([float("nan")], [1], [0.1]),
        ([0.5], [1], [float("inf")]),
        ([1.5], [1], [0.1]),
        (0.5, 1, 0.1),
    ],
)
def test_rows_that_do_not_fit_are_refused(scores: Any, labels: Any, losses: Any) -> None:
    with pytest.raises(FedportalError):
        metrics.evaluation(scores, labels, losses)


def test_a_report_from_outside_keeps_what_it_may_say() -> None:
    found = report([0.2, 0.9], [0, 1])
    assert reports.parse({**found, "patients": ["Anna"]}, max_samples=2) == found
    older = report([0.2, 0.9], [0, 1], EQUAL)
    assert "scale" not in older
    assert reports.parse(older) == older
    assert reports.parse({"samples": 0, "loss_sum": 0, "correct": 0}) == {"samples": 0, "loss_sum": 0.0, "correct": 0}


def test_a_report_of_many_devices_may_count_on_both_scales() -> None:
    def part(scale: Scale) -> Any:
        named = metrics.evaluation([0.2, 0.9], [0, 1], [0.1, 0.1], scored={"fever": ([0.3], [1])}, scale=scale)
        return {**named, "slices": {"sex": {"F": report([0.2, 0.9], [0, 1], scale)}}}

    both = metrics.merge([part(LOGIT), part(EQUAL)])
    assert reports.parse({**both, "confusion": [2, 0, 0, 2]}) == {**both, "confusion": [2, 0, 0, 2]}
    for wrong in ({"positives": OLD}, {**both["other_scale"], "positives": [2, *OLD[1:]]}, None):
        with pytest.raises(FedportalError):
            reports.parse({**both, "other_scale": wrong})


def test_no_report_is_too_large_to_be_put_together() -> None:
    """Or one device would hold up the round of all."""
    largest = {"samples": 2, "loss_sum": reports.MOST_SUM, "correct": 0, "sums": {"a": -reports.MOST_SUM}}
    told = [reports.parse(largest), reports.parse({**largest, "loss_sum": 0.0})]
    found = merged((str(place), one) for place, one in enumerate(told * 1000))
    assert found["fairness"]["loss"]["most"] == reports.MOST_SUM / 2
    for field in ("loss_sum", "sums"):
        with pytest.raises(FedportalError):
            reports.parse({**largest, field: 1e200 if field == "loss_sum" else {"a": 1e200}})


@pytest.mark.parametrize(
    "change",
    [
        {"samples": -1},
        {"samples": 3},
        {"samples": 2.0},
        {"samples": True},
        {"samples": 10**12},
        {"loss_sum": None},
        {"loss_sum": "1"},
        {"loss_sum": float("nan")},
        {"loss_sum": float("inf")},
        {"loss_sum": 10**400},
        {"correct": 3},
        {"correct": -1},
        {"positives": None},
        {"positives": [1]},
        {"positives": EMPTY},
        {"positives": [0.5, *EMPTY[1:]]},
        {"negatives": [*EMPTY[:-1], -1]},
        {"positives": OLD, "negatives": [2, *OLD[1:]]},  # another scale than it says
        {"scale": "equal"},
        {"scale": None},
        {"scale": ["logit"]},
        {"sums": []},
        {"sums": {"a": float("nan")}},
        {"sums": {"": 1.0}},
        {"sums": {"a\n": 1.0}},
        {"sums": {str(number): 1.0 for number in range(51)}},
        {"sums": {"a": 1.0}, "over": {"a": 3}},
        {"sums": {"a": 1.0}, "over": {"b": 1}},
        {"over": {"a": 1}},
        {"confusion": [1, 0, 0]},
        {"confusion": [1, 1, 0, 1]},
        {"confusion": [0, 0, 0, 2]},
        {"confusion": [0, 1, 1, 0]},
        {"histograms": {"a": None}},
        {"histograms": {"a": {"positives": OLD}}},
        {"histograms": {"a": {"positives": EMPTY, "negatives": EMPTY}}},
        {"histograms": {"a": {"positives": OLD, "negatives": OLD, "scale": "logit"}}},
        {"histograms": {"a": {"positives": [2, *OLD[1:]], "negatives": [1, *OLD[1:]]}}},
        {"histograms": {str(number): {"positives": OLD, "negatives": OLD} for number in range(21)}},
        {"slices": {"sex": []}},
        {"slices": {"sex": {"F": {"samples": 3, "loss_sum": 0.0, "correct": 0}}}},
        {"slices": {"sex": {name: {"samples": 2, "loss_sum": 0.0, "correct": 0} for name in "FM"}}},
        {"slices": {str(number): {} for number in range(5)}},
        {"slices": {"age": {str(number): {"samples": 0, "loss_sum": 0.0, "correct": 0} for number in range(21)}}},
    ],
    ids=str,
)
def test_a_report_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FedportalError) as refused:
        reports.parse({**report([0.2, 0.9], [0, 1]), **change})
    assert refused.value.code == "metrics_invalid"


@pytest.mark.parametrize("value", [None, [], "report", 3, {}])
def test_what_is_no_report_is_refused(value: Any) -> None:
    with pytest.raises(FedportalError):
        reports.parse(value)
