"""Keys: made, found, limited, ended."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from federations.models import ApiKey, Device, DeviceKey, Organization, Role
from federations.permissions import Actor
from federations.services import devices, keys
from fedportal.common import clock
from fedwire.errors import FedportalError
from tests.cast import Cast
from tests.federations.helpers import recorded, refused

PATTERN = re.compile(r"edg_[0-9A-Za-z]{8}_[0-9A-Za-z]{43}_[0-9A-Za-z]{6}")


def test_a_minted_key_has_the_promised_form_and_nothing_secret_is_stored() -> None:
    minted = keys.mint()
    assert PATTERN.fullmatch(minted.text)
    assert minted.text[4:12] == minted.lookup
    assert minted.text not in minted.hash
    assert len({keys.mint().text for _ in range(1000)}) == 1000


@pytest.mark.parametrize("at", [5, 20, 55, 60])
def test_one_mistyped_character_is_seen_without_the_database(at: int) -> None:
    text = keys.mint().text
    wrong = text[:at] + ("a" if text[at] != "a" else "b") + text[at + 1 :]
    with pytest.raises(FedportalError) as caught:
        keys.lookup_of(wrong)
    assert caught.value.code == "key_invalid"


@pytest.mark.parametrize(
    "token", ["x", "edg_", "edg_a_b_c", "Bearer x", "edg_" + "é" * 8 + "_" + "x" * 43 + "_000000", "\x00"]
)
def test_what_is_no_key_is_refused(token: str) -> None:
    with pytest.raises(FedportalError) as caught:
        keys.lookup_of(token)
    assert caught.value.code == "key_invalid"


def test_no_key_at_all_is_something_else() -> None:
    with pytest.raises(FedportalError) as caught:
        keys.lookup_of("")
    assert caught.value.code == "not_authenticated"


def test_a_key_finds_its_person_and_organization(cast: Cast) -> None:
    key = keys.find_api_key(cast.keys["olga"])
    assert (key.person, key.organization) == (cast.olga, cast.acme)


def test_an_unknown_key_and_a_wrong_secret_are_alike(cast: Cast) -> None:
    unknown = keys.mint().text
    lookup, secret = cast.keys["olga"][4:12], "0" * 43
    wrong = f"edg_{lookup}_{secret}_{keys._check(lookup, secret)}"
    for token in (unknown, wrong):
        with refused("key_invalid"):
            keys.find_api_key(token)
        with refused("key_invalid"):
            keys.find_device(token)
        with refused("key_invalid"):
            keys.find_holder(token)


def test_the_pepper_is_part_of_every_stored_key(cast: Cast, settings: Any) -> None:
    settings.FEDPORTAL_PEPPER = "another pepper"
    with refused("key_invalid"):
        keys.find_api_key(cast.keys["olga"])


def test_a_key_is_made_used_and_revoked(cast: Cast) -> None:
    with recorded("key.created"):
        key, text = keys.create(cast.actor("otto"), name="laptop", scopes=["runs:read", "runs:read"])
    assert key.scopes == ["runs:read"]
    assert ApiKey.objects.get(pk=key.pk).secret_hash != text
    with recorded("key.revoked", key.public_id):
        keys.revoke(cast.actor("otto"), key)
    keys.revoke(cast.actor("otto"), key)
    with refused("key_revoked"):
        keys.find_api_key(text)


def test_an_expired_key_is_refused_to_the_second(cast: Cast) -> None:
    expires = clock.now() + timedelta(hours=1)
    _, text = keys.create(cast.actor("olga"), name="short", scopes=["*"], expires_at=expires)
    with clock.frozen(expires - timedelta(seconds=1)):
        assert keys.find_api_key(text)
    with clock.frozen(expires), refused("key_expired"):
        keys.find_api_key(text)


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes"),
        ({"device_limit": 0}, "device_limit"),
        ({"expires_at": clock.now() - timedelta(days=1)}, "expires_at"),
    ],
)
def test_unusable_wishes_are_refused(cast: Cast, wish: dict[str, Any], field: str) -> None:
    with refused("field_invalid", field=field):
        keys.create(cast.actor("olga"), **{"name": "k", "scopes": ["*"], **wish})


def test_a_key_makes_no_key_that_may_more_or_lives_longer(cast: Cast) -> None:
    soon = clock.now() + timedelta(hours=1)
    key, _ = keys.create(cast.actor("olga"), name="team", scopes=["team:write"], expires_at=soon)
    actor = Actor(cast.olga, cast.acme, key)
    with refused("scope_missing", scope="*"):
        keys.create(actor, name="more", scopes=["*"], expires_at=soon)
    with refused("field_invalid", field="expires_at"):
        keys.create(actor, name="longer", scopes=["team:write"])
    assert keys.create(actor, name="same", scopes=["team:write"], expires_at=soon)


def test_a_key_without_the_scope_makes_none(cast: Cast) -> None:
    key, _ = keys.create(cast.actor("olga"), name="runs", scopes=["runs:write"])
    with refused("scope_missing"):
        keys.create(Actor(cast.olga, cast.acme, key), name="more", scopes=["runs:write"])


def test_an_admin_ends_anybodys_key_and_a_viewer_only_their_own(cast: Cast) -> None:
    ottos = ApiKey.objects.get(person=cast.otto)
    olgas = ApiKey.objects.get(person=cast.olga)
    with refused("forbidden"):
        keys.revoke(cast.actor("otto"), olgas)
    admin = Actor(cast.colleague(cast.acme, Role.ADMIN), cast.acme)
    assert keys.revoke(admin, ottos).revoked_at is not None
    with refused("not_found"):
        keys.revoke(cast.actor("rex"), olgas)


def test_use_is_remembered_to_the_minute(cast: Cast, django_assert_num_queries: Any) -> None:
    cast.client("olga").get("/api/v1/whoami")
    key = ApiKey.objects.get(person=cast.olga)
    first = key.last_used_at
    assert first is not None
    with django_assert_num_queries(0):
        keys.note_use(key)
    with clock.shifted(timedelta(minutes=2)):
        keys.note_use(key)
    assert ApiKey.objects.get(pk=key.pk).last_used_at > first


def test_a_device_is_found_with_one_query(cast: Cast, django_assert_num_queries: Any) -> None:
    keys.find_device(cast.device_key)
    with django_assert_num_queries(1):
        device, key = keys.find_device(cast.device_key)
    assert (device, key.device) == (cast.device, cast.device)
    with django_assert_num_queries(1):
        holder = keys.find_holder(cast.device_key)
    assert holder == (key.pk, device.pk, device.public_id, device.organization_id)


EITHER_WAY = pytest.mark.parametrize("find", [keys.find_device, keys.find_holder])


@EITHER_WAY
def test_the_first_use_of_a_fresh_device_key_ends_the_ones_before(cast: Cast, find: Callable[[str], Any]) -> None:
    find(cast.device_key)
    second, third = devices.rotate(cast.device).text, devices.rotate(cast.device).text
    find(cast.device_key)  # still good: nobody used the others
    find(second)
    with refused("key_revoked"):
        find(cast.device_key)
    find(third)
    with refused("key_revoked"):
        find(second)
    assert DeviceKey.objects.filter(device=cast.device, revoked_at=None).count() == 1


def test_a_key_of_a_person_is_none_of_a_device_and_the_other_way_round(cast: Cast) -> None:
    with refused("key_invalid"):
        keys.find_device(cast.keys["mia"])
    with refused("key_invalid"):
        keys.find_api_key(cast.device_key)


def test_staff_end_keys_through_the_organizations_own_log(cast: Cast) -> None:
    cast.rex.is_staff = True
    key = ApiKey.objects.get(person=cast.olga)
    with recorded("key.revoked", key.public_id):
        keys.revoke_by_staff(cast.rex, key)
    with refused("key_revoked"):
        keys.find_api_key(cast.keys["olga"])


@EITHER_WAY
def test_a_device_key_ends_with_its_time_its_device_and_its_organization(
    cast: Cast, find: Callable[[str], Any]
) -> None:
    def told(**ended: Any) -> None:
        for name, value in ended.items():
            model, field = name.split("__")
            {"key": DeviceKey, "device": Device, "owner": Organization}[model].objects.update(**{field: value})

    find(cast.device_key)
    before = clock.now() - timedelta(minutes=1)
    for change, undo, code in (
        ({"key__expires_at": before}, {"key__expires_at": None}, "key_expired"),
        ({"owner__suspended_at": before}, {"owner__suspended_at": None}, "organization_suspended"),
        ({"device__state": "retired"}, {"device__state": "quarantined"}, "device_inactive"),
        ({"key__revoked_at": before}, {"key__revoked_at": None}, "key_revoked"),
    ):
        told(**change)
        with refused(code):
            find(cast.device_key)
        told(**undo)
        find(cast.device_key)
