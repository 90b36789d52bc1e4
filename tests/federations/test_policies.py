"""An organization's policy: its own limits, checked, recorded, told, and binding whoever starts a run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from federations.models import AuditEntry, DeviceKey, Letter, Policy, Role
from federations.permissions import Actor
from federations.services import devices, keys, policies, spreading
from fedportal.common import clock
from tests.cast import DEVICE, Cast, register
from tests.federations.helpers import recorded, refused

JSON = "application/json"


def test_without_a_row_the_defaults_hold(cast: Cast) -> None:
    policy = policies.of(cast.metro)
    assert (policy.least_records, policy.least_devices, policy.allowed_strategies) == (0, 0, [])
    assert (policy.privacy_epsilon, policy.device_key_days, policy.residency) == (None, None, "")
    assert not Policy.objects.exists()


def test_limits_are_set_one_by_one_and_the_others_stay(cast: Cast) -> None:
    with recorded("policy.changed", cast.metro.public_id):
        policies.change(cast.actor("mia"), cast.metro, privacy_epsilon=4.0, privacy_delta=1e-5)
    with recorded("policy.changed"):
        policies.change(cast.actor("mia"), cast.metro, least_records=50, residency=" EU ")
    policy = Policy.objects.get(organization=cast.metro)
    assert (policy.privacy_epsilon, policy.privacy_delta, policy.least_records) == (4.0, 1e-5, 50)
    assert policy.residency == "EU"
    assert policies.of_all([cast.metro.pk, cast.acme.pk]) == {cast.metro.pk: policy}


def test_the_log_says_what_changed_from_what_to_what(cast: Cast) -> None:
    policies.change(cast.actor("mia"), cast.metro, least_records=50, allowed_strategies=["fedavg"])
    entry = AuditEntry.objects.latest("pk")
    assert entry.details == {
        "least_records": {"before": 0, "after": 50},
        "allowed_strategies": {"before": [], "after": ["fedavg"]},
    }


def test_what_is_as_it_was_writes_nothing(cast: Cast) -> None:
    policies.change(cast.actor("mia"), cast.metro, least_records=50)
    before = AuditEntry.objects.count(), Letter.objects.count()
    policies.change(cast.actor("mia"), cast.metro, least_records=50)
    assert (AuditEntry.objects.count(), Letter.objects.count()) == before


def test_those_who_answer_for_the_organization_are_told(cast: Cast) -> None:
    officer = cast.colleague(cast.metro, Role.PRIVACY_OFFICER)
    cast.colleague(cast.metro, Role.VIEWER)
    policies.change(cast.actor("mia"), cast.metro, least_records=50)
    spreading.spread_due()
    told = Letter.objects.filter(text__contains="changed the policy")
    assert set(told.values_list("to", flat=True)) == {cast.mia.email, officer.email}
    assert "fewest rows of a device" in told[0].text


@pytest.mark.parametrize("role", list(Role))
def test_only_an_owner_or_a_privacy_officer_sets_it(cast: Cast, role: Role) -> None:
    actor = Actor(cast.colleague(cast.metro, role), cast.metro)
    if role in (Role.OWNER, Role.PRIVACY_OFFICER):
        assert policies.change(actor, cast.metro, least_devices=2).least_devices == 2
    else:
        with refused("forbidden"):
            policies.change(actor, cast.metro, least_devices=2)
    with refused("not_found"):
        policies.change(actor, cast.acme, least_devices=2)


@pytest.mark.parametrize(
    ("limit", "value"),
    [
        ("privacy_epsilon", 0),
        ("privacy_epsilon", -1.0),
        ("privacy_epsilon", float("nan")),
        pytest.param("privacy_epsilon", 10**400, id="beyond-float"),
        ("privacy_epsilon", float("inf")),
        ("privacy_epsilon", 1001),
        ("privacy_epsilon", "4"),
        ("privacy_epsilon", True),
        ("privacy_delta", 0.0),
        ("privacy_delta", 1.0),
        ("privacy_delta", 1e-5),  # without an ε
        ("least_records", -1),
        ("least_records", 1.5),
        ("least_records", 10**12),
        ("least_devices", "2"),
        ("allowed_strategies", ["krumm"]),
        ("allowed_strategies", "fedavg"),
        ("residency", "x" * 61),
        ("residency", "E\nU"),
        ("device_key_days", 0),
        ("device_key_days", 3651),
        ("auto_rollback", 1),
        ("rollback_error_rate", 0),
        ("rollback_error_rate", 1.1),
        ("most_records", 5),
    ],
)
def test_an_unusable_limit_sets_nothing(cast: Cast, limit: str, value: Any) -> None:
    with refused("field_invalid", field=limit):
        policies.change(cast.actor("mia"), cast.metro, **({"residency": "EU"} | {limit: value}))
    assert not Policy.objects.exists()


def test_a_draft_is_checked_and_not_stored(cast: Cast) -> None:
    assert policies.drafted(cast.metro, least_records=7).least_records == 7
    assert policies.of(cast.metro).least_records == 0


def test_device_keys_end_as_the_policy_says_from_then_on(cast: Cast) -> None:
    assert DeviceKey.objects.get(device=cast.device).expires_at is None
    policies.change(cast.actor("mia"), cast.metro, device_key_days=30)
    assert DeviceKey.objects.get(device=cast.device).expires_at is None  # those that exist stay as they are
    answer = register(cast.keys["mia"], DEVICE, cast.device_private)
    fresh = devices.rotate(cast.device)
    assert answer["key_expires_at"][:10] == (clock.now() + timedelta(days=30)).date().isoformat()
    assert fresh.expires_at is not None
    keys.find_device(fresh.text)
    with clock.shifted(timedelta(days=31)), refused("key_expired"):
        keys.find_device(fresh.text)


def test_the_api_speaks_its_own_names(cast: Cast) -> None:
    address = f"/api/v1/orgs/{cast.metro.public_id}/policy"
    mia = cast.client("mia")
    sent = {"total_epsilon_budget": 4.0, "allowed_strategies": ["fedavg"], "auto_rollback_enabled": False}
    answer = mia.patch(address, sent, JSON)
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in sent} == sent
    assert mia.get(address).json() == answer.json()
    assert mia.patch(address, {"total_epsilon_budget": None}, JSON).json()["total_epsilon_budget"] is None
    assert mia.patch(address, {"total_epsilon_budget": -1}, JSON).json()["error"] == "field_invalid"
    assert cast.client("otto").get(f"/api/v1/orgs/{cast.acme.public_id}/policy").status_code == 200
