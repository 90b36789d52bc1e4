"""The draw of a round, within quota, cap and floors."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.services import sampling
from training.services.sampling import Candidate, Limits, drawn, expected

SIZES = st.dictionaries(st.integers(1, 5), st.integers(0, 12), max_size=5)


def devices(sizes: dict[int, int], seed: int = 7) -> list[Candidate]:
    """So many devices of each organization, ranked as in round 1."""
    return [
        Candidate(100 * organization + one, organization, sampling.rank(seed, 1, 1, f"org-{organization}", f"d-{one}"))
        for organization, count in sizes.items()
        for one in range(count)
    ]


def count(keys: set[int]) -> Counter[int]:
    return Counter(key // 100 for key in keys)


def test_without_limits_all_are_asked() -> None:
    assert len(drawn(devices({1: 3, 2: 4}), Limits())) == 7


def test_quota_first_then_by_rank() -> None:
    """Ranks 0, 1, 2 are organization 1's; the quota of 1 lets organization 2's last one in before them."""
    found = [Candidate(1, 1, 0), Candidate(2, 1, 1), Candidate(3, 1, 2), Candidate(4, 2, 9)]
    assert drawn(found, Limits(room=2, quota=1)) == {1, 4}
    assert drawn(found, Limits(room=3, quota=1)) == {1, 2, 4}
    assert drawn(found, Limits(room=2)) == {1, 2}


def test_quota_counts_even_beyond_the_room() -> None:
    assert count(drawn(devices({1: 5, 2: 5, 3: 5}), Limits(room=2, quota=2))) == {1: 2, 2: 2, 3: 2}


def test_cap_counts_those_that_take_part_already() -> None:
    assert count(drawn(devices({1: 5, 2: 5}), Limits(cap=3, have={1: 2}))) == {1: 1, 2: 3}


def test_devices_with_a_floor_come_together_or_not_at_all() -> None:
    found = [
        Candidate(101, 1, 0),
        Candidate(102, 1, 8),
        Candidate(103, 1, 9),
        Candidate(201, 2, 1),
        Candidate(202, 2, 2),
    ]
    assert drawn(found, Limits(room=3, floors={1: 3})) == {101, 102, 103}
    assert drawn(found, Limits(room=2, floors={1: 3})) == {201, 202}  # no room for the three
    assert drawn(found, Limits(room=3, cap=2, floors={1: 3})) == {201, 202}  # the cap keeps them out
    assert drawn(found, Limits(room=1, floors={1: 3}, have={1: 3})) == {101}  # the floor is met already


def test_draw_depends_on_seed_round_and_attempt() -> None:
    ranks = {sampling.rank(*place, "acme", "d-1") for place in [(7, 1, 1), (8, 1, 1), (7, 2, 1), (7, 1, 2)]}
    assert len(ranks) == 4
    assert sampling.rank(7, 1, 1, "acme", "d-1") == 5839787113954009185


def test_everybody_has_the_same_chance() -> None:
    """Of 20 devices 5 are drawn in each of 2,000 rounds: each about 500 times (standard deviation 19)."""
    names = [f"d-{one}" for one in range(20)]
    times: Counter[int] = Counter()
    for number in range(2000):
        ranked = [Candidate(key, key % 3, sampling.rank(7, number, 1, "acme", name)) for key, name in enumerate(names)]
        times.update(drawn(ranked, Limits(room=5)))
    assert all(abs(times[key] - 500) < 5 * 19.4 for key in range(20))


@given(SIZES, st.integers(0, 30), st.integers(0, 4), st.integers(0, 6), st.randoms())
def test_a_draw_keeps_its_limits_whatever_the_order(
    sizes: dict[int, int], room: int, quota: int, cap: int, order: random.Random
) -> None:
    quota = min(quota, cap) if cap else quota
    found, limits = devices(sizes), Limits(room=room, quota=quota, cap=cap)
    keys = drawn(found, limits)
    order.shuffle(found)
    assert drawn(found, limits) == keys
    have = count(keys)
    fits = {one: min(number, cap or number) for one, number in sizes.items()}
    least = sum(min(quota, number) for number in fits.values())
    assert len(keys) == max(min(room, sum(fits.values())), least)
    assert all(min(quota, fits[one]) <= have[one] <= fits[one] for one in sizes)


@given(SIZES, st.integers(0, 30))
def test_who_joins_later_is_the_next_of_the_same_draw(sizes: dict[int, int], room: int) -> None:
    found = devices(sizes)
    first = drawn(found, Limits(room=room))
    rest = [one for one in found if one.key not in first]
    assert first | drawn(rest, Limits(room=2)) == drawn(found, Limits(room=room + 2))


@pytest.mark.parametrize(
    ("present", "limits", "shares"),
    [
        ({1: 8, 2: 2}, Limits(), {1: 8, 2: 2}),
        ({1: 8, 2: 2}, Limits(room=5), {1: 4, 2: 1}),
        ({1: 8, 2: 2}, Limits(room=5, quota=2), {1: 3, 2: 2}),
        ({1: 8, 2: 2}, Limits(room=5, cap=3), {1: 3, 2: 2}),
        ({1: 1, 2: 1, 3: 1}, Limits(room=2), {1: 1, 2: 1, 3: 0}),
        ({1: 5, 2: 5}, Limits(room=1, quota=2), {1: 2, 2: 2}),
        ({1: 3, 2: 5}, Limits(floors={1: 4}), {1: 0, 2: 5}),
        ({}, Limits(room=5), {}),
    ],
)
def test_how_many_of_each_a_draw_is_expected_to_ask(
    present: dict[int, int], limits: Limits, shares: dict[int, int]
) -> None:
    assert expected(present, limits) == shares


@given(SIZES, st.integers(0, 30), st.integers(0, 4), st.integers(0, 6))
def test_what_is_expected_adds_up_to_what_is_drawn(sizes: dict[int, int], room: int, quota: int, cap: int) -> None:
    quota = min(quota, cap) if cap else quota
    limits = Limits(room=room, quota=quota, cap=cap)
    assert sum(expected(sizes, limits).values()) == len(drawn(devices(sizes), limits))
