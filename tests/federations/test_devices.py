"""Devices: their identity is their own key pair; everything else can be taken from them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federations import selectors
from federations.models import ApiKey, AuditEntry, Device, DeviceKey, Role
from federations.permissions import Actor
from federations.services import devices, keys
from fedportal.common import clock, live
from fedwire.states import MOVES, DeviceState
from tests.cast import DEVICE, Cast, register, registration
from tests.federations.helpers import recorded, refused


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch, settings: Any) -> list[int]:
    """The devices that were rung in this process."""
    heard: list[int] = []
    settings.FEDPORTAL_REDIS_URL = ""
    monkeypatch.setattr(live, "_listeners", [heard.extend])
    return heard


def test_a_device_registers_and_gets_its_key_once(cast: Cast) -> None:
    with recorded("device.registered"):
        answer = register(cast.keys["olga"], "scanner-7", groups=["production", "Pilot 1"])
    device = Device.objects.get(identifier="scanner-7")
    assert answer["id"] == device.public_id
    assert answer["org_id"] == cast.acme.public_id
    assert answer["device_identifier"] == "scanner-7"
    assert sorted(group.name for group in device.groups.all()) == ["Pilot 1", "production"]
    assert (device.platform, device.state, device.enrolled_with.person) == ("python", "active", cast.olga)
    found, _ = keys.find_device(answer["device_key"])
    assert found == device


def test_the_same_key_pair_again_gets_a_fresh_key_for_the_same_device(cast: Cast) -> None:
    again = register(cast.keys["mia"], DEVICE, cast.device_private, sdk_version="0.2.0")
    assert again["id"] == cast.device.public_id
    assert keys.find_device(cast.device_key)  # until the fresh one is used
    keys.find_device(again["device_key"])
    with refused("key_revoked"):
        keys.find_device(cast.device_key)
    assert Device.objects.get(pk=cast.device.pk).sdk_version == "0.2.0"


def test_another_key_pair_does_not_get_a_taken_identifier(cast: Cast) -> None:
    with refused("device_taken", identifier=DEVICE):
        register(cast.keys["mia"], DEVICE)
    assert keys.find_device(cast.device_key)


def test_an_identifier_is_taken_within_its_organization_only(cast: Cast) -> None:
    assert register(cast.keys["rex"], DEVICE)["id"] != cast.device.public_id


def test_a_captured_registration_is_worth_nothing(cast: Cast) -> None:
    said = registration(cast.keys["mia"], DEVICE, cast.device_private)
    devices.register(keys.find_api_key(cast.keys["mia"]), said)
    with refused("nonce_used"):
        devices.register(keys.find_api_key(cast.keys["mia"]), said)
    other = cast.key_for(cast.mia, cast.metro, ["*"])
    with refused("signature_invalid"):
        devices.register(keys.find_api_key(other), said)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("signature", "00" * 64, "signature_invalid"),
        ("signature", "zz" * 64, "field_invalid"),
        ("signature", "", "field_invalid"),
        ("signature", None, "field_invalid"),
        ("public_key", "ff" * 32, "signature_invalid"),
        ("public_key", "ab", "field_invalid"),
        ("public_key", 7, "field_invalid"),
        ("nonce", "00" * 16, "signature_invalid"),
        ("nonce", "00" * 15, "field_invalid"),
        ("device_identifier", "other", "signature_invalid"),
        ("device_identifier", "a/b", "invalid_name"),
        ("device_identifier", "dev_1", "reserved_name"),
        ("device_identifier", ["x"], "field_invalid"),
        ("platform", "x" * 61, "field_invalid"),
        ("platform", "a\x00b", "field_invalid"),
        ("capabilities", {"x": "y" * 5000}, "field_invalid"),
        ("capabilities", [1], "field_invalid"),
        ("groups", ["a/b"], "invalid_name"),
        ("groups", [7], "field_invalid"),
    ],
)
def test_a_registration_with_one_bad_field_registers_nothing(cast: Cast, field: str, value: Any, code: str) -> None:
    said = registration(cast.keys["olga"], "scanner-7")
    with refused(code):
        devices.register(keys.find_api_key(cast.keys["olga"]), {**said, field: value})
    assert not Device.objects.filter(organization=cast.acme).exists()


@pytest.mark.parametrize("role", [Role.PRIVACY_OFFICER, Role.AUDITOR, Role.VIEWER])
def test_enrolling_needs_a_role(cast: Cast, role: Role) -> None:
    token = cast.key_for(cast.colleague(cast.acme, role), cast.acme, ["*"])
    with refused("forbidden"):
        register(token, "scanner-7")


def test_enrolling_needs_the_scope(cast: Cast) -> None:
    with refused("scope_missing", scope="devices:enroll"):
        register(cast.key_for(cast.olga, cast.acme, ["team:write"]), "scanner-7")
    assert register(cast.key_for(cast.olga, cast.acme, ["devices:enroll"]), "scanner-7")


def test_an_enrolment_key_registers_no_more_devices_than_it_may(cast: Cast) -> None:
    token = cast.key_for(cast.olga, cast.acme, ["devices:enroll"], device_limit=2)
    private = Ed25519PrivateKey.generate()
    register(token, "one", private)
    register(token, "two")
    with refused("enrolment_full", limit=2):
        register(token, "three")
    assert register(token, "one", private)  # one that is registered may come again


def test_a_reset_lets_another_key_pair_take_the_identifier_once(cast: Cast) -> None:
    with recorded("device.reset", cast.device.public_id):
        devices.reset(cast.actor("mia"), cast.device)
    with refused("key_revoked"):
        keys.find_device(cast.device_key)
    new = register(cast.keys["mia"], DEVICE)
    assert new["id"] == cast.device.public_id
    with refused("device_taken"):
        register(cast.keys["mia"], DEVICE, cast.device_private)


@pytest.mark.parametrize("end", ["revoke", "retire"])
def test_the_end_of_a_device_is_final(cast: Cast, end: str) -> None:
    with recorded(f"device.{end}d" if end == "revoke" else "device.retired", cast.device.public_id):
        getattr(devices, end)(cast.actor("mia"), cast.device)
    with refused("device_inactive"):
        keys.find_device(cast.device_key)
    with refused("device_inactive"):
        register(cast.keys["mia"], DEVICE, cast.device_private)
    with refused("device_inactive"):
        devices.reset(cast.actor("mia"), cast.device)
    assert not DeviceKey.objects.filter(device=cast.device, revoked_at=None).exists()


@pytest.mark.parametrize("old", list(DeviceState))
@pytest.mark.parametrize(
    ("act", "new"),
    [
        ("quarantine", DeviceState.QUARANTINED),
        ("restore", DeviceState.ACTIVE),
        ("revoke", DeviceState.REVOKED),
        ("retire", DeviceState.RETIRED),
    ],
)
def test_devices_move_along_the_table_only(cast: Cast, old: DeviceState, act: str, new: DeviceState) -> None:
    Device.objects.filter(pk=cast.device.pk).update(state=old)
    if new in MOVES["device"][old]:
        assert getattr(devices, act)(cast.actor("mia"), cast.device).state == new
    else:
        with refused("wrong_state"):
            getattr(devices, act)(cast.actor("mia"), cast.device)
        assert Device.objects.get(pk=cast.device.pk).state == old


def test_a_device_that_is_revoked_is_rung_after_the_commit(
    cast: Cast, rung: list[int], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        devices.revoke(cast.actor("mia"), cast.device)
        assert rung == []
    assert set(rung) == {cast.device.pk}


def test_a_quarantined_device_keeps_its_key(cast: Cast) -> None:
    devices.quarantine(cast.actor("mia"), cast.device)
    device, _ = keys.find_device(cast.device_key)
    assert device.state == DeviceState.QUARANTINED


@pytest.mark.parametrize("role", [role for role in Role if role not in (Role.OWNER, Role.ADMIN, Role.DEVICE_OPERATOR)])
def test_only_some_roles_manage_devices(cast: Cast, role: Role) -> None:
    actor = Actor(cast.colleague(cast.metro, role), cast.metro)
    for act in (devices.revoke, devices.retire, devices.reset, devices.quarantine):
        with refused("forbidden"):
            act(actor, cast.device)
    with refused("forbidden"):
        devices.set_groups(actor, cast.device, ["x"])
    with refused("not_found"):
        devices.revoke(cast.actor("olga"), cast.device)


def test_groups_are_set_exactly(cast: Cast) -> None:
    with recorded("device.groups_set", cast.device.public_id):
        devices.set_groups(cast.actor("mia"), cast.device, ["production", "pilot", "pilot"])
    devices.set_groups(cast.actor("mia"), cast.device, ["pilot"])
    assert [group.name for group in cast.device.groups.all()] == ["pilot"]
    assert cast.metro.device_groups.count() == 2
    with refused("field_invalid"):
        devices.set_groups(cast.actor("mia"), cast.device, [f"g{n}" for n in range(21)])


def test_the_certificate_is_kept(cast: Cast) -> None:
    with recorded("device.certified"):
        devices.set_certificate(cast.actor("mia"), cast.device, "-----BEGIN CERTIFICATE-----")
    with refused("field_invalid"):
        devices.set_certificate(cast.actor("mia"), cast.device, "x" * 5000)


def test_rotating_is_recorded_as_the_devices_own_act(cast: Cast) -> None:
    with recorded("device.key_rotated", cast.device.public_id):
        devices.rotate(cast.device)
    assert AuditEntry.objects.latest("pk").actor == cast.device.public_id


def test_a_heartbeat_is_believed_for_what_it_says_and_not_recorded(cast: Cast) -> None:
    before = AuditEntry.objects.count()
    devices.heartbeat(cast.device, {"sdk_version": "0.3.0", "capabilities": {"cpus": 8}})
    device = Device.objects.get(pk=cast.device.pk)
    assert (device.sdk_version, device.platform, device.capabilities) == ("0.3.0", "python", {"cpus": 8})
    assert selectors.is_present(device)
    with clock.shifted(timedelta(seconds=61)):
        assert not selectors.is_present(device)
    assert AuditEntry.objects.count() == before


def test_staff_revoke_a_device_in_its_organizations_log(cast: Cast) -> None:
    with refused("forbidden"):
        devices.revoke_by_staff(cast.rex, cast.device)
    cast.rex.is_staff = True
    devices.revoke_by_staff(cast.rex, cast.device)
    entry = AuditEntry.objects.latest("pk")
    assert (entry.organization, entry.actor, entry.action) == (cast.metro, cast.rex.public_id, "device.revoked")


def test_an_enrolment_key_that_is_deleted_leaves_the_device(cast: Cast) -> None:
    ApiKey.objects.filter(person=cast.mia).delete()
    assert Device.objects.get(pk=cast.device.pk).enrolled_with is None
    assert keys.find_device(cast.device_key)
