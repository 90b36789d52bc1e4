"""What people do with many devices, and with keys that end: groups, renewal, enrolment, and who hears of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from federations import fleet
from federations.models import AuditEntry, Device, DeviceGroup, DeviceKey, Role
from federations.permissions import Actor
from federations.services import device_groups, devices, keys, notifications
from fedportal.common import clock
from tests.cast import DEVICE, Cast, register
from tests.federations.helpers import recorded, refused


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Kind and sentence of all news."""
    heard: list[tuple[str, str]] = []
    tell = notifications.tell

    def listen(organization: Any, kind: str, **news: Any) -> None:
        heard.append((kind, news["sentence"]))
        tell(organization, kind, **news)

    monkeypatch.setattr(notifications, "tell", listen)
    return heard


def test_renewing_ends_the_keys_and_the_device_registers_again_as_itself(cast: Cast) -> None:
    with recorded("device.keys_ended", cast.device.public_id):
        devices.renew(cast.actor("mia"), cast.device)
    with refused("key_expired"):  # what the SDK takes for leave to register again
        keys.find_device(cast.device_key)
    again = register(cast.keys["mia"], DEVICE, cast.device_private)
    assert again["id"] == cast.device.public_id
    assert keys.find_device(again["device_key"])


def test_renewing_needs_the_right_and_a_device_that_is_not_ended(cast: Cast) -> None:
    viewer = Actor(cast.colleague(cast.metro, Role.VIEWER), cast.metro)
    with refused("forbidden"):
        devices.renew(viewer, cast.device)
    with refused("not_found"):
        devices.renew(cast.actor("olga"), cast.device)
    devices.retire(cast.actor("mia"), cast.device)
    with refused("device_inactive"):
        devices.renew(cast.actor("mia"), cast.device)


def test_an_enrolment_key_for_a_line_is_limited_in_number_and_time(cast: Cast) -> None:
    with recorded("key.created"):
        key, text = devices.invite(cast.actor("mia"), name="ward 3", days=2, device_limit=1)
    assert (key.scopes, key.device_limit) == (["devices:enroll"], 1)
    register(text, "ward-3")
    with refused("enrolment_full"):
        register(text, "ward-4")
    with clock.shifted(timedelta(days=3)), refused("key_expired"):
        keys.find_api_key(text)
    assert [device.identifier for device in fleet.arrived_with(key)] == ["ward-3"]


@pytest.mark.parametrize("role", [Role.PRIVACY_OFFICER, Role.AUDITOR, Role.VIEWER])
def test_who_may_not_register_devices_makes_no_line(cast: Cast, role: Role) -> None:
    with refused("forbidden"):
        devices.invite(Actor(cast.colleague(cast.metro, role), cast.metro), name="x", days=1, device_limit=1)


def test_the_first_registration_is_news_and_a_fresh_key_is_not(cast: Cast, told: list[tuple[str, str]]) -> None:
    register(cast.keys["mia"], DEVICE, cast.device_private)
    assert told == []
    register(cast.keys["mia"], "scanner-7")
    assert told == [("device.registered", "scanner-7 registered as a device of metro.")]


def test_the_end_of_a_device_is_news_and_its_return_is_not(cast: Cast, told: list[tuple[str, str]]) -> None:
    mia = cast.actor("mia")
    devices.quarantine(mia, cast.device)
    devices.restore(mia, cast.device)
    devices.revoke(mia, cast.device)
    assert told == [
        ("device.ended", f"Mia quarantined {DEVICE}."),
        ("device.ended", f"Mia revoked {DEVICE}."),
    ]


def test_several_devices_get_and_lose_a_group_in_one_act(cast: Cast) -> None:
    register(cast.keys["mia"], "scanner-7", groups=["pilot"])
    mia, of_metro = cast.actor("mia"), list(Device.objects.filter(organization=cast.metro))
    with recorded("devices.grouped", cast.metro.public_id):
        assert device_groups.assign(mia, cast.metro, of_metro, add="production") == 2
    with recorded("devices.grouped"):
        device_groups.assign(mia, cast.metro, of_metro, take="pilot")
    assert {group.name: group.count for group in fleet.labels(cast.metro)} == {"pilot": 0, "production": 2}


