"""Rounds of noise, added up for a budget."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.privacy import accounting, ledgers
from training.privacy.accounting import Mechanism
from training.privacy.protection import UNIT_DEVICE, UNIT_RECORD

DELTA = 1e-5
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([UNIT_DEVICE, UNIT_RECORD]),
        st.builds(Mechanism, st.sampled_from([0.5, 1.5, 4.0]), st.just(1.0), st.integers(1, 5)),
    ),
    max_size=12,
)


@given(EVENTS, st.randoms(use_true_random=False))
def test_what_is_taken_back_in_any_order_leaves_no_trace(
    events: list[tuple[str, Mechanism]], draw: random.Random
) -> None:
    counts = ledgers.summed(events)
    draw.shuffle(events)
    for unit, mechanism in events:
        counts = ledgers.added(counts, unit, mechanism, -1)
    assert counts == {}


def test_more_than_was_counted_cannot_be_taken_back() -> None:
    with pytest.raises(ValueError, match="never counted so often"):
        ledgers.added({"device 1.5 1.0": 1}, UNIT_DEVICE, Mechanism(1.5, 1.0, 2), -1)


@given(EVENTS)
def test_nothing_that_is_added_lessens_what_was_spent(events: list[tuple[str, Mechanism]]) -> None:
    grown = [ledgers.spent(ledgers.summed(events[:count]), DELTA) for count in range(len(events) + 1)]
    assert grown == sorted(grown)
    assert grown[0] == 0


@given(EVENTS)
def test_rounds_that_were_planned_cost_no_more_than_the_same_as_one_goes(events: list[tuple[str, Mechanism]]) -> None:
    counts = ledgers.summed(events)
    assert ledgers.planned(counts, DELTA) <= ledgers.spent(counts, DELTA) * (1 + 1e-6)


def test_rounds_of_devices_are_what_the_accountant_says() -> None:
    counts = ledgers.summed([(UNIT_DEVICE, Mechanism(2.0))] * 3 + [(UNIT_DEVICE, Mechanism(4.0))])
    assert counts == {"device 2.0 1.0": 3, "device 4.0 1.0": 1}
    one_by_one = accounting.running_epsilon([*[Mechanism(2.0)] * 3, Mechanism(4.0)], DELTA)
    assert ledgers.spent(counts, DELTA) == pytest.approx(one_by_one)


def test_rounds_of_devices_count_twice_the_move_once_records_are_what_counts() -> None:
    mixed = ledgers.summed([(UNIT_DEVICE, Mechanism(4.0, 0.1)), (UNIT_RECORD, Mechanism(3.0, 0.2))])
    assert ledgers.unit_of(mixed) == UNIT_RECORD
    assert ledgers.mechanisms(mixed) == (Mechanism(2.0, 1.0), Mechanism(3.0, 0.2))
    assert ledgers.mechanisms({"device 4.0 0.1": 1}) == (Mechanism(4.0, 0.1),)


@pytest.mark.parametrize("noise", [0.8, 2.0, 10.0])
@pytest.mark.parametrize("before", [[], [(UNIT_DEVICE, Mechanism(3.0, 1.0, 2))], [(UNIT_RECORD, Mechanism(5.0))]])
def test_as_many_rounds_are_left_as_fit_one_after_another(noise: float, before: list[tuple[str, Mechanism]]) -> None:
    counts, budget, each, rounds = ledgers.summed(before), 12.0, Mechanism(noise), 0
    left = ledgers.rounds_left(counts, UNIT_DEVICE, each, budget, DELTA)
    while ledgers.fits(counts, UNIT_DEVICE, each, budget, DELTA):
        counts, rounds = ledgers.added(counts, UNIT_DEVICE, each), rounds + 1
    assert rounds == left
    assert not before or ledgers.spent(counts, DELTA) <= budget


def test_mixed_runs_cost_less_together_than_the_sum_of_each() -> None:
    runs = [Mechanism(2.0, 1.0, 10), Mechanism(1.5, 1.0, 4), Mechanism(4.0, 1.0, 30)]
    counts = ledgers.summed((UNIT_DEVICE, run) for run in runs)
    naive = sum(accounting.epsilon([run], DELTA) for run in runs)
    assert ledgers.planned(counts, DELTA) < ledgers.spent(counts, DELTA) < naive
