"""One answer out of many, and what of it the portal takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fedportal_sdk.edge.merging import merged
from fedportal_sdk.local import Refusal
from fedwire import answers, metrics, statistics
from fedwire.histograms import EQUAL
from tests.edge.test_edge import task


def said(samples: int, held_out: int = 20, **more: Any) -> dict[str, Any]:
    """A device's answer."""
    draw = np.random.default_rng(samples)
    scores = draw.random(held_out)
    report = metrics.evaluation(scores, draw.random(held_out) > 0.5, np.ones(held_out))
    return {"samples": samples, "evaluation": report, **more}


def test_sums_counts_and_histograms_are_those_of_all_rows() -> None:
    found = [said(30, metrics={"loss": 1.0}, seconds=2.0), said(10, metrics={"loss": 3.0, "own": 7.0}, seconds=5.0)]
    answer = merged(task(), found)
    assert (answer["samples"], answer["devices"], answer["seconds"]) == (40, 2, 5.0)
    assert answer["metrics"] == {"loss": 1.5, "own": 7.0}
    assert answer["evaluation"] == metrics.merge([one["evaluation"] for one in found])


def test_the_order_of_arrival_leaves_no_trace() -> None:
    draw = np.random.default_rng(3)
    found = [{"samples": 9, "statistics": statistics.of(draw.normal(size=(9, 2)) * 10.0**n)} for n in range(4)]
    assert merged(task("statistics"), found) == merged(task("statistics"), found[::-1])


def test_the_names_of_parts_leave_no_trace() -> None:
    draw = np.random.default_rng(3)
    found = [{"samples": 9, "statistics": statistics.of(draw.normal(size=(9, 2)) * 10.0**n)} for n in range(4)]
    named = [[{**said, "part": part} for said, part in zip(found, parts, strict=True)] for parts in ("abcd", "dbca")]
    assert merged(task("statistics"), named[0]) == merged(task("statistics"), named[1])


def test_devices_of_two_ages_report_on_scales_of_their_own() -> None:
    new, old = said(30), said(10)
    draw = np.random.default_rng(5)
    old["evaluation"] = metrics.evaluation(draw.random(20), draw.random(20) > 0.5, np.ones(20), scale=EQUAL)
    answer = merged(task(), [new, old])
    checked = answers.check(dict(answer), kind="train", limit=1000)
    assert checked["evaluation"] == metrics.merge([new["evaluation"], old["evaluation"]])


def test_a_device_that_counts_no_scores_takes_only_the_scores_from_the_others() -> None:
    """Counts of scores are of all rows or of none; everything else is told."""
    scored, plain = said(30, 40), said(10, 20)
    half = {**metrics.evaluation([0.2] * 20, [1] * 20, [0.1] * 20), "sums": {f"a{n}": 1.0 for n in range(40)}}
    scored["evaluation"]["slices"] = {"sex": {"F": half}}
    other = {"samples": 20, "loss_sum": 3.0, "correct": 0, "sums": {f"b{n}": 1.0 for n in range(40)}}
    plain["evaluation"] = {"samples": 20, "loss_sum": 3.0, "correct": 0, "slices": {"sex": {"F": other}}}
    for classes in ([], [18, 2, 0, 0]):
        if classes:
            plain["evaluation"] |= {"confusion": classes, "correct": 18}
        answer = merged(task(), [scored, plain])
        report = answers.check(dict(answer), kind="train", limit=1000)["evaluation"]
        assert (report["samples"], "positives" in report) == (60, False)
        assert ("confusion" in report) == bool(classes)
        women = report["slices"]["sex"]["F"]
        assert (women["samples"], "positives" in women, len(women["sums"])) == (40, False, 50)


def test_a_device_that_claims_to_be_many_does_not_spoil_the_others_answer() -> None:
    answer = merged(task(), [said(30, devices=answers.MAX_DEVICES), said(10)])
    assert answers.check(dict(answer), kind="train", limit=1000)["devices"] == answers.MAX_DEVICES


def test_statistics_are_those_of_all_rows() -> None:
    rows = np.random.default_rng(4).normal(size=(50, 3))
    found = [{"samples": len(part), "statistics": statistics.of(part)} for part in (rows[:20], rows[20:])]
    whole = merged(task("statistics"), found)["statistics"]
    np.testing.assert_allclose(whole["mean"], rows.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(whole["m2"], ((rows - rows.mean(axis=0)) ** 2).sum(axis=0))


def test_slices_that_the_whole_would_give_away_are_left_out() -> None:
    """One device tells of its slices, the other of none: its five rows would be what is left over."""
    sliced, few = said(30, 40), said(10, 5)
    half = {"samples": 20, "loss_sum": 1.0, "correct": 0}
    sliced["evaluation"] |= {"slices": {"sex": {"F": half, "M": half}}}
    shape = {**task()["answer"], "least_records": 10}
    answer = merged(task(answer=shape), [sliced, few])
    assert list(answer["evaluation"]["slices"]["sex"]) == ["F"]
    assert answers.check(dict(answer), kind="train", limit=1000, least_records=10)["devices"] == 2


def test_more_rows_than_an_answer_may_stand_for_are_declined() -> None:
    with pytest.raises(Refusal, match="more rows than the 1,000"):
        merged(task(), [said(600), said(500)])


def test_more_names_than_a_report_may_have_are_cut() -> None:
    first, second = said(30), said(10)
    first["evaluation"]["sums"] = {f"a{n:02d}": 1.0 for n in range(40)}
    second["evaluation"]["sums"] = {f"b{n:02d}": 1.0 for n in range(40)}
    report = merged(task(), [first, second])["evaluation"]
    assert len(report["sums"]) == 50
    assert set(report["over"]) == set(report["sums"])
