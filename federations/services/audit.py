"""The audit log: who did what, in hash chains that show a later change of entries.

Each organization has a chain, the portal has one. An entry is appended in the unit of the act it speaks of ("no audit,
no action"), under the lock of the chain's head. Its hash covers all its columns and the hash before it. Personal data
enters as a keyed commitment, secrets never.

What it does not show: the hashes have no key, so whoever can write to the database can compute a chain anew from the
changed entry to its head. Against the operator only a head that somebody else has kept helps.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from federations import permissions
from federations.models import ApiKey, AuditChain, AuditEntry, Device, Organization, Person
from federations.permissions import Actor
from federations.services import throttle
from fedportal.common import clock
from fedportal.common.transactions import unit

PORTAL = "portal"
# How often an organization may have its whole chain looked through.
CHECKS, CHECK_SECONDS = 10, 60 * 60
Author = Actor | Person | ApiKey | Device | str


@dataclass(frozen=True)
class Break:
    """The first place where a chain is not what was written."""

    chain: str
    sequence: int
    reason: str


def record(organization: Organization | None, actor: Author, action: str, subject: str = "", /, **details: Any) -> None:
    """Append an entry to the organization's chain (None: the portal's). Call it inside the unit of the act.

    `details` are plain JSON values; ids rather than names, `commitment(address)` rather than an address.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("an audit entry belongs into the unit of its act")
    chain = organization.public_id if organization else PORTAL
    head, _ = AuditChain.objects.select_for_update(no_key=True).get_or_create(name=chain)
    entry = AuditEntry(
        chain=chain,
        organization=organization,
        sequence=head.sequence + 1,
        at=clock.now(),
        actor=actor if isinstance(actor, str) else actor.public_id,
        action=action,
        subject=subject,
        details=_plain(details),
        previous_hash=head.hash,
    )
    entry.hash = hash_of(entry)
    entry.save(force_insert=True)
    head.sequence, head.hash = entry.sequence, entry.hash
    head.save(update_fields=["sequence", "hash"])


def colleague_behind(own: Organization, chain: Organization, action: str, subject: str) -> Person | None:
    """Who of the organization `own` did `action` to `subject` last, as the audit log of `chain` has it."""
    done = AuditEntry.objects.filter(organization=chain, action=action, subject=subject).order_by("-sequence")
    who = done.values_list("actor", flat=True).first()
    if who is None:
        return None
    of = Person.objects.filter(memberships__organization=own)
    return of.filter(Q(public_id=who) | Q(api_keys__public_id=who, api_keys__organization=own)).distinct().first()


def commitment(personal: str) -> str:
    """What stands in the log for personal data: keyed, so that it can be checked against a guess by the portal only."""
    return hmac.digest(settings.FEDPORTAL_PEPPER.encode(), b"audit\n" + personal.encode(), "sha256").hex()[:32]


def hash_of(entry: AuditEntry) -> str:
    """SHA-256 over the canonical JSON of every column of `entry` but its id and hash."""
    columns = {
        "chain": entry.chain,
        "organization": entry.organization.public_id if entry.organization else None,
        "sequence": entry.sequence,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "details": entry.details,
        "previous_hash": entry.previous_hash,
    }
    text = json.dumps(columns, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Standing:
    """How a chain stands: the number and hash up to which it is whole, and where it breaks, if it does."""

    chain: str
    sequence: int
    hash: str
    broken: Break | None


def verify(chain: str) -> Break | None:
    """The first break of this chain, or None when it is whole up to its head."""
    return _look_through(chain).broken


def check(actor: Actor, organization: Organization) -> Standing:
    """Look once through the organization's whole chain, from its first entry to its head.

    Raises `forbidden`, and `too_many_tries`, because a long chain takes its time.
    """
    permissions.require(actor, "organization.view_audit", organization)
    throttle.count("audit check", organization.public_id, CHECKS, CHECK_SECONDS)
    return _look_through(organization.public_id)


def note_export(actor: Actor, organization: Organization, form: str, filtered_by: dict[str, str]) -> int:
    """Record that the log leaves the portal as a file; the number of the last entry that is in it."""
    with unit():
        head = AuditChain.objects.filter(name=organization.public_id).first()
        last = head.sequence if head else 0
        record(organization, actor, "audit.exported", "", form=form, up_to=last, filter=filtered_by)
    return last


def verify_all() -> Iterator[Break]:
    """The first break of every chain that has one."""
    names = set(AuditChain.objects.values_list("name", flat=True))
    names |= set(AuditEntry.objects.order_by().values_list("chain", flat=True).distinct())
    for name in sorted(names):
        if found := verify(name):
            yield found


def _plain(value: Any) -> Any:
    """`value` as JSON that every database gives back as it was: no floats, no NUL, only text keys."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    return str(value).replace("\x00", "")


def _look_through(chain: str) -> Standing:
    before = AuditChain.objects.filter(name=chain).first()
    sequence, previous = 0, ""

    def broken(at: int, reason: str) -> Standing:
        return Standing(chain, sequence, previous, Break(chain, at, reason))

    entries = AuditEntry.objects.filter(chain=chain).select_related("organization").order_by("sequence")
    for entry in entries.iterator(chunk_size=1000):
        if entry.sequence != sequence + 1:
            return broken(sequence + 1, "an entry is missing")
        if entry.previous_hash != previous:
            return broken(entry.sequence, "it does not follow the entry before it")
        if entry.hash != hash_of(entry):
            return broken(entry.sequence, "its columns are not those that were written")
        sequence, previous = entry.sequence, entry.hash
    head, appended = before, sequence > (before.sequence if before else 0)
    if appended:  # while we read: an entry and its head are committed together, so the head knows at least of it
        head = AuditChain.objects.filter(name=chain).first()
    if head is None:
        return broken(0, "its head is missing") if sequence else Standing(chain, 0, "", None)
    if appended and head.sequence > sequence:
        return Standing(chain, sequence, previous, None)
    if (head.sequence, head.hash) != (sequence, previous):
        return broken(sequence + 1, f"it ends here and its head says #{head.sequence}")
    return Standing(chain, sequence, previous, None)
