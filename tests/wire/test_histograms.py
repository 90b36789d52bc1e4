"""The AUC from binned scores is that of the scores, for models that are sure of themselves and for such as are not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from fedwire import histograms, metrics
from fedwire.histograms import BINS, EQUAL, LOGIT, Scale

Rows = list[tuple[float, int]]
rows = st.lists(st.tuples(st.sampled_from([-300.0, -41.5, -3.0, 0.0, 0.01, 2.0, 37.0]), st.integers(0, 1)), max_size=30)
parts = st.lists(st.tuples(rows, st.sampled_from([LOGIT, EQUAL])), max_size=6)
SHAPES = ("normal", "logistic", "laplace", "standard_exponential")
# Where the logits lie and how far apart: hardly trained, well trained, sure, very sure; a rare class.
PLACES = ((0.0, 0.005), (0.0, 0.1), (0.0, 2.0), (0.0, 12.0), (0.0, 40.0), (-0.2, 0.03), (-4.0, 0.7), (-7.0, 1.2))


def on(scale: Scale, pairs: Rows) -> Any:
    scores, labels = [score for score, _ in pairs], [label for _, label in pairs]
    return metrics.evaluation(scores, labels, [0.5] * len(pairs), logits=True, scale=scale)


def measured(scores: NDArray[Any], labels: NDArray[Any], **how: Any) -> float | None:
    return metrics.ratios(metrics.evaluation(scores, labels, np.zeros(len(labels)), **how))["auc"]


def test_rows_in_one_bin_count_half() -> None:
    assert histograms.auc([0, 3, 0], [0, 5, 0]) == 0.5
    assert histograms.auc([0, 1], [1, 1]) == 0.75
    assert histograms.auc([0, 0, 2], [3, 0, 0]) == 1.0
    assert histograms.auc([2, 0, 0], [0, 0, 3]) == 0.0


@given(rows)
def test_the_auc_is_the_librarys_when_no_two_scores_share_a_bin(pairs: Rows) -> None:
    found = metrics.ratios(on(LOGIT, pairs))["auc"]
    labels = [label for _, label in pairs]
    if len(set(labels)) < 2:
        assert found is None
    else:
        assert found == pytest.approx(roc_auc_score(labels, [score for score, _ in pairs]), abs=1e-12)


@pytest.mark.parametrize(("middle", "width"), PLACES)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_auc_is_right_to_half_a_hundredth(shape: str, middle: float, width: float) -> None:
    for share in (0.5, 0.03):
        for apart in (0.3, 1.0, 2.0, 3.5):
            generator = np.random.default_rng(7)
            labels = generator.random(20_000) < share
            spread = getattr(generator, shape)(size=20_000)
            logits = (middle + width * (spread + apart * labels)).astype(np.float32)
            found = measured(logits, labels, logits=True)
            assert found == pytest.approx(roc_auc_score(labels, logits), abs=0.005), (share, apart)


def test_a_sure_model_of_a_rare_class_keeps_its_auc_and_the_equal_bins_lose_it() -> None:
    generator = np.random.default_rng(3)
    labels = generator.random(40_000) < 0.02
    logits = (-14 + 3 * (generator.normal(size=40_000) + 2 * labels)).astype(np.float32)
    exact = roc_auc_score(labels, logits)
    assert exact > 0.9
    assert measured(logits, labels, logits=True) == pytest.approx(exact, abs=0.001)
    older = measured(logits, labels, logits=True, scale=EQUAL)
    assert older is not None
    assert older < exact - 0.2


def test_logits_tell_rows_apart_whose_float32_probabilities_are_all_one() -> None:
    logits = np.linspace(20, 60, 200, dtype=np.float32)
    labels = np.arange(200) >= 100
    probabilities = (1 / (1 + np.exp(-logits))).astype(np.float32)
    assert measured(probabilities, labels) == 0.5
    assert measured(logits, labels, logits=True) == pytest.approx(1.0, abs=0.005)


def test_the_error_is_at_most_half_the_pairs_that_share_a_bin() -> None:
    generator = np.random.default_rng(11)
    labels = generator.integers(0, 2, 500) > 0
    logits = 0.001 * generator.normal(size=500)  # in few bins, so that there is an error at all
    report = metrics.evaluation(logits, labels, np.zeros(500), logits=True)
    shared = sum(p * n for p, n in zip(report["positives"], report["negatives"], strict=True))
    bound = shared / 2 / (int(labels.sum()) * int((~labels).sum()))
    error = abs((metrics.ratios(report)["auc"] or 0) - roc_auc_score(labels, logits))
    assert 0 < error <= bound


@pytest.mark.parametrize("scale", [LOGIT, EQUAL])
def test_the_upper_half_of_the_bins_begins_where_a_row_is_as_likely_as_not(scale: Scale) -> None:
    half = BINS[scale] // 2
    logits = np.array([-np.inf, -1e-12, -0.0, 0.0, 1e-12, np.inf])
    found = histograms.places(logits, scale, logits=True)
    assert found[0] == 0
    assert found[-1] == BINS[scale] - 1
    assert list(found[2:4]) == [half, half]
    just_below = math.nextafter(0.5, 0)
    assert list(histograms.places(np.array([just_below, 0.5]), scale, logits=False)) == [half - 1, half]


def test_probabilities_and_their_logits_fall_into_the_same_bins() -> None:
    scores = np.random.default_rng(1).random(5000)
    logits = np.log(scores / (1 - scores))
    for scale in (LOGIT, EQUAL):
        apart = histograms.places(scores, scale, logits=False) - histograms.places(logits, scale, logits=True)
        assert np.count_nonzero(apart) < 5  # a score on the very edge may be rounded to the other side


@given(parts, st.integers(0, 6))
def test_scales_are_merged_each_for_itself_and_in_any_groups(reports: list[tuple[Rows, Scale]], cut: int) -> None:
    told = [on(scale, pairs) for pairs, scale in reports]
    merged = metrics.merge(told)
    assert metrics.merge([metrics.merge(told[cut:]), metrics.merge(told[:cut])]) == merged
    alone = {scale: [pair for pairs, own in reports if own == scale for pair in pairs] for scale in (LOGIT, EQUAL)}
    found = histograms.by_scale(merged)
    for scale, (positives, negatives) in found.items():
        whole = on(scale, alone[scale])
        assert (positives, negatives) == (whole["positives"], whole["negatives"])
    assert set(found) == {scale for _, scale in reports}


def test_the_auc_of_mixed_reports_is_that_of_the_rows_on_the_commoner_scale() -> None:
    good, bad = [(2.0, 1), (-2.0, 0)], [(-2.0, 1), (2.0, 0)]
    few, many = on(LOGIT, good), on(EQUAL, bad * 2)
    assert metrics.ratios(metrics.merge([few, many]))["auc"] == 0.0
    assert metrics.ratios(metrics.merge([few, few, many]))["auc"] == 1.0  # of as many the finer one
    both = metrics.ratios(metrics.merge([few, many]))["others"]
    assert both["sensitivity"] == pytest.approx(1 / 3)  # counts are those of all rows


def test_named_scores_and_slices_are_merged_by_scale_too() -> None:
    def part(scale: Scale, scores: list[float]) -> Any:
        labels = [1, 0]
        whole = metrics.evaluation([0.5, 0.5], labels, [0.0, 0.0], scored={"fever": (scores, labels)}, scale=scale)
        return {**whole, "slices": {"sex": {"F": on(scale, [(scores[0], 1), (scores[1], 0)])}}}

    merged = metrics.merge([part(LOGIT, [0.9, 0.1]), part(EQUAL, [0.2, 0.8]), part(LOGIT, [0.7, 0.6])])
    assert metrics.ratios(merged)["others"]["auc_fever"] == 1.0
    women = merged["slices"]["sex"]["F"]
    assert (women["samples"], sum(women["positives"]), sum(women["other_scale"]["positives"])) == (3 * 2, 2, 1)


def test_two_columns_of_logits_have_an_auc() -> None:
    columns = np.array([[0.0, 2.0], [1.0, -1.0], [3.0, 3.5]])
    found = metrics.evaluation(columns, [1, 0, 0], [0.0] * 3, logits=True)
    assert found["correct"] == 2
    assert metrics.ratios(found)["auc"] == 1.0
