"""The federation's list of keys: who may ask, who signs, and that the portal keeps it and adds nothing."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.test import Client

from federations.models import Federation, Organization, RootEntry
from federations.services import federations, roots
from fedwire.errors import FedportalError
from fedwire.masking import roots as lists
from fedwire.masking.roots import ADD, REMOVE, ROTATE, Entry
from tests.cast import Cast
from tests.federations.helpers import letters_to, recorded, refused

KEYS = {name: Ed25519PrivateKey.generate() for name in ("acme", "metro", "valley", "fresh")}


def public(name: str) -> str:
    return KEYS[name].public_key().public_bytes_raw().hex()


def consent(federation: Federation, organization: Organization, op: str = ADD, **keys: str) -> dict[str, str]:
    """What an organization sends: it signs with `by`, for the key `key`; both its own unless said otherwise."""
    by, key = keys.get("by", organization.name), keys.get("key", organization.name)
    entry = lists.consented(KEYS[by], federation.public_id, op, organization.public_id, public(key))
    return {"op": op, "key": entry.key, "by_organization": entry.by_organization}


def placed(federation: Federation, entry: Entry, by: str = "acme") -> dict[str, Any]:
    """What the owner sends."""
    members = lists.listed(federation.public_id, roots.entries(federation))
    said = asdict(lists.accepted(KEYS[by], replace(entry, seq=0, prev="", by_owner=""), members))
    said.pop("federation")
    return said


def signed(cast: Cast) -> None:
    """The owner signs all that waits."""
    for entry in roots.waiting(cast.federation):
        roots.accept(cast.actor("olga"), cast.federation, **placed(cast.federation, entry))


@pytest.fixture
def listed(cast: Cast) -> Cast:
    """acme and metro are in the list."""
    for who, organization in (("olga", cast.acme), ("mia", cast.metro)):
        roots.propose(cast.actor(who), cast.federation, **consent(cast.federation, organization))
        signed(cast)
    return cast


def test_list_grows_by_what_organization_and_owner_sign(cast: Cast) -> None:
    with recorded("roots.proposed"):
        roots.propose(cast.actor("olga"), cast.federation, **consent(cast.federation, cast.acme))
    with recorded("roots.accepted"):
        signed(cast)
    roots.propose(cast.actor("mia"), cast.federation, **consent(cast.federation, cast.metro))
    assert [entry.organization for entry in roots.waiting(cast.federation)] == [cast.metro.public_id]
    assert "compare it by phone" in letters_to("olga@acme.example")[-1].text
    signed(cast)
    found = lists.listed(cast.federation.public_id, roots.entries(cast.federation))
    assert found.roots == {cast.acme.public_id: public("acme"), cast.metro.public_id: public("metro")}
    assert roots.waiting(cast.federation) == []
    assert roots.shown(cast.federation)["head"] == found.head


def test_who_asks_again_replaces_what_waits(cast: Cast) -> None:
    roots.propose(cast.actor("mia"), cast.federation, **consent(cast.federation, cast.metro))
    again = consent(cast.federation, cast.metro, by="fresh", key="fresh")
    roots.propose(cast.actor("mia"), cast.federation, **again)
    assert [entry.key for entry in roots.waiting(cast.federation)] == [public("fresh")]


def test_key_is_changed_with_the_one_before(listed: Cast) -> None:
    mia, metro, federation = listed.actor("mia"), listed.metro, listed.federation
    with refused("field_invalid"):
        roots.propose(mia, federation, **consent(federation, metro, ROTATE, by="fresh", key="fresh"))
    with refused("field_invalid"):
        roots.propose(mia, federation, **consent(federation, metro, ADD, by="fresh", key="fresh"))
    roots.propose(mia, federation, **consent(federation, metro, ROTATE, key="fresh"))
    signed(listed)
    assert lists.listed(federation.public_id, roots.entries(federation)).roots[metro.public_id] == public("fresh")


def test_owner_takes_an_organization_out(listed: Cast) -> None:
    gone = Entry(listed.federation.public_id, 0, "", REMOVE, listed.metro.public_id, "")
    federations.remove(listed.actor("olga"), listed.federation, listed.metro)
    roots.accept(listed.actor("olga"), listed.federation, **placed(listed.federation, gone))
    assert set(lists.listed(listed.federation.public_id, roots.entries(listed.federation)).roots) == {
        listed.acme.public_id
    }


@pytest.mark.parametrize("change", ["key", "by_organization", "op"])
def test_what_is_not_signed_does_not_wait(change: str, cast: Cast) -> None:
    said = consent(cast.federation, cast.metro) | {change: "remove" if change == "op" else "00" * 32}
    with refused("field_invalid"):
        roots.propose(cast.actor("mia"), cast.federation, **said)
    assert not RootEntry.objects.exists()


@pytest.mark.parametrize("change", ["prev", "key", "by_organization", "by_owner", "organization"])
def test_what_does_not_follow_is_no_entry(change: str, listed: Cast) -> None:
    fresh = consent(listed.federation, listed.metro, ROTATE, key="fresh")
    roots.propose(listed.actor("mia"), listed.federation, **fresh)
    (entry,) = roots.waiting(listed.federation)
    said = placed(listed.federation, entry) | {change: "00" * 32}
    with refused("field_invalid"):
        roots.accept(listed.actor("olga"), listed.federation, **said)
    assert len(roots.entries(listed.federation)) == 2


def test_two_owners_people_who_sign_at_once_are_told(listed: Cast) -> None:
    roots.propose(
        listed.actor("mia"), listed.federation, **consent(listed.federation, listed.metro, ROTATE, key="fresh")
    )
    (entry,) = roots.waiting(listed.federation)
    said = placed(listed.federation, entry)
    roots.accept(listed.actor("olga"), listed.federation, **said)
    with refused("conflict"):
        roots.accept(listed.actor("olga"), listed.federation, **said)


def test_first_line_is_the_owners(cast: Cast) -> None:
    roots.propose(cast.actor("mia"), cast.federation, **consent(cast.federation, cast.metro))
    (entry,) = roots.waiting(cast.federation)
    with refused("field_invalid"):
        roots.accept(cast.actor("olga"), cast.federation, **placed(cast.federation, entry, by="metro"))


@pytest.mark.parametrize(("who", "code"), [("otto", "forbidden"), ("vera", "wrong_state"), ("rex", "wrong_state")])
def test_asking_is_for_leaders_of_active_members(who: str, code: str, cast: Cast) -> None:
    actor = cast.actor(who)
    assert actor.organization is not None
    with refused(code):
        roots.propose(actor, cast.federation, **consent(cast.federation, actor.organization, by="fresh", key="fresh"))


@pytest.mark.parametrize(("who", "code"), [("otto", "forbidden"), ("mia", "forbidden"), ("rex", "not_found")])
def test_signing_is_for_the_owners_leaders(who: str, code: str, listed: Cast) -> None:
    roots.propose(
        listed.actor("mia"), listed.federation, **consent(listed.federation, listed.metro, ROTATE, key="fresh")
    )
    (entry,) = roots.waiting(listed.federation)
    with refused(code):
        roots.accept(listed.actor(who), listed.federation, **placed(listed.federation, entry))


def test_row_that_somebody_changed_is_seen(listed: Cast) -> None:
    """Whoever runs the portal can change its rows; every device and the command line then refuse the list."""
    RootEntry.objects.filter(organization=listed.metro).update(key=public("fresh"))
    with pytest.raises(FedportalError) as caught:
        lists.listed(listed.federation.public_id, roots.entries(listed.federation))
    assert caught.value.code == "masking_refused"


def test_page_shows_fingerprints_and_what_waits(listed: Cast, client: Client) -> None:
    client.force_login(listed.actor("olga").person)
    roots.propose(
        listed.actor("mia"), listed.federation, **consent(listed.federation, listed.metro, ROTATE, key="fresh")
    )
    page = client.get(f"/federations/{listed.federation.public_id}").content.decode()
    assert lists.fingerprint(public("acme")) in page
    assert lists.fingerprint(public("fresh")) in page
    assert "waits for the owner" in page
    assert roots.printed(listed.federation)["fingerprint"] in page


def test_page_without_a_list_says_what_that_means(cast: Cast, client: Client) -> None:
    client.force_login(cast.actor("olga").person)
    page = client.get(f"/federations/{cast.federation.public_id}").content.decode()
    assert "holds against a portal that is curious" in page
