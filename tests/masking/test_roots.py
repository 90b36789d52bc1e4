"""Certificates of devices and the federation's list of members: who signs what, and what no portal can make up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedwire.errors import FedportalError
from fedwire.masking import roots, statements
from fedwire.masking.roots import ADD, EMPTY, REMOVE, ROTATE, Certificate, Entry, Members
from tests.masking.conductor import Conductor, reason_of

FEDERATION, NOW = "fed_1", 1_800_000_000
ROOTS = {name: Ed25519PrivateKey.generate() for name in ("acme", "metro", "valley")}


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def chain(*organizations: str) -> list[Entry]:
    """The list after these joined; acme owns the federation."""
    entries: list[Entry] = []
    for name in organizations:
        entry = roots.consented(ROOTS[name], FEDERATION, ADD, name, public(ROOTS[name]))
        entries.append(roots.accepted(ROOTS["acme"], entry, roots.listed(FEDERATION, entries)))
    return entries


def refusal(entries: list[Entry]) -> str:
    with pytest.raises(FedportalError) as caught:
        roots.listed(FEDERATION, entries)
    return reason_of(caught.value)


def test_list_has_the_roots_of_all_who_joined() -> None:
    members = roots.listed(FEDERATION, chain("acme", "metro", "valley"))
    assert members.roots == {name: public(key) for name, key in ROOTS.items()}
    assert (members.owner, members.length) == ("acme", 3)


def test_member_is_removed_by_the_owner_alone_and_the_owner_never() -> None:
    entries = chain("acme", "metro")
    members = roots.listed(FEDERATION, entries)
    gone = roots.accepted(ROOTS["acme"], Entry(FEDERATION, 0, "", REMOVE, "metro", ""), members)
    assert set(members.after(gone).roots) == {"acme"}
    owner = roots.accepted(ROOTS["acme"], Entry(FEDERATION, 0, "", REMOVE, "acme", ""), members)
    assert "cannot be: remove of acme" in refusal([*entries, owner])


@pytest.mark.parametrize("name", ["metro", "acme"])
def test_new_key_is_signed_by_the_one_before(name: str) -> None:
    entries, fresh = chain("acme", "metro"), Ed25519PrivateKey.generate()
    members = roots.listed(FEDERATION, entries)
    entry = roots.consented(ROOTS[name], FEDERATION, ROTATE, name, public(fresh))
    changed = members.after(roots.accepted(ROOTS["acme"], entry, members))
    assert changed.roots[name] == public(fresh)
    forged = roots.consented(fresh, FEDERATION, ROTATE, name, public(fresh))
    assert "not signed by its organization" in refusal([*entries, roots.accepted(ROOTS["acme"], forged, members)])


def test_portal_cannot_add_an_organization_of_its_own() -> None:
    entries, mine = chain("acme", "metro"), Ed25519PrivateKey.generate()
    entry = roots.consented(mine, FEDERATION, ADD, "sybil", public(mine))
    forged = roots.accepted(mine, entry, roots.listed(FEDERATION, entries))
    assert refusal([*entries, forged]) == "entry 3 of the list of members is not signed by the federation's owner."


def test_owner_cannot_add_who_did_not_consent() -> None:
    entries = chain("acme")
    entry = Entry(FEDERATION, 0, "", ADD, "metro", public(ROOTS["metro"]))
    forged = roots.accepted(ROOTS["acme"], entry, roots.listed(FEDERATION, entries))
    assert "not signed by its organization" in refusal([*entries, forged])


@pytest.mark.parametrize("change", ["seq", "prev", "op", "organization", "key", "by_organization", "by_owner"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_no_word_of_the_list_can_be_changed(place: int, change: str) -> None:
    entries = chain("acme", "metro", "valley")
    values = {"seq": 7, "prev": "00" * 32, "op": REMOVE, "organization": "sybil", "key": "11" * 32}
    entries[place] = replace(entries[place], **{change: values.get(change, "22" * 64)})
    assert "list of members" in refusal(entries)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (0, 0, 1), (1, 2), (0, 2)])
def test_no_entry_can_be_moved_repeated_or_left_out(order: tuple[int, ...]) -> None:
    entries = chain("acme", "metro", "valley")
    assert "does not follow" in refusal([entries[place] for place in order])


def test_list_of_another_federation_is_none() -> None:
    with pytest.raises(FedportalError) as caught:
        roots.listed("fed_2", chain("acme"))
    assert "another federation" in reason_of(caught.value)


def test_list_only_grows() -> None:
    entries = chain("acme", "metro", "valley")
    for length in range(4):
        seen = roots.listed(FEDERATION, entries[:length])
        roots.check_grown(entries, seen.head, seen.length)
    seen = roots.listed(FEDERATION, entries)
    with pytest.raises(FedportalError) as caught:
        roots.check_grown(entries[:2], seen.head, seen.length)
    assert reason_of(caught.value) == "the list of members is shorter than it was."
    fork = chain("acme", "valley", "metro")
    with pytest.raises(FedportalError) as caught:
        roots.check_grown(fork, seen.head, seen.length)
    assert reason_of(caught.value) == "the list of members is another one than it was."


@pytest.fixture
def world() -> tuple[Conductor, Members, dict[str, Certificate]]:
    """A conductor whose devices are all certified."""
    conductor = Conductor()
    conductor.gather()
    certificates = {
        name: roots.certified(
            ROOTS[conductor.of[name]],
            (conductor.of[name], name, public(conductor.keys[name])),
            NOW - 10,
            NOW + 10,
        )
        for name in conductor.names
    }
    return conductor, roots.listed(FEDERATION, chain("acme", "metro", "valley")), certificates


World = tuple[Conductor, Members, dict[str, Certificate]]


def check(world: World, now: float = NOW) -> None:
    conductor, members, certificates = world
    roots.check_certified(members, [session.advert for session in conductor.sessions.values()], certificates, now)


def why(world: World, now: float = NOW) -> str:
    with pytest.raises(FedportalError) as caught:
        check(world, now)
    return reason_of(caught.value)


def test_certified_devices_are_trusted(world: World) -> None:
    check(world)


@pytest.mark.parametrize("now", [NOW - 11, NOW + 11])
def test_certificates_end(now: float, world: World) -> None:
    assert "is not good at this time" in why(world, now)


def test_device_without_a_certificate_is_not_trusted(world: World) -> None:
    del world[2]["device-003"]
    assert why(world) == "device-003 has no certificate."


def test_certificate_of_another_is_none(world: World) -> None:
    world[2]["device-003"] = world[2]["device-000"]  # of the same organization
    assert "is of another device" in why(world)


def test_device_of_nobody_is_not_trusted(world: World) -> None:
    conductor, members, certificates = world
    smaller = replace(members, roots={name: key for name, key in members.roots.items() if name != "valley"})
    assert why((conductor, smaller, certificates)) == "valley is not in the federation's list of members."
    assert "acme is not in" in why((conductor, EMPTY, certificates))


@pytest.mark.parametrize("change", ["organization", "device", "identity", "not_after", "not_before", "serial", "v"])
def test_no_word_of_a_certificate_can_be_changed(change: str, world: World) -> None:
    found = world[2]["device-003"]
    value = 7 if isinstance(getattr(found, change), int) else "00" * 32
    world[2]["device-003"] = replace(found, **{change: value})
    assert why(world) == "the certificate of device-003 is not signed by its organization."


def test_statement_of_another_kind_is_no_certificate(world: World) -> None:
    found = world[2]["device-003"]
    signature = statements.sign(ROOTS["acme"], "member", found.fields())
    world[2]["device-003"] = replace(found, signature=signature)
    assert "not signed by its organization" in why(world)


def test_fingerprint_is_short_and_of_the_whole_key() -> None:
    one = public(ROOTS["acme"])
    assert len(roots.fingerprint(one)) == 19
    assert roots.fingerprint(one) != roots.fingerprint(one[:-1] + ("0" if one[-1] != "0" else "1"))
