"""How strictly a device's answer is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from federations.services import answers
from fedwire import histograms
from fedwire.errors import FedportalError
from fedwire.histograms import LOGIT
from fedwire.states import TaskKind

BINS = histograms.BINS[LOGIT]


def refused(answer: dict[str, Any], kind: str = TaskKind.TRAIN, **limits: Any) -> str:
    with pytest.raises(FedportalError) as error:
        answers.check(answer, kind=kind, **limits)
    assert error.value.next_step
    return error.value.code


def evaluation(**changes: Any) -> dict[str, Any]:
    """A proper report of three rows."""
    positives, negatives = [0] * BINS, [0] * BINS
    positives[150], negatives[20] = 1, 2
    proper = {"samples": 3, "loss_sum": 1.5, "correct": 2, "positives": positives, "negatives": negatives}
    return proper | {"scale": LOGIT} | changes


def test_known_fields_pass_and_unknown_ones_are_dropped() -> None:
    said = {"sha256": "a" * 64, "samples": 5, "seconds": 2, "metrics": {"loss": 1}, "evaluation": evaluation(), "x": 1}
    assert answers.check(said, kind=TaskKind.TRAIN) == {
        "sha256": "a" * 64,
        "samples": 5,
        "seconds": 2,
        "metrics": {"loss": 1.0},
        "evaluation": evaluation(),
    }


@pytest.mark.parametrize("samples", [None, 0, -1, 1.0, 1.5, True, "5", 10_000_001, 2**70, [5]])
def test_training_needs_a_whole_positive_number_of_samples(samples: Any) -> None:
    assert refused({"samples": samples}) == "samples_invalid"


def test_reports_on_local_training_pass() -> None:
    said = {"samples": 5, "steps": 3, "normaliser": 3.5, "base_loss": 0}
    assert answers.check(said, kind=TaskKind.TRAIN, needed=("steps", "normaliser", "base_loss")) == said


@pytest.mark.parametrize("devices", [0, -1, 1.0, True, "3", 10**6, [1]])
def test_a_number_of_devices_behind_an_answer_that_cannot_be_is_refused(devices: Any) -> None:
    assert refused({"samples": 5, "devices": devices}) == "field_invalid"


def test_an_answer_may_stand_for_several_devices_unless_each_must_be_seen_alone() -> None:
    said = {"samples": 5, "devices": 3}
    assert answers.check(said, kind=TaskKind.TRAIN) == said
    assert refused(said, individual=True) == "field_invalid"
    assert answers.check({**said, "devices": 1}, kind=TaskKind.TRAIN, individual=True)["devices"] == 1


@pytest.mark.parametrize("missing", ["steps", "normaliser", "base_loss"])
def test_a_report_that_the_strategy_needs_is_missed(missing: str) -> None:
    assert refused({"samples": 5}, needed=(missing,)) == "field_invalid"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("steps", [0, -1, 1.0, True, "3", 10**10, [1]]),
        ("normaliser", [0, -1.0, True, "3", float("nan"), float("inf"), 1e31, 10**400]),
        ("base_loss", [-1e-9, True, "3", float("nan"), float("inf"), 1e31]),
    ],
)
def test_a_report_that_cannot_be_is_refused(name: str, values: list[Any]) -> None:
    for value in values:
        assert refused({"samples": 5, name: value}) == "field_invalid"


def test_a_task_may_lower_the_limit_of_samples_but_not_raise_it() -> None:
    assert refused({"samples": 11}, max_samples=10) == "samples_invalid"
    assert refused({"samples": 10_000_001}, max_samples=10**9) == "samples_invalid"


def test_an_evaluation_may_be_of_no_rows() -> None:
    assert answers.check({"samples": 0}, kind=TaskKind.EVALUATE) == {"samples": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"samples": -1},
        {"samples": 3.0},
        {"samples": True},
        {"correct": 4},
        {"correct": -1},
        {"correct": 0.5},
        {"loss_sum": "1"},
        {"loss_sum": None},
        {"loss_sum": True},
        {"loss_sum": float("inf")},
        {"loss_sum": 10**400},
        {"positives": [0] * (BINS - 1)},
        {"positives": None},
        {"positives": [0.0] * BINS},
        {"negatives": [-1] + [0] * (BINS - 1)},
        {"negatives": [0] * BINS},  # does not count every row
        {"sums": {"x": float("nan")}},
        {"sums": {"x" * 61: 1.0}},
        {"sums": [1]},
    ],
)
def test_an_evaluation_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    assert refused({"samples": 3, "evaluation": evaluation(**change)}) == "metrics_invalid"


@pytest.mark.parametrize("value", [[], 1, "x"])
def test_an_evaluation_is_an_object(value: Any) -> None:
    assert refused({"samples": 3, "evaluation": value}) == "metrics_invalid"


STATISTICS = {"samples": 3, "mean": [1.0, 2], "m2": [0.5, 0]}


def test_statistics_pass() -> None:
    known = answers.check({"samples": 3, "statistics": STATISTICS}, kind=TaskKind.STATISTICS)
    assert known["statistics"] == STATISTICS


@pytest.mark.parametrize(
    "statistics",
    [
        None,
        [],
        {},
        STATISTICS | {"samples": 0},
        STATISTICS | {"samples": 1.5},
        STATISTICS | {"mean": [1.0]},
        STATISTICS | {"mean": []},
        STATISTICS | {"m2": [-1, 0]},
        STATISTICS | {"m2": [float("nan"), 0]},
        STATISTICS | {"mean": [True, 1]},
        STATISTICS | {"mean": [10**400, 1]},
        STATISTICS | {"mean": "12"},
    ],
)
def test_statistics_that_cannot_be_are_refused(statistics: Any) -> None:
    assert refused({"samples": 3, "statistics": statistics}, kind=TaskKind.STATISTICS) == "metrics_invalid"


@pytest.mark.parametrize(
    "named", [1, [], {"": 1}, {"x": "1"}, {"x": True}, {"x": 1e31}, {"a\0": 1}, {f"m{n}": 1 for n in range(65)}]
)
def test_a_trainers_own_metrics_are_numbers_by_name(named: Any) -> None:
    assert refused({"samples": 3, "metrics": named}) == "metrics_invalid"


@pytest.mark.parametrize("seconds", [-1, "1", True, float("inf"), 1e9])
def test_seconds_are_a_duration(seconds: Any) -> None:
    assert refused({"samples": 3, "seconds": seconds}) == "field_invalid"


@pytest.mark.parametrize("sha256", [1, "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n"])
def test_a_digest_is_a_digest(sha256: Any) -> None:
    assert refused({"samples": 3, "sha256": sha256}) == "field_invalid"


def test_the_digest_of_an_answer_ignores_spelling_and_nothing_else() -> None:
    one = answers.parse(b'{"samples": 3, "metrics": {"a": 1, "b": 2.50}}')
    other = answers.parse(b'{ "metrics":{"b":2.5,"a":1},"samples":3 }')
    assert answers.digest(one) == answers.digest(other)
    for changed in ({"samples": 4}, {"samples": 3.0}, {"samples": "3"}):
        assert answers.digest(one | changed) != answers.digest(one)


def test_an_answer_may_be_as_long_as_it_may_be() -> None:
    padding = answers.MAX_BYTES - len(json.dumps({"a": ""}))
    assert answers.parse(json.dumps({"a": "x" * padding}).encode())
    with pytest.raises(FedportalError) as error:
        answers.parse(json.dumps({"a": "x" * (padding + 1)}).encode())
    assert error.value.code == "body_too_large"