def test_a_group_of_nothing_or_of_others_devices_is_refused(cast: Cast) -> None:
    mia, olga = cast.actor("mia"), cast.actor("olga")
    for chosen, wish in (([], {"add": "x"}), ([cast.device], {}), ([cast.device], {"add": "a/b"})):
        with refused("invalid_name" if wish.get("add") == "a/b" else "field_invalid"):
            device_groups.assign(mia, cast.metro, chosen, **wish)
    with refused("field_invalid"):
        device_groups.assign(olga, cast.acme, [cast.device], add="x")
    with refused("forbidden"):
        viewer = Actor(cast.colleague(cast.metro, Role.VIEWER), cast.metro)
        device_groups.assign(viewer, cast.metro, [cast.device], add="x")
    assert not DeviceGroup.objects.exists()


def test_a_device_is_in_no_more_groups_than_it_may(cast: Cast) -> None:
    mia = cast.actor("mia")
    devices.set_groups(mia, cast.device, [f"g{number}" for number in range(devices.MAX_GROUPS)])
    with refused("field_invalid", field="group"):
        device_groups.assign(mia, cast.metro, [cast.device], add="one more")
    assert device_groups.assign(mia, cast.metro, [cast.device], add="g1") == 1


def test_groups_are_renamed_and_removed(cast: Cast) -> None:
    mia = cast.actor("mia")
    devices.set_groups(mia, cast.device, ["pilot", "old"])
    pilot, old = (DeviceGroup.objects.get(name=name) for name in ("pilot", "old"))
    with recorded("group.renamed"):
        device_groups.rename(mia, pilot, "production")
    with refused("name_taken"):
        device_groups.rename(mia, DeviceGroup.objects.get(name="production"), "old")
    with refused("not_found"):
        device_groups.remove(cast.actor("olga"), old)
    with recorded("group.removed"):
        device_groups.remove(mia, old)
    assert [group.name for group in cast.device.groups.all()] == ["production"]


@pytest.mark.parametrize(
    ("version", "older"), [("0.0.9", True), ("0.1.0", False), ("99.0.0", False), ("", False), ("0.1.0+local", False)]
)
def test_an_sdk_from_before_the_portals_is_older(version: str, older: bool) -> None:
    assert fleet.is_older(version) == older


def test_a_key_is_overdue_when_the_sdk_should_have_changed_it(cast: Cast) -> None:
    key = DeviceKey.objects.get(device=cast.device)
    assert not fleet.key_is_overdue(key)
    key.expires_at = key.created_at + timedelta(days=30)
    for days, overdue in ((21, False), (26, True), (31, True)):
        with clock.shifted(timedelta(days=days)):
            assert fleet.key_is_overdue(key) == overdue
    key.revoked_at = clock.now()
    assert not fleet.key_is_overdue(key)


def test_a_label_that_is_not_there_is_neither_taken_off_nor_removed_nor_renamed(cast: Cast) -> None:
    mia = cast.actor("mia")
    with refused("not_found"):
        device_groups.assign(mia, cast.metro, [cast.device], add="new", take="never")
    assert not DeviceGroup.objects.exists()  # nor is half of it done
    devices.set_groups(mia, cast.device, ["pilot"])
    label, again = (DeviceGroup.objects.get(name="pilot") for _ in range(2))
    with recorded("group.removed"):
        device_groups.remove(mia, label)
    with refused("not_found"):
        device_groups.remove(mia, again)
    with refused("not_found"):
        device_groups.rename(mia, again, "production")


def test_what_the_log_says_of_a_label_is_what_it_was_called_then(cast: Cast) -> None:
    mia = cast.actor("mia")
    devices.set_groups(mia, cast.device, ["x"])
    first, second, third = (DeviceGroup.objects.get(name="x") for _ in range(3))
    device_groups.rename(mia, first, "y")
    device_groups.rename(mia, second, "z")
    device_groups.remove(mia, third)
    entries = AuditEntry.objects.filter(action__startswith="group.").order_by("sequence")
    said = entries.values_list("details", flat=True)
    assert [(one.get("before"), one.get("after"), one.get("group")) for one in said] == [
        ("x", "y", None),
        ("y", "z", None),
        (None, None, "z"),
    ]
