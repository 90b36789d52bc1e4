"""Whose devices are not asked, and the sentence that says why; in a fixed number of queries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from federations.models import Member, Organization, Policy
from federations.services import agreements, enrolment, federations
from federations.services.agreements import Draft
from fedportal.common import clock
from tests.cast import Cast


def barred(cast: Cast, **options: Any) -> dict[str, str]:
    names = {cast.acme.pk: "acme", cast.metro.pk: "metro", cast.valley.pk: "valley"}
    return {names[pk]: reason for pk, reason in enrolment.barred(cast.federation, **options).items()}


def publish(cast: Cast, **ends_in: float) -> None:
    expires_at = clock.now() + timedelta(**ends_in) if ends_in else None
    agreements.publish(cast.actor("olga"), cast.federation, Draft("Study", "Text.", expires_at))


def test_without_agreement_and_policy_nobody_is_barred(cast: Cast) -> None:
    assert barred(cast, strategy="fedavg", present={}) == {}


def test_who_has_not_accepted_the_current_version_is_barred_until_it_does(cast: Cast) -> None:
    publish(cast)
    assert barred(cast) == {"metro": "metro has not accepted version 1 of the study agreement"}
    accept(cast)
    assert barred(cast) == {}
    publish(cast)
    assert barred(cast) == {"metro": "metro has not accepted version 2 of the study agreement"}


def accept(cast: Cast) -> None:
    agreement = agreements.current(cast.federation)
    assert agreement is not None
    agreements.accept(cast.actor("mia"), agreement)


def test_an_expired_agreement_bars_everybody_the_owner_too(cast: Cast) -> None:
    publish(cast, days=10)
    accept(cast)
    agreement = agreements.current(cast.federation)
    assert agreement is not None
    assert agreement.expires_at is not None
    with clock.frozen(agreement.expires_at - timedelta(seconds=1)):
        assert barred(cast) == {}
    with clock.frozen(agreement.expires_at):
        day = agreements.day(agreement.expires_at)
        assert barred(cast) == dict.fromkeys(("acme", "metro"), f"the study agreement expired on {day}")


def test_who_is_no_active_member_is_not_spoken_of(cast: Cast) -> None:
    publish(cast)
    federations.suspend(cast.actor("olga"), cast.federation, cast.metro)
    assert barred(cast) == {}  # and valley is only invited


def test_a_policy_allows_strategies_by_name_or_all(cast: Cast) -> None:
    policy = Policy.objects.create(organization=cast.metro, allowed_strategies=["fedprox"])
    assert barred(cast, strategy="fedprox") == {}
    assert barred(cast, strategy="") == {}
    assert barred(cast, strategy="fedavg") == {"metro": "metro does not allow the strategy fedavg"}
    policy.allowed_strategies = []
    policy.save()
    assert barred(cast, strategy="fedavg") == {}


@pytest.mark.parametrize(("present", "is_barred"), [(0, False), (1, True), (2, True), (3, False)])
def test_too_few_devices_take_no_part_and_none_at_all_is_no_bar(cast: Cast, present: int, is_barred: bool) -> None:
    Policy.objects.create(organization=cast.metro, least_devices=3)
    expected = f"metro takes part with at least 3 devices and has {present} there"
    found = barred(cast, present={cast.metro.pk: present, cast.acme.pk: 1})
    assert found == ({"metro": expected} if is_barred else {})


def test_the_agreement_comes_before_the_policy(cast: Cast) -> None:
    publish(cast)
    Policy.objects.create(organization=cast.metro, allowed_strategies=["fedprox"], least_devices=3)
    found = barred(cast, strategy="fedavg", present={cast.metro.pk: 1})
    assert found == {"metro": "metro has not accepted version 1 of the study agreement"}


@pytest.mark.parametrize("members", [3, 30])
def test_the_number_of_queries_does_not_grow_with_the_members(
    cast: Cast, members: int, django_assert_num_queries: Any
) -> None:
    publish(cast)
    for number in range(members):
        organization = Organization.objects.create(name=f"clinic-{number}")
        Member.objects.create(federation=cast.federation, organization=organization, state="active")
        Policy.objects.create(organization=organization, least_devices=2)
    with django_assert_num_queries(2):
        assert len(barred_of(cast)) == members + 1


def barred_of(cast: Cast) -> Any:
    return enrolment.barred(cast.federation, strategy="fedavg")
