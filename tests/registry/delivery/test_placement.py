"""Who gets a version first, and who is in which arm: stable, fair and to be worked out again by anybody."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.delivery import placement

FLEET = [f"dev_{number:04}" for number in range(1000)]


def test_a_place_is_the_first_eight_bytes_of_a_hash_over_both_ids() -> None:
    expected = hashlib.sha256(b"rol_1\x00dev_1").digest()
    assert placement.place("rol_1", "dev_1") == int.from_bytes(expected[:8], "big")


@pytest.mark.parametrize(
    ("fleet", "share", "wanted"),
    [(10, 1000, 1), (10, 1001, 2), (3, 1000, 1), (3, 0, 0), (0, 5000, 0), (8, 1250, 1), (1000, 10_000, 1000)],
)
def test_a_share_is_rounded_up(fleet: int, share: int, wanted: int) -> None:
    assert placement.wanted(fleet, share) == wanted


@pytest.mark.parametrize("share", [-1, 10_001])
def test_there_is_no_share_beyond_the_whole(share: int) -> None:
    with pytest.raises(ValueError, match="a share is from 0"):
        placement.wanted(10, share)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=6), st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_devices_only_ever_join_and_their_order_is_that_of_places(shares: list[int], size: int) -> None:
    fleet, members, seen = FLEET[:size], set[str](), [set[str]()]
    for share in sorted(shares):
        members |= set(placement.joining("rol_1", fleet, share, members))
        seen.append(set(members))
        assert members == set(sorted(fleet, key=lambda device: placement.place("rol_1", device))[: len(members)])
        assert len(members) == placement.wanted(size, share)
    assert all(before <= after for before, after in pairwise(seen))


def test_a_smaller_share_takes_nobody_out() -> None:
    members = placement.joining("rol_1", FLEET, 5000, ())
    assert placement.joining("rol_1", FLEET, 1000, members) == []


def test_members_that_left_the_fleet_do_not_count() -> None:
    members = placement.joining("rol_1", FLEET, 1000, ())
    remaining = [device for device in FLEET if device not in members]
    assert len(placement.joining("rol_1", remaining, 1000, members)) == placement.wanted(len(remaining), 1000)


def test_another_rollout_begins_with_others() -> None:
    first, second = (set(placement.joining(name, FLEET, 1000, ())) for name in ("rol_1", "rol_2"))
    assert len(first & second) < 30  # ten of a hundred are expected


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_arms_have_their_share_of_every_organization(share: int, size: int) -> None:
    found = placement.arms("exp_1", "org_1", FLEET[:size], share, {})
    treated = sum(arm == "treatment" for arm in found.values())
    assert set(found) == set(FLEET[:size])
    assert abs(treated - size * share / placement.WHOLE) < 1


def test_of_many_organizations_with_one_device_the_share_is_treated() -> None:
    found = [placement.arms("exp_1", f"org_{n}", [device], 3000, {})[device] for n, device in enumerate(FLEET)]
    assert 250 <= found.count("treatment") <= 350  # five standard deviations are 72


def test_an_arm_is_kept_and_new_devices_fill_up_what_is_missing() -> None:
    before = placement.arms("exp_1", "org_1", FLEET[:10], 5000, {})
    joined = placement.arms("exp_1", "org_1", FLEET[:20], 5000, before)
    assert set(joined) == set(FLEET[10:20])
    assert sum(arm == "treatment" for arm in (before | joined).values()) == 10


def test_one_sided_loss_of_devices_is_made_up_for() -> None:
    left = dict.fromkeys(FLEET[:4], "control")
    joined = placement.arms("exp_1", "org_1", FLEET[:8], 5000, left)  # type: ignore[arg-type]
    assert set(joined.values()) == {"treatment"}
