"""What happens at the same moment happens once: fifty threads on a real database file, and on a real PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from tests import services


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def races(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of every race, by name."""
    return services.raced("tests.federations.racing", request.param, tmp_path_factory.mktemp("races"))


def test_fifty_parallel_accepts_make_one_membership(races: dict[str, Any]) -> None:
    assert races["accept"] == {"outcomes": {"ok": 1, "invitation_used": 49}, "members": 1, "memberships": 1}


def test_an_address_invited_twenty_times_at_once_gets_one_letter_of_each_kind(races: dict[str, Any]) -> None:
    once = {"ok": 1, "already_member": 19}
    letters = ["federation", "organization"]
    assert races["invite"] == {"federation": once, "organization": once, "letters": letters}


def test_joining_fifty_times_is_joining_once(races: dict[str, Any]) -> None:
    assert races["join"] == {"outcomes": {"ok": 50}, "entries": 1}


def test_one_device_registering_fifty_times_is_one_device(races: dict[str, Any]) -> None:
    assert races["same_device"] == {"outcomes": {"ok": 50}, "devices": 1}


def test_one_of_fifty_key_pairs_gets_the_identifier(races: dict[str, Any]) -> None:
    assert races["taken_device"] == {"outcomes": {"ok": 1, "device_taken": 49}, "devices": 1}


def test_a_limit_holds_against_fifty_at_once(races: dict[str, Any]) -> None:
    assert races["limited_key"] == {"outcomes": {"ok": 5, "enrolment_full": 45}, "devices": 5}


def test_of_two_last_owners_one_stays(races: dict[str, Any]) -> None:
    assert races["last_owner"] == {"outcomes": {"ok": 1, "last_owner": 1}, "owners": 1}


def test_new_passwords_of_colleagues_in_two_organizations_do_not_wait_for_each_other_in_a_circle(
    races: dict[str, Any],
) -> None:
    assert races["passwords"] == {"outcomes": {"ok": 20}, "ended": 40}


def test_twenty_of_fifty_guesses_are_let_through(races: dict[str, Any]) -> None:
    assert races["tries"] == {"outcomes": {"ok": 20, "too_many_tries": 30}}


def test_every_chain_is_whole_after_fifty_appends_at_once(races: dict[str, Any]) -> None:
    assert races["appending"] == {"outcomes": {"ok": 50}, "breaks": []}


def test_news_that_ten_workers_spread_are_told_once_in_two_letters(races: dict[str, Any]) -> None:
    assert races["spread"] == {"outcomes": {"ok": 10}, "told": [1, 39], "waiting": 0}


def test_an_upload_pushed_ten_times_is_one_version(races: dict[str, Any]) -> None:
    assert races["push"] == {"outcomes": {"ok": 10}, "given": ["1.0.0"], "there": ["1.0.0"]}


@pytest.mark.parametrize("act", ["removed_during_share", "left_during_start", "left_during_change", "removed_from_two"])
def test_who_goes_meanwhile_keeps_nothing(races: dict[str, Any], act: str) -> None:
    assert races[act] == [[], False]


def test_who_comes_meanwhile_gets_everything(races: dict[str, Any]) -> None:
    assert races["joined_during_share"] == [[], True]


def test_who_is_sent_away_meanwhile_shares_nothing(races: dict[str, Any]) -> None:
    assert races["refused_after_leaving"] == [["FedportalError"], False]
