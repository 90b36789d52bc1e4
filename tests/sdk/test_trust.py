"""Devices that ask each other for certificates, whatever the portal says of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedportal_sdk import _trust
from fedportal_sdk._config import write_private
from fedportal_sdk._journal import FileJournal
from fedportal_sdk._trust import Trust
from fedwire.errors import FedportalError
from fedwire.masking import roots
from fedwire.masking.roots import Entry
from fedwire.masking.statements import Advert
from tests.masking.conductor import reason_of
from tests.masking.test_roots import FEDERATION, ROOTS, chain
from tests.sdk.sums import NAMES, Summing
from tests.sdk.test_masking import Begin, Fleet, begin, policy

__all__ = ["begin"]
LONG = (0, 4_000_000_000)


def certify(fleet: Fleet, name: str, root: Ed25519PrivateKey | None = None) -> None:
    """Give the device its certificate, as its engineer would."""
    organization = name.partition("-")[0]
    with fleet.client(name) as client:
        identity = _trust.public(client._folder.private_key())
        signed = roots.certified(root or ROOTS[organization], (organization, name, identity), *LONG)
        write_private(client.folder / "certificate.json", json.dumps(asdict(signed)).encode())


def asked_for(fleet: Fleet, names: list[str]) -> None:
    for name in names:
        policy(fleet, name, "require_certificates = true")


def listed(entries: list[Entry]) -> list[dict[str, object]]:
    return [asdict(entry) for entry in entries]


def test_certified_devices_take_part_with_each_other(begin: Begin) -> None:
    portal = Summing()
    portal.members = listed(chain("acme", "metro", "valley"))
    fleet = begin(portal)
    asked_for(fleet, NAMES)
    for name in NAMES:
        certify(fleet, name)
    fleet.run()
    assert [survivors for _, _, survivors in portal.sums] == [NAMES]


def test_roster_with_a_device_that_its_organization_did_not_certify_is_refused_by_all(begin: Begin) -> None:
    """The portal's own device, among eleven honest ones: nobody gives it a share."""
    portal = Summing()
    portal.members = listed(chain("acme", "metro", "valley"))
    fleet = begin(portal)
    asked_for(fleet, NAMES[:-1])
    for name in NAMES:
        certify(fleet, name, Ed25519PrivateKey.generate() if name == NAMES[-1] else None)
    fleet.run()
    assert portal.sums == []
    refusing = {device for device, reason in portal.declined if f"certificate of {NAMES[-1]} is not signed" in reason}
    assert refusing == set(NAMES[:-1])
    assert not any(task.upload for task in portal.seen)


@pytest.mark.parametrize("shown", ["nothing", "list"])
def test_devices_that_ask_for_certificates_refuse_a_roster_without(shown: str, begin: Begin) -> None:
    portal = Summing()
    portal.members = listed(chain("acme", "metro", "valley")) if shown == "list" else []
    fleet = begin(portal)
    asked_for(fleet, ["acme-0", "valley-3"])
    for name in ("acme-0", "valley-3"):
        certify(fleet, name)
    fleet.run()
    assert [len(survivors) for _, _, survivors in portal.sums] == [10]
    wanted = "has no certificate" if shown == "list" else "there is no list of members"
    assert sorted(device for device, _ in portal.declined) == ["acme-0", "valley-3"]
    assert all(wanted in reason for _, reason in portal.declined)


@pytest.fixture
def trust(tmp_path: Path) -> Trust:
    return Trust(FileJournal(tmp_path))


def check(trust: Trust, entries: list[Entry]) -> None:
    trust.check(FEDERATION, {"members": listed(entries)}, [], certified=False)


def why(trust: Trust, entries: list[Entry]) -> str:
    with pytest.raises(FedportalError) as caught:
        check(trust, entries)
    return reason_of(caught.value)


def test_list_that_was_seen_only_grows(trust: Trust) -> None:
    check(trust, chain("acme", "metro"))
    check(trust, chain("acme", "metro"))
    check(trust, chain("acme", "metro", "valley"))
    assert why(trust, chain("acme", "metro")) == "the list of members is shorter than it was."
    assert why(trust, chain("acme", "valley", "metro")) == "the list of members is another one than it was."
    assert why(trust, []) == "there is no list of members to compare certificates with."
    check(trust, chain("acme", "metro", "valley"))


def test_list_that_is_refused_is_not_remembered(trust: Trust) -> None:
    with pytest.raises(FedportalError):
        trust.check("fed_2", {"members": listed(chain("acme"))}, [], certified=False)
    trust.check("fed_2", {}, [], certified=False)


def test_list_that_was_seen_is_still_known_after_a_restart(trust: Trust, tmp_path: Path) -> None:
    check(trust, chain("acme", "metro"))
    again = Trust(FileJournal(tmp_path))
    assert why(again, chain("acme", "valley")) == "the list of members is another one than it was."


def test_device_that_was_reset_is_known_by_the_key_that_was_certified_since(trust: Trust, tmp_path: Path) -> None:
    entries, name, journal = chain("acme", "metro"), "device-1", FileJournal(tmp_path)

    def meets(not_before: int, signer: Ed25519PrivateKey = ROOTS["acme"]) -> str:
        """The device appears with a new key; which one, and by which it is known then."""
        key = _trust.public(Ed25519PrivateKey.generate())
        made = roots.certified(signer, ("acme", name, key), not_before, LONG[1])
        advert = Advert(name, "acme", key, "", "", "")
        document = {"members": listed(entries), "certificates": {name: asdict(made)}}
        trust.check(FEDERATION, document, [advert], certified=False)
        return key

    journal.meet({name: "ab" * 32})
    first = meets(1_000)
    assert journal.identities()[name] == first
    meets(1_000)  # a fork
    meets(999)
    meets(2_000, ROOTS["metro"])
    meets(3_000_000_000)  # not good yet
    assert journal.identities()[name] == first
    second = meets(2_000)
    assert journal.identities()[name] == second


def test_root_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    with pytest.raises(FedportalError) as caught:
        _trust.root_key(tmp_path)
    assert caught.value.code == "not_configured"
    made = _trust.root_key(tmp_path, make=True)
    assert _trust.public(_trust.root_key(tmp_path, make=True)) == _trust.public(made)
    assert (tmp_path / "root_key.pem").stat().st_mode & 0o077 == 0
    shutil.copy(tmp_path / "root_key.pem", tmp_path / "copy.pem")
    (tmp_path / "root_key.pem").write_text("no key")
    with pytest.raises(FedportalError):
        _trust.root_key(tmp_path, make=True)  # what cannot be read is not replaced


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"organization": "acme"}'])
def test_file_that_holds_no_certificate_is_told_apart(content: str, tmp_path: Path) -> None:
    (tmp_path / "certificate.json").write_text(content)
    with pytest.raises(FedportalError) as caught:
        Trust(FileJournal(tmp_path)).certificate()
    assert caught.value.code == "field_invalid"
