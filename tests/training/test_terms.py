"""The plan of a run's rounds: what follows from what was said, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from fedwire.errors import FedportalError
from training import plan_words
from training.services import terms
from training.services.terms import Terms


def refused(said: dict[str, Any], need: int = 1) -> tuple[str, str]:
    with pytest.raises(FedportalError) as error:
        terms.checked(said, need)
    assert error.value.code == "field_invalid"
    return error.value.context["field"], error.value.context["reason"]


def test_nothing_said_asks_everybody_and_waits_for_all() -> None:
    assert terms.checked({}) == Terms() == Terms.of({})
    assert Terms().target(need=3, available=50) is None


@pytest.mark.parametrize(
    ("said", "mode", "over", "rule", "grace"),
    [
        ({"sample": 20}, "cross_device", 1.0, "wait", 0),
        ({"sample": 0.1}, "cross_device", 1.0, "wait", 0),
        ({"mode": "cross-device"}, "cross_device", 1.3, "cut", 0),
        ({"over_selection": 1.5}, "cross_device", 1.5, "cut", 0),
        ({"over_selection": 1.5, "stragglers": "wait"}, "cross_device", 1.5, "wait", 0),
        ({"grace_seconds": 5}, "cross_silo", 1.0, "grace", 5),
        ({"stragglers": "grace"}, "cross_silo", 1.0, "grace", 30),
        ({"quota": 2, "cap": 10, "stragglers": "cut"}, "cross_silo", 1.0, "cut", 0),
    ],
)
def test_what_was_left_out_follows_from_the_rest(
    said: dict[str, Any], mode: str, over: float, rule: str, grace: int
) -> None:
    found = terms.checked(said)
    assert (found.mode, found.over_selection, found.stragglers, found.grace_seconds) == (mode, over, rule, grace)
    assert Terms.of(found.as_json()) == found


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"mode": "everybody"}, "mode"),
        ({"mode": "cross_silo", "sample": 3}, "sample"),
        ({"mode": "cross_silo", "over_selection": 2}, "over_selection"),
        ({"sample": 0}, "sample"),
        ({"sample": 1.5}, "sample"),
        ({"sample": True}, "sample"),
        ({"sample": "many"}, "sample"),
        ({"sample": float("nan")}, "sample"),
        ({"over_selection": 0.5}, "over_selection"),
        ({"over_selection": 10**400}, "over_selection"),
        ({"buffer": 10**400}, "buffer"),
        ({"schedule": ["asynchronous"]}, "schedule"),
        ({"most_staleness": 0.5}, "most_staleness"),
        ({"staleness_exponent": 10**400}, "staleness_exponent"),
        ({"quota": -1}, "quota"),
        ({"quota": 3, "cap": 2}, "quota"),
        ({"cap": 1.5}, "cap"),
        ({"stragglers": "shoot"}, "stragglers"),
        ({"grace_seconds": 0}, "grace_seconds"),
        ({"grace_seconds": 5, "stragglers": "cut"}, "grace_seconds"),
    ],
)
def test_what_is_wrong_is_refused_with_its_field(said: dict[str, Any], field: str) -> None:
    assert refused(said)[0] == field


def test_a_sample_that_cannot_have_the_answers_is_refused() -> None:
    assert refused({"sample": 3}, need=4) == (
        "sample",
        "a round that asks 3 devices cannot have the 4 answers that it needs.",
    )


def test_all_that_is_wrong_is_told_at_once_and_what_does_not_go_together_when_each_is_right() -> None:
    found = terms.complaints({"sample": 0, "quota": -1})
    assert [error.context["field"] for error in found] == ["sample", "quota"]
    (together,) = terms.complaints({"mode": "cross_silo", "sample": 3})
    assert together.context["field"] == "sample"
    assert terms.complaints({"sample": 3}) == []


@pytest.mark.parametrize(
    ("said", "need", "available", "asked"),
    [
        ({"sample": 20}, 15, 134, 20),
        ({"sample": 0.1}, 1, 134, 14),
        ({"sample": 0.1}, 20, 134, 20),  # never fewer than it needs
        ({"sample": 1.0}, 1, 7, 7),
        ({"over_selection": 1.3}, 10, 134, 13),
        ({"over_selection": 1.1}, 10, 134, 11),  # 10 times 1.1 is not quite 11 in binary
        ({"sample": 12, "over_selection": 1.3}, 10, 134, 13),
        ({"mode": "cross_device"}, 3, 134, 4),
    ],
)
def test_how_many_a_round_asks(said: dict[str, Any], need: int, available: int, asked: int) -> None:
    assert terms.checked(said, need).target(need, available) == asked


@pytest.mark.parametrize(
    ("said", "need", "available", "sentence"),
    [
        ({}, 2, None, "Asks everybody who is there each round, closes when all have answered and needs 2."),
        (
            {"sample": 20, "quota": 2, "stragglers": "cut"},
            15,
            134,
            "Asks 20 of 134 devices each round, at least 2 of each organization, closes with 15 answers.",
        ),
        (
            {"sample": 0.1, "cap": 3},
            4,
            None,
            "Asks 10% of the devices that are there, at least 4 each round, at most 3 of each organization, closes when"
            " all have answered and needs 4.",
        ),
        (
            {"quota": 1, "cap": 3, "grace_seconds": 90},
            4,
            None,
            "Asks everybody who is there each round, at least 1 of each organization, at most 3 of each, closes"
            " 1 min 30 s after 4 answers are in.",
        ),
    ],
)
def test_a_plan_in_words(said: dict[str, Any], need: int, available: int | None, sentence: str) -> None:
    assert plan_words.told(terms.checked(said, need), need, available) == sentence
