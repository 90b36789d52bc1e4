"""Groups of large cohorts: what devices draw, that all find the same, and what a device does not put up with."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from fedwire.errors import FedportalError
from fedwire.masking import groups, statements
from fedwire.masking.groups import DRAWS, MOST_LOTS, Chain, Drawing, Lot
from fedwire.masking.terms import MOST_DEVICES, least_threshold
from tests.masking.conductor import reason_of

CHAINS = [Chain() for _ in range(40)]
FOUR = ("acme", "metro", "valley", "harbour")


def owners_like(count: int, shares: Sequence[int] = (4, 3, 2, 1)) -> list[str]:
    """So many devices of four organizations, whose sizes are in this relation."""
    names = [name for name, share in zip(FOUR, shares, strict=True) for _ in range(share)]
    return [names[number % len(names)] for number in range(count)]


def drawing_of(owners: Sequence[str], size: int = MOST_DEVICES, draw: int = 0) -> Drawing:
    """A list of so many devices; commitments are those of CHAINS as far as they go, and then of nobody."""
    said = [chain.commitment for chain in CHAINS] + [f"{number:064x}" for number in range(len(owners))]
    lots = tuple(Lot(f"device-{number:05d}", owner, said[number]) for number, owner in enumerate(owners))
    return Drawing("ab" * 16, "run_1", 3, 1, "cd" * 32, size, draw, lots)


def numbers_of(drawing: Drawing) -> list[str]:
    return [chain.number(drawing.draw) for chain in CHAINS[: len(drawing.lots)]]


def test_both_halves_find_the_same_groups_from_the_list_as_it_travels() -> None:
    drawing = drawing_of(owners_like(40), size=16)
    numbers = numbers_of(drawing)
    portals = groups.divided(drawing, groups.seed(drawing, numbers))
    travelled = Drawing.of(json.loads(statements.spelled(drawing.fields())))
    assert travelled == drawing
    assert len(portals) == 3
    for group in portals:
        for lot in group:
            drawn, mates = groups.group_of(travelled, numbers, lot.device)
            assert drawn == groups.seed(drawing, numbers)
            assert mates == {mate.device: mate.organization for mate in group}


def test_a_fixed_list_and_fixed_numbers_give_these_groups() -> None:
    """Devices in other languages compute the same, so it never changes."""
    links = [bytes([number]) * 32 for number in range(5)]
    commitments = [groups._before(link).hex() for link in links]
    lots = tuple(Lot(f"dev_{n}", f"org_{n % 2}", said) for n, said in enumerate(commitments))
    drawing = Drawing("00" * 16, "run_1", 1, 1, "11" * 32, 3, 0, lots)
    drawn = groups.seed(drawing, [link.hex() for link in links])
    assert commitments[0] == "1960c309fbf49d266354494edb198af9c47a53a7257f60e4661b6281f4eac931"
    assert drawn == "46352875937233e2411b8b9556c612a55aafbd2da3a33595aa8179cdcd28b7df"
    found = [[lot.device for lot in group] for group in groups.divided(drawing, drawn)]
    assert found == [
        ["dev_2", "dev_3", "dev_4"],
        ["dev_0", "dev_1"],
    ]


@pytest.mark.parametrize("count", [129, 130, 191, 192, 256, 257, 300, 384, 385, 641, 1000, 1025, 4096])
def test_every_group_has_64_to_128_devices_all_but_equal(count: int) -> None:
    drawing = drawing_of(owners_like(count))
    sizes = [len(group) for group in groups.divided(drawing, "00" * 32)]
    assert sum(sizes) == count
    assert min(sizes) >= 64
    assert max(sizes) <= 128
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("count", [1, 40, 128])
def test_a_cohort_that_fits_is_one_group(count: int) -> None:
    assert drawing_of(owners_like(count)).groups == 1


def test_each_organization_is_spread_evenly_over_the_groups_whatever_the_seed() -> None:
    owners = [f"org_{random.Random(number).randrange(60)}" for number in range(1000)]
    drawing = drawing_of(owners)
    whole = Counter(owners)
    for seed in range(10):
        found = groups.divided(drawing, f"{seed:064x}")
        assert {lot for group in found for lot in group} == set(drawing.lots)
        for group in found:
            for name, count in Counter(lot.organization for lot in group).items():
                assert count <= -(-whole[name] // len(found))


def test_who_is_with_whom_depends_on_every_number() -> None:
    drawing = drawing_of(owners_like(40), size=16)
    numbers = numbers_of(drawing)
    seen = {groups.seed(drawing, numbers)}
    for place, _ in enumerate(numbers):
        others = [replace(lot) for lot in drawing.lots]
        fresh = Chain()
        others[place] = replace(others[place], commitment=fresh.commitment)
        changed = [*numbers[:place], fresh.number(0), *numbers[place + 1 :]]
        seen.add(groups.seed(replace(drawing, lots=tuple(others)), changed))
    assert len(seen) == 41


def test_two_devices_of_one_organization_meet_as_often_as_chance_has_it() -> None:
    drawing = drawing_of(owners_like(200), size=50)  # four groups
    mates = 0
    for seed in range(400):
        (group,) = [
            group
            for group in groups.divided(drawing, f"{seed:064x}")
            if any(lot.device == "device-00000" for lot in group)
        ]
        mates += any(lot.device == "device-00001" for lot in group)
    assert 60 < mates < 135  # 400 · 19 / 79 = 96, ± four standard deviations


@pytest.mark.parametrize("draw", range(DRAWS))
def test_a_number_opens_its_commitment_in_its_own_draw_only(draw: int) -> None:
    chain, other = Chain(), Chain()
    number = chain.number(draw)
    assert groups.opens(chain.commitment, draw, number)
    assert not any(groups.opens(chain.commitment, wrong, number) for wrong in range(DRAWS) if wrong != draw)
    assert not groups.opens(other.commitment, draw, number)
    for none in ("", "zz", number[:-2], number + "00"):
        assert not groups.opens(chain.commitment, draw, none)


def test_later_numbers_do_not_follow_from_earlier_ones() -> None:
    chain = Chain()
    first, second, third = (bytes.fromhex(chain.number(draw)) for draw in range(DRAWS))
    assert groups._before(third) == second
    assert groups._before(second) == first
    assert groups._before(first).hex() == chain.commitment
    assert len({first, second, third}) == 3


@pytest.mark.parametrize("draw", [-1, DRAWS, 100])
def test_no_device_draws_more_often_than_its_chain_is_long(draw: int) -> None:
    with pytest.raises(FedportalError) as caught:
        Chain().number(draw)
    assert "draws 3 times" in reason_of(caught.value)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda numbers: numbers[:-1], "not as many as its lots"),
        (lambda numbers: [*numbers[:-1], "00" * 32], "number of device-00039 is not the one"),
        (lambda numbers: [numbers[1], numbers[0], *numbers[2:]], "number of device-00000 is not the one"),
        (lambda numbers: ["", *numbers[1:]], "number of device-00000 is not the one"),
    ],
)
def test_numbers_that_nobody_committed_to_give_no_groups(spoil: Callable[[list[str]], list[str]], reason: str) -> None:
    drawing = drawing_of(owners_like(40), size=16)
    with pytest.raises(FedportalError) as caught:
        groups.group_of(drawing, spoil(numbers_of(drawing)), "device-00007")
    assert reason in reason_of(caught.value)


def test_a_device_that_is_in_no_group_says_so() -> None:
    drawing = drawing_of(owners_like(40), size=16)
    with pytest.raises(FedportalError) as caught:
        groups.group_of(drawing, numbers_of(drawing), "device-99999")
    assert "in none of the groups" in reason_of(caught.value)


def swapped(drawing: Drawing) -> Drawing:
    return replace(drawing, lots=(drawing.lots[1], drawing.lots[0], *drawing.lots[2:]))


def twice(drawing: Drawing) -> Drawing:
    return replace(drawing, lots=(drawing.lots[0], *drawing.lots))


def copied(drawing: Drawing) -> Drawing:
    """The second commits to what the first committed to."""
    copy = replace(drawing.lots[1], commitment=drawing.lots[0].commitment)
    return replace(drawing, lots=(drawing.lots[0], copy, *drawing.lots[2:]))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (swapped, "not in order"),
        (twice, "names a device"),
        (copied, "a commitment twice"),
        (lambda drawing: replace(drawing, size=129), "groups are of 2 to 128"),
        (lambda drawing: replace(drawing, size=1), "groups are of 2 to 128"),
        (lambda drawing: replace(drawing, draw=1), "as often as the portal says"),
        (lambda drawing: replace(drawing, lots=drawing.lots[:5] + drawing.lots[6:]), "not in the list"),
        (lambda _: drawing_of(owners_like(MOST_LOTS + 1)), f"at most {MOST_LOTS}"),
    ],
)
def test_a_device_shows_no_number_for_a_list_that_is_not_whole(
    spoil: Callable[[Drawing], Drawing], reason: str
) -> None:
    drawing = drawing_of(owners_like(40), size=16)
    groups.check(drawing, drawing.lots[5])
    with pytest.raises(FedportalError) as caught:
        groups.check(spoil(drawing), drawing.lots[5])
    assert reason in reason_of(caught.value)


def test_those_who_are_left_draw_again_and_nobody_else() -> None:
    first = drawing_of(owners_like(40), size=16)
    mine, left = first.lots[5], first.lots[:30]
    again = replace(first, draw=1, lots=left)
    groups.check(again, mine, first)
    stranger = Lot("device-00030", "acme", "ff" * 32)
    for wrong, reason in (
        (replace(again, draw=0), "did not draw"),
        (replace(again, draw=2), "did not draw"),
        (replace(again, lots=first.lots), "not those who are left"),
        (replace(again, lots=(*left, stranger)), "not those who are left"),
        (replace(again, size=17), "not those who are left"),
    ):
        with pytest.raises(FedportalError) as caught:
            groups.check(wrong, mine, first)
        assert reason in reason_of(caught.value)


@pytest.mark.parametrize(
    ("devices", "size", "least", "most"),
    [
        *[(128, 128, 10, 128), (129, 128, 10, 129), (129, 128, 65, 128), (300, 128, 100, 300), (300, 128, 101, 256)],
        *[(24, 12, 10, 24), (25, 12, 10, 24), (12, 11, 10, 11), (9, 12, 10, 9), (5000, 128, 10, MOST_LOTS)],
    ],
)
def test_a_cohort_is_drawn_down_only_where_its_groups_would_be_too_small(
    devices: int, size: int, least: int, most: int
) -> None:
    assert groups.most(devices, size, least) == most


def test_a_cohort_is_refused_whose_groups_could_make_no_sum() -> None:
    def dealt(owners: list[str]) -> list[list[str]]:
        found = groups.divided(drawing_of(owners), "5a" * 32)
        return [[lot.organization for lot in group] for group in found]

    good = dealt(owners_like(300))
    groups.check_groups(good, 64, 3)
    assert all(least_threshold(owners) <= len(owners) for owners in good)
    for owners, devices, organizations, reason in (
        (owners_like(300), 101, 3, "100 devices are fewer than the 101"),
        (owners_like(300), 64, 5, "4 organizations are fewer than the 5"),
        (["acme"] * 299 + ["metro"] * 2, 64, 2, "1 organizations are fewer than the 2"),
        (["acme"] * 300, 64, 1, "most devices are of one organization"),
    ):
        with pytest.raises(FedportalError) as caught:
            groups.check_groups(dealt(owners), devices, organizations)
        assert reason in reason_of(caught.value)
