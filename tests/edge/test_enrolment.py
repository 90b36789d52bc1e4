"""Whom an edge lets in: by its own keys, by the portal's rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fedportal_sdk._config import Home, key_id_of
from fedportal_sdk.edge.enrolment import Enrolment
from fedportal_sdk.edge.store import Store
from fedwire.errors import FedportalError
from tests.edge.conftest import Clock


@pytest.fixture
def enrolment(tmp_path: Path, clock: Clock) -> Iterator[Enrolment]:
    store = Store(tmp_path / "edge")
    yield Enrolment(store, lambda: "org_metro", clock)
    store.close()


def signed(folder: Path, key: str, identifier: str = "hospital-001", **changes: Any) -> dict[str, Any]:
    """A registration by the device whose key pair lies in `folder`."""
    device = Home(folder).device("http://edge", identifier)
    return {**device.registration(key_id_of(key)), **changes}


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(FedportalError) as caught:
        call(*arguments)
    return caught.value.code


def test_a_device_registers_and_is_known_by_its_key(enrolment: Enrolment, tmp_path: Path) -> None:
    key = enrolment.make_key("ward")
    found = enrolment.register(key, signed(tmp_path / "a", key))
    member = enrolment.identify(found["device_key"])
    assert (member.id, member.identifier) == (found["id"], "hospital-001")
    assert (found["org_id"], found["key_expires_at"]) == ("org_metro", None)
    (listed,) = enrolment.listed()
    assert (listed["device_identifier"], listed["status"]) == ("hospital-001", "active")


def test_a_fresh_key_ends_the_one_before_when_it_is_first_used(enrolment: Enrolment, tmp_path: Path) -> None:
    key = enrolment.make_key()
    first = enrolment.register(key, signed(tmp_path / "a", key))
    enrolment.identify(first["device_key"])
    second = enrolment.register(key, signed(tmp_path / "a", key))
    assert second["id"] == first["id"]
    enrolment.identify(first["device_key"])  # still good: the fresh one may have been lost on its way
    third = enrolment.rotate(enrolment.identify(second["device_key"]))["device_key"]
    assert refused(enrolment.identify, first["device_key"]) == "key_invalid"
    enrolment.identify(third)
    assert refused(enrolment.identify, second["device_key"]) == "key_invalid"


def test_another_key_pair_does_not_take_a_device_over(enrolment: Enrolment, tmp_path: Path) -> None:
    key = enrolment.make_key()
    enrolment.register(key, signed(tmp_path / "a", key))
    assert refused(enrolment.register, key, signed(tmp_path / "b", key)) == "device_taken"
    enrolment.reset("hospital-001")
    enrolment.register(key, signed(tmp_path / "b", key))
    assert refused(enrolment.register, key, signed(tmp_path / "a", key)) == "device_taken"


def test_a_registration_is_good_once_and_for_its_key_only(enrolment: Enrolment, tmp_path: Path) -> None:
    key, other = enrolment.make_key(), enrolment.make_key()
    said = signed(tmp_path / "a", key)
    assert refused(enrolment.register, other, said) == "signature_invalid"
    enrolment.register(key, said)
    assert refused(enrolment.register, key, said) == "nonce_used"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"signature": "00" * 64}, "signature_invalid"),
        ({"signature": "xx"}, "field_invalid"),
        ({"public_key": 5}, "field_invalid"),
        ({"device_identifier": "../secret"}, "invalid_name"),
        ({"device_identifier": None}, "invalid_name"),
        ({"capabilities": {"notes": "x" * 5000}}, "field_invalid"),
    ],
)
def test_a_registration_that_is_none_leaves_nothing(
    enrolment: Enrolment, tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    key = enrolment.make_key()
    assert refused(enrolment.register, key, signed(tmp_path / "a", key, **changes)) == code
    assert enrolment.listed() == []


def test_keys_end_by_time_by_number_and_by_hand(enrolment: Enrolment, tmp_path: Path, clock: Clock) -> None:
    short, few = enrolment.make_key(days=1), enrolment.make_key(most=1)
    enrolment.register(few, signed(tmp_path / "a", few))
    enrolment.register(few, signed(tmp_path / "a", few))  # the same device again
    assert refused(enrolment.register, few, signed(tmp_path / "b", few, "hospital-002")) == "enrolment_full"
    clock.time += 86400
    assert refused(enrolment.register, short, signed(tmp_path / "a", short)) == "key_expired"
    assert enrolment.end_keys() == 2
    assert refused(enrolment.register, few, signed(tmp_path / "a", few)) == "key_revoked"
    fresh = enrolment.make_key()
    enrolment.register(fresh, signed(tmp_path / "a", fresh))


def test_a_key_that_is_none_is_refused(enrolment: Enrolment, tmp_path: Path) -> None:
    key = enrolment.make_key()
    said = signed(tmp_path / "a", key)
    assert refused(enrolment.register, "", said) == "not_authenticated"
    assert refused(enrolment.register, key[:-1] + "_", said) == "key_invalid"
    assert refused(enrolment.identify, "") == "not_authenticated"
    assert refused(enrolment.identify, key) == "key_invalid"


def test_a_revoked_device_is_out_for_good(enrolment: Enrolment, tmp_path: Path) -> None:
    key = enrolment.make_key()
    found = enrolment.register(key, signed(tmp_path / "a", key))
    enrolment.identify(found["device_key"])
    enrolment.revoke("hospital-001")
    assert refused(enrolment.identify, found["device_key"]) == "device_inactive"
    assert refused(enrolment.register, key, signed(tmp_path / "a", key)) == "device_inactive"
    assert refused(enrolment.reset, "hospital-001") == "device_inactive"
    assert enrolment.heard() == {}
    assert refused(enrolment.revoke, "hospital-002") == "not_found"


def test_nothing_that_is_stored_is_a_key(enrolment: Enrolment, tmp_path: Path) -> None:
    key = enrolment.make_key()
    found = enrolment.register(key, signed(tmp_path / "a", key))
    enrolment.identify(found["device_key"])
    content = b"".join(path.read_bytes() for path in (tmp_path / "edge").iterdir())
    for secret in (key, found["device_key"]):
        assert secret[13:].encode() not in content
    assert (tmp_path / "edge" / "edge.sqlite3").stat().st_mode & 0o077 == 0
