"""Whose devices these are, by the word of their organizations and not of the portal.

An organization has an Ed25519 key, its root, which never leaves it. With it, it signs a certificate for each of its
devices, and takes its place in the federation's list of members. The list is a chain: each entry names the one before
by its digest, the first is the owner's, and the owner signs all. So whoever has seen the list once, by comparing a few
digits by phone, sees when a portal shows another one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedwire.errors import FedportalError
from fedwire.masking import statements
from fedwire.masking.statements import Advert, refused

VERSION = 1
ADD, REMOVE, ROTATE = "add", "remove", "rotate"
OPERATIONS = (ADD, REMOVE, ROTATE)


@dataclass(frozen=True)
class Certificate:
    """`device` of `organization` has this Ed25519 key, from `not_before` to `not_after`, in seconds since 1970."""

    organization: str
    device: str
    identity: str
    not_before: int
    not_after: int
    serial: str
    v: int = VERSION
    signature: str = ""

    def fields(self) -> dict[str, Any]:
        """What the signature covers."""
        return {name: value for name, value in asdict(self).items() if name != "signature"}

    def check(self, root: str, advert: Advert, now: float) -> None:
        """Raises `masking_refused` unless it is signed by this root, for the device of the advert, and good now."""
        if self.v != VERSION or not statements.is_signed(root, "certificate", self.fields(), self.signature):
            raise refused(f"the certificate of {advert.device} is not signed by its organization.")
        if (self.organization, self.device, self.identity) != (advert.organization, advert.device, advert.identity):
            raise refused(f"the certificate of {advert.device} is of another device, organization or key.")
        if not self.not_before <= now <= self.not_after:
            raise refused(f"the certificate of {advert.device} is not good at this time.")


def certified(root: Ed25519PrivateKey, about: tuple[str, str, str], begin: int, end: int) -> Certificate:
    """The certificate of a device: `about` is its organization's id, its own, and its key."""
    found = Certificate(*about, begin, end, secrets.token_hex(16))
    return replace(found, signature=statements.sign(root, "certificate", found.fields()))


@dataclass(frozen=True)
class Entry:
    """One line of a federation's list of members; `seq` counts from 1, `prev` is the digest of the line before.

    `by_organization` is the organization's consent: signed by the key that it comes with, or, where it changes its key,
    by the one that it had. `by_owner` is signed by the key of the owner, who is the first to be added.
    """

    federation: str
    seq: int
    prev: str
    op: str
    organization: str
    key: str
    by_organization: str = ""
    by_owner: str = ""

    @property
    def digest(self) -> str:
        """The line, signatures and all, in the next one."""
        return statements.digest(asdict(self))

    def consent(self) -> dict[str, Any]:
        """What the organization signs: it does not depend on the place in the list."""
        return {name: getattr(self, name) for name in ("federation", "op", "organization", "key")}

    def is_consented(self, key: str) -> bool:
        """Whether the organization signed it with this key."""
        return statements.is_signed(key, "membership", self.consent(), self.by_organization)

    def fields(self) -> dict[str, Any]:
        """What the owner signs."""
        return {name: value for name, value in asdict(self).items() if name != "by_owner"}


def consented(root: Ed25519PrivateKey, federation: str, op: str, organization: str, key: str) -> Entry:
    """An entry that the owner has yet to give a place."""
    entry = Entry(federation, 0, "", op, organization, key)
    return replace(entry, by_organization=statements.sign(root, "membership", entry.consent()))


def accepted(root: Ed25519PrivateKey, entry: Entry, members: Members) -> Entry:
    """The entry at the end of the list, signed by the owner's root."""
    placed = replace(entry, seq=members.length + 1, prev=members.head)
    return replace(placed, by_owner=statements.sign(root, "member", placed.fields()))


@dataclass(frozen=True)
class Members:
    """A list that was checked: the root of each organization that is in it, how long it is, and its last digest."""

    roots: Mapping[str, str]
    owner: str = ""
    head: str = ""
    length: int = 0

    def after(self, entry: Entry) -> Members:
        """With one more entry. Raises `masking_refused` for one that does not follow."""
        if entry.seq != self.length + 1 or entry.prev != self.head or entry.op not in OPERATIONS:
            raise refused(f"entry {entry.seq} of the list of members does not follow the one before.")
        there = self.roots.get(entry.organization, "")
        owner = self.owner or entry.organization
        if bool(there) != (entry.op != ADD) or (entry.op == REMOVE and entry.organization == owner):
            raise refused(f"entry {entry.seq} of the list of members cannot be: {entry.op} of {entry.organization}.")
        signer = self.roots.get(owner, entry.key)
        if not statements.is_signed(signer, "member", entry.fields(), entry.by_owner):
            raise refused(f"entry {entry.seq} of the list of members is not signed by the federation's owner.")
        consenting = there if entry.op == ROTATE else entry.key
        if entry.op != REMOVE and not entry.is_consented(consenting):
            raise refused(f"entry {entry.seq} of the list of members is not signed by its organization.")
        roots = {name: key for name, key in self.roots.items() if name != entry.organization}
        if entry.op != REMOVE:
            roots[entry.organization] = entry.key
        return Members(roots, owner, entry.digest, entry.seq)


EMPTY = Members({})


def listed(federation: str, entries: Iterable[Entry]) -> Members:
    """The members by this list of the federation. Raises `masking_refused` for one that is not whole."""
    found = EMPTY
    for entry in entries:
        if entry.federation != federation:
            raise refused(f"entry {entry.seq} of the list of members is of another federation.")
        found = found.after(entry)
    return found


def check_grown(entries: Sequence[Entry], head: str, length: int) -> None:
    """Raises `masking_refused` for a list that does not begin with the one that was seen, of this head and length."""
    if len(entries) < length:
        raise refused("the list of members is shorter than it was.")
    if length and entries[length - 1].digest != head:
        raise refused("the list of members is another one than it was.")


def check_certified(
    members: Members, adverts: Iterable[Advert], certificates: Mapping[str, Certificate], now: float
) -> None:
    """Raises `masking_refused` unless each of these devices is certified by an organization of the list."""
    for advert in adverts:
        if advert.organization not in members.roots:
            raise refused(f"{advert.organization} is not in the federation's list of members.")
        if advert.device not in certificates:
            raise refused(f"{advert.device} has no certificate.")
        certificates[advert.device].check(members.roots[advert.organization], advert, now)


def certified_keys(
    members: Members, adverts: Iterable[Advert], certificates: Mapping[str, Certificate], now: float
) -> dict[str, tuple[str, int]]:
    """Device → its key, and since when that is certified, for those of these devices that `check_certified` accepts."""
    found = {}
    for advert in adverts:
        try:
            check_certified(members, [advert], certificates, now)
        except FedportalError:
            continue
        found[advert.device] = (advert.identity, certificates[advert.device].not_before)
    return found


def fingerprint(key: str) -> str:
    """What people compare of a key or a list, by phone: 16 digits of its SHA-256, in fours."""
    found = statements.digest(key)[:16]
    return " ".join(found[start : start + 4] for start in range(0, 16, 4))
