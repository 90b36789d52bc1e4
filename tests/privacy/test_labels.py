"""The privacy label, setting by setting: what it says, and that it never says more than holds."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from training.privacy import accounting, labels
from training.privacy.accounting import Mechanism
from training.privacy.labels import EACH, NOTHING, OTHERS, PORTAL, SOME, SUMS, Facts, Spent, label
from training.privacy.protection import (
    CENTRAL,
    DISTRIBUTED,
    GROUPED,
    LOCAL,
    MECHANISMS,
    NONE,
    PLAIN,
    RECORDS,
    SECURE,
    Protection,
)

FIVE = Spent("org_a", "acme", {"device 2.0 1.0": 5}, 5)
TWO = Spent("org_m", "metro", {"device 2.0 1.0": 2}, 2)
OF_RECORDS = Spent("org_a", "acme", {"record 2.0 1.0": 5}, 1)


def facts(sums: str, mechanism: str, updates: int = 0, hidden: int = 0, spent: tuple[Spent, ...] = ()) -> Facts:
    noise = 2.0 if mechanism != NONE else 0.0
    return Facts(Protection(sums=sums, mechanism=mechanism, noise=noise), updates, hidden, spent)


TABLE: list[tuple[Facts, str, list[str], str]] = [
    # what happened, what the portal sees, towards whom ε is claimed, a part of a sentence
    (facts(PLAIN, NONE), EACH, [], "sees every update by itself"),
    (facts(PLAIN, NONE, 10), EACH, [], "no ε holds towards anybody"),
    (facts(PLAIN, NONE, 10, 10), EACH, [], "sees every update by itself"),  # a row without a file hides nothing here
    (facts(SECURE, NONE), NOTHING, [], "No update has come yet"),
    (facts(SECURE, NONE, 10, 10), SUMS, [], "never saw any of the 10 updates by itself, only sums"),
    (facts(GROUPED, NONE, 10, 10), SUMS, [], "only sums of groups over at least 10 devices of 3 organizations"),
    (facts(SECURE, NONE, 10, 4), SOME, [], "never saw 4 of 10 updates by itself"),
    (facts(SECURE, NONE, 10, 0), EACH, [], "sees every update by itself"),
    (facts(PLAIN, CENTRAL), EACH, [], "No round has been counted yet, so no ε is claimed"),
    (facts(PLAIN, CENTRAL, 10, 0, (FIVE,)), EACH, [OTHERS], "It does not hold towards the portal"),
    (facts(SECURE, CENTRAL, 10, 10, (FIVE,)), SUMS, [OTHERS], "which adds the noise and is trusted to do so"),
    (facts(PLAIN, LOCAL, 10, 0, (FIVE,)), EACH, [PORTAL, OTHERS], "by each device, to its own update"),
    (facts(PLAIN, RECORDS, 10, 0, (OF_RECORDS,)), EACH, [PORTAL, OTHERS], "with and without one record"),
    (facts(SECURE, DISTRIBUTED, 10, 10, (FIVE,)), SUMS, [PORTAL, OTHERS], "rests on devices that add their share"),
    (facts(SECURE, DISTRIBUTED, 10, 9, (FIVE,)), SOME, [OTHERS], "updates with one share only"),
    (facts(PLAIN, DISTRIBUTED, 10, 10, (FIVE,)), EACH, [OTHERS], "It does not hold towards the portal"),
    (facts(SECURE, DISTRIBUTED, 0, 0, (FIVE,)), NOTHING, [OTHERS], "It does not hold towards the portal"),
]


@pytest.mark.parametrize(("happened", "sees", "towards", "sentence"), TABLE)
def test_the_label_says_what_holds(happened: Facts, sees: str, towards: list[str], sentence: str) -> None:
    found = label(happened)
    assert found["sums"]["sees"] == sees
    assert found["noise"]["towards"] == towards
    assert sentence in " ".join(found["sentences"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def every() -> list[Facts]:
    """All settings with all that may have happened."""
    happened = list(itertools.product((0, 7), (0, 3, 7), ((), (FIVE,), (FIVE, TWO))))
    return [
        facts(sums, mechanism, updates, min(hidden, updates), spent)
        for sums, mechanism in itertools.product((PLAIN, SECURE, GROUPED), MECHANISMS)
        for updates, hidden, spent in happened
        if not spent or mechanism != NONE
    ]


def words(found: dict[str, Any]) -> str:
    return " ".join(found["sentences"])


@pytest.mark.parametrize("happened", every())
def test_no_label_says_more_than_holds(happened: Facts) -> None:
    found, seen_one_by_one = label(happened), happened.updates - (happened.hidden if happened.protection.hides else 0)
    # Whoever saw an update by itself is not said to see sums only.
    assert seen_one_by_one == 0 or found["sums"]["sees"] not in (SUMS, NOTHING)
    assert found["sums"]["sees"] != SUMS or "curious and keeps to the protocol" in words(found)
    # An ε has noise behind it, rounds that were counted, and all that makes it one.
    assert (found["noise"]["epsilon"] is not None) == bool(happened.spent and happened.protection.spends)
    for name in ("delta", "unit", "adjacency", "sampling", "accountant"):
        assert (found["noise"][name] is None) == (found["noise"]["epsilon"] is None)
    assert ("ε" not in words(found).replace("no ε", "")) == (found["noise"]["epsilon"] is None)
    # Towards the portal it is claimed only where the portal never held anything with less noise.
    shares = happened.protection.mechanism == DISTRIBUTED and (seen_one_by_one > 0 or not happened.updates)
    if PORTAL in found["noise"]["towards"]:
        assert happened.protection.mechanism != CENTRAL
        assert not shares
    # What is never protected is always said.
    assert "how many rows each device trained on" in words(found)


def test_the_worst_organization_is_the_one_that_is_told_and_each_has_its_own() -> None:
    found = label(facts(PLAIN, CENTRAL, 10, 0, (FIVE, TWO)))
    five, two = (accounting.epsilon([Mechanism(2.0, 1.0, rounds)], 1e-5) for rounds in (5, 2))
    assert found["noise"]["epsilon"] == five
    assert [(one["organization"]["name"], one["epsilon"], one["rounds"]) for one in found["organizations"]] == [
        ("acme", five, 5),
        ("metro", two, 2),
    ]
    assert all(
        one["adjacency"] == "with the update of one device, and with zeros in its place"
        for one in found["organizations"]
    )


def test_a_gain_from_sampling_names_what_it_rests_on() -> None:
    coin = Spent("org_a", "acme", {"device 2.0 0.1": 5}, 5)
    found = label(facts(PLAIN, LOCAL, 10, 0, (coin,)))
    assert found["noise"]["sampling"].startswith(
        "each tosses a coin of its own on its device, with the probability 0.1"
    )
    assert "nobody learns which took part" in words(found)
    assert label(facts(PLAIN, LOCAL, 10, 0, (FIVE,)))["noise"]["sampling"] == labels.NO_SAMPLING


def test_noise_that_nobody_adds_is_worth_nothing() -> None:
    asked = Facts(Protection(mechanism=CENTRAL, noise=2.0), 10, 0, (FIVE,), added=False)
    found = label(asked)
    assert (found["noise"]["epsilon"], found["noise"]["towards"], found["organizations"]) == (None, [], [])
    assert "was asked for and nobody adds it, so no ε holds" in words(found)


def test_so_little_noise_that_it_says_nothing_is_told_as_such() -> None:
    found = label(facts(PLAIN, LOCAL, 10, 0, (Spent("org_a", "acme", {"device 0.01 1.0": 5000}, 5000),)))
    assert found["noise"]["epsilon"] is None
    assert "too little for an ε that says anything" in words(found)


def test_that_local_noise_counts_a_round_once_is_said_not_to_hold_of_one_that_is_sent_twice() -> None:
    assert "trains the round again shows it twice" in words(label(facts(PLAIN, LOCAL, 10, 0, (FIVE,))))
    assert "shows it twice" not in words(label(facts(PLAIN, CENTRAL, 10, 0, (FIVE,))))


def test_certificates_lift_the_assumption_only_where_something_was_hidden() -> None:
    hidden = Facts(Protection(sums=SECURE), 10, 10, certified=True)
    assert "certified by their organizations" in words(label(hidden))
    assert not label(Facts(Protection(), 10, 0, certified=True))["sums"]["certified"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"evaluates": True}, "loss, accuracy, AUC and score histograms"),
        ({"evaluates": True, "personal": True}, "the same of the devices' own models"),
        ({"standardises": True}, "mean and spread of each column"),
        ({"checks": True}, "when they checked themselves"),
    ],
)
def test_what_leaves_as_it_is_is_named_where_it_leaves(more: dict[str, bool], told: str) -> None:
    assert told in words(label(Facts(Protection(), **{"evaluates": False, **more})))
    assert told not in words(label(Facts(Protection(), evaluates=False)))
