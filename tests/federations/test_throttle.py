"""Guessing is slowed down exactly as promised."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from federations.models import Tries
from federations.services import throttle
from fedportal.common import clock
from fedwire.errors import FedportalError


@pytest.mark.django_db
def test_the_window_slides() -> None:
    start = clock.now()
    for second in range(3):
        with clock.frozen(start + timedelta(seconds=second * 10)):
            throttle.count("t", "x", 3, 60)
    with clock.frozen(start + timedelta(seconds=59)), pytest.raises(FedportalError) as caught:
        throttle.count("t", "x", 3, 60)
    assert caught.value.context == {"seconds": 1}
    with clock.frozen(start + timedelta(seconds=61)):
        throttle.count("t", "x", 3, 60)
        with pytest.raises(FedportalError):
            throttle.count("t", "x", 3, 60)


@pytest.mark.django_db
def test_several_at_once_wait_until_there_is_room_for_all() -> None:
    start = clock.now()
    for second in (0, 10, 20):
        with clock.frozen(start + timedelta(seconds=second)):
            throttle.count("t", "x", 3, 60)
    with clock.frozen(start + timedelta(seconds=30)), pytest.raises(FedportalError) as caught:
        throttle.count("t", "x", 3, 60, 2)
    assert caught.value.context == {"seconds": 40}
    with clock.frozen(start + timedelta(seconds=71)):
        throttle.count("t", "x", 3, 60, 2)


@pytest.mark.django_db
def test_what_is_refused_does_not_count() -> None:
    throttle.count("t", "x", 1, 60)
    for _ in range(5):
        with pytest.raises(FedportalError):
            throttle.count("t", "x", 1, 60)
    assert len(Tries.objects.get().times) == 1


@pytest.mark.django_db
def test_subjects_are_separate_and_kept_as_hashes_only() -> None:
    throttle.count("t", "olga@acme.example", 1, 60)
    throttle.count("t", "otto@acme.example", 1, 60)
    throttle.count("u", "olga@acme.example", 1, 60)
    assert all("olga" not in row.subject and len(row.subject) == 64 for row in Tries.objects.all())


@pytest.mark.django_db
def test_old_tries_are_forgotten() -> None:
    throttle.count("t", "x", 1, 60)
    assert throttle.sweep() == 0
    with clock.shifted(timedelta(seconds=61)):
        assert throttle.sweep() == 1


@pytest.mark.parametrize(
    ("behind", "forwarded", "address"),
    [(False, "203.0.113.5", "192.0.2.1"), (True, "198.51.100.7, 203.0.113.5", "203.0.113.5"), (True, "", "192.0.2.1")],
)
def test_only_our_own_proxy_is_believed(settings: Any, behind: bool, forwarded: str, address: str) -> None:
    settings.FEDPORTAL_BEHIND_PROXY = behind
    request = SimpleNamespace(META={"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": forwarded})
    assert throttle.address_of(request) == address


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_who_holds_a_whole_network_counts_as_one(address: str, network: str) -> None:
    assert throttle.network_of(address) == network


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("most", "person", "organization", "to"),
    [
        (throttle.LETTERS_BY_PERSON, "usr_1", "org_{}", "{}@x.example"),
        (throttle.LETTERS_BY_ORGANIZATION, "usr_{}", "org_1", "{}@x.example"),
        (throttle.LETTERS_TO_ONE, "usr_{}", "org_{}", "olga@acme.example"),
    ],
)
def test_nobody_floods_others_with_letters(most: int, person: str, organization: str, to: str) -> None:
    def write(number: int) -> None:
        throttle.before_letters(person.format(number), organization.format(number), [to.format(number)])

    for number in range(most):
        write(number)
    with pytest.raises(FedportalError, match="no more letters") as caught:
        write(most)
    assert caught.value.next_step.startswith("Wait 24 h")
    with clock.shifted(timedelta(days=1, seconds=1)):
        write(most)
