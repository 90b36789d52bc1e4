"""Members told from others: by hand, and for any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedportal_sdk.leakage import membership
from fedportal_sdk.leakage.chains import Chain
from fedwire.architectures import Architecture

SCORES = st.lists(st.floats(-5, 5), min_size=1, max_size=40).map(np.array)


def test_an_area_by_hand():
    """Of six pairs (3, 1 against 2, 0, 1) four are in order and one is a tie: 4.5 / 6."""
    found = membership.judged(np.array([3.0, 1.0]), np.array([2.0, 0.0, 1.0]))
    assert found.auc == pytest.approx(4.5 / 6)
    assert found.found == 0.5  # no false alarm is allowed among three, and 3 alone is above all of them
    assert (found.members, found.others) == (2, 3)


def test_one_false_alarm_in_a_hundred_is_allowed():
    others = np.arange(100.0)
    assert membership.judged(np.array([98.5, 97.5]), others).found == 0.5
    assert membership.judged(np.array([98.5, 97.5]), others[1:]).found == 0.0


@settings(max_examples=60, deadline=None)
@given(SCORES, SCORES)
def test_the_area_is_the_share_of_pairs_in_order_and_lies_in_its_interval(members, others):
    found = membership.judged(members, others)
    pairs = np.sign(members[:, None] - others[None, :])
    assert found.auc == pytest.approx((pairs.mean() + 1) / 2)
    assert membership.judged(others, members).auc == pytest.approx(1 - found.auc)
    for value, (low, high) in ((found.auc, found.auc_interval), (found.found, found.found_interval)):
        assert 0 <= low <= value + 1e-12
        assert value - 1e-12 <= high <= 1


@settings(max_examples=40, deadline=None)
@given(SCORES, SCORES)
def test_a_curve_goes_up_from_nothing_to_everything(members, others):
    curve = membership.judged(members, others).curve
    assert (curve[0], curve[-1]) == ((0, 0), (1, 1))
    assert list(curve) == sorted(curve)


def test_intervals_hold_what_they_promise():
    """Of 400 draws of scores that say nothing, about 95 % of intervals hold a half; with the seed it is always so."""
    random = np.random.default_rng(4)
    held = 0
    for _ in range(400):
        low, high = membership.judged(random.normal(size=40), random.normal(size=60)).auc_interval
        held += low <= 0.5 <= high
    assert 0.92 <= held / 400 <= 0.98


def test_without_rows_on_both_sides_there_is_nothing_to_tell():
    with pytest.raises(ValueError, match="nothing"):
        membership.judged(np.array([1.0]), np.array([]))


def test_a_row_alone_in_an_update_is_told_by_its_own_step():
    chain = Chain(Architecture.parse({"kind": "logistic", "inputs": 5, "classes": 2}))
    random = np.random.default_rng(6)
    rows, labels, before = random.normal(size=(30, 5)), np.arange(30) % 2, random.normal(size=6)
    update = -0.5 * chain.gradients(before, rows, labels)[0]
    by_update = membership.by_update(chain, before, update, rows, labels)
    assert by_update[0] == pytest.approx(1)
    assert by_update.argmax() == 0
    assert membership.by_gain(chain, before, before + update, rows, labels)[0] > 0
    assert membership.by_gain(chain, before, before, rows, labels).max() == 0
    np.testing.assert_allclose(membership.by_loss(chain, before, rows, labels), -chain.losses(before, rows, labels))
