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

from federations.models import ApiKey, AuditChain, AuditEntry, Device, Organization, Person
from federations.permissions import Actor
from fedportal.common import clock
from fedportal.common.transactions import unit

PORTAL = "portal"
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


def verify(chain: str) -> Break | None:
    """The first break of this chain, or None when it is whole up to its head."""
    sequence, previous = 0, ""
    entries = AuditEntry.objects.filter(chain=chain).select_related("organization").order_by("sequence")
    for entry in entries.iterator(chunk_size=1000):
        if entry.sequence != sequence + 1:
            return Break(chain, sequence + 1, "an entry is missing")
        if entry.previous_hash != previous:
            return Break(chain, entry.sequence, "it does not follow the entry before it")
        if entry.hash != hash_of(entry):
            return Break(chain, entry.sequence, "its columns are not those that were written")
        sequence, previous = entry.sequence, entry.hash
    head = AuditChain.objects.filter(name=chain).first()
    if head is None:
        return Break(chain, 0, "its head is missing") if sequence else None
    if (head.sequence, head.hash) != (sequence, previous):
        return Break(chain, sequence + 1, f"it ends here and its head says #{head.sequence}")
    return None


@dataclass(frozen=True)
class Standing:
    """How a chain stands: its last number and hash, and where it breaks, if it does."""

    chain: str
    sequence: int
    hash: str
    broken: Break | None


def standing(chain: str) -> Standing:
    """Look through the whole chain, from its first entry to its head."""
    for _ in range(3):
        head = AuditChain.objects.filter(name=chain).first() or AuditChain(name=chain)
        broken = verify(chain)
        # Whoever appends while we read makes the end look odd; then look again.
        if broken is None or broken.sequence <= head.sequence:
            break
    return Standing(chain, head.sequence, head.hash, broken)


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
