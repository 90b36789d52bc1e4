"""The federation's list of members by their own keys (`fedwire.masking.roots`): kept here, signed elsewhere.

An organization signs that it wants in, with the key that it certifies its devices with; the owner compares the key's
fingerprint by phone, gives the line its place, and signs it. Devices check all of it for themselves: what is checked
here only keeps nonsense out.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from federations import permissions
from federations.models import Federation, Organization, RootEntry
from federations.permissions import Actor
from federations.services import audit, keys, members, notifications
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.masking import roots
from fedwire.masking.roots import ADD, REMOVE, ROTATE, Entry, Members
from fedwire.states import MemberState


def entries(federation: Federation) -> list[Entry]:
    """The list, in its order."""
    rows = RootEntry.objects.filter(federation=federation).exclude(seq=None).select_related("organization")
    return [_entry(federation, row) for row in rows.order_by("seq")]


def waiting(federation: Federation) -> list[Entry]:
    """What organizations signed and the owner has not yet."""
    rows = RootEntry.objects.filter(federation=federation, seq=None).select_related("organization")
    return [_entry(federation, row) for row in rows.order_by("pk")]


def shown(federation: Federation) -> dict[str, Any]:
    """The list and what waits, as it is sent."""
    found = entries(federation)
    return {
        "federation": federation.public_id,
        "owner": federation.organization.public_id,
        "head": found[-1].digest if found else "",
        "entries": [asdict(entry) for entry in found],
        "waiting": [asdict(entry) for entry in waiting(federation)],
    }


def printed(federation: Federation) -> dict[str, Any]:
    """The list for people: each line with its organization's name and the fingerprint that one compares by phone."""
    rows = RootEntry.objects.filter(federation=federation).select_related("organization")
    lines = [
        {
            "organization": row.organization,
            "op": row.op,
            "seq": row.seq,
            "fingerprint": roots.fingerprint(row.key) if row.key else "",
        }
        for row in sorted(rows, key=lambda row: (row.seq is None, row.seq or row.pk))
    ]
    found = entries(federation) if lines else []
    return {"lines": lines, "fingerprint": roots.fingerprint(found[-1].digest) if found else ""}


def propose(actor: Actor, federation: Federation, *, op: str, key: str, by_organization: str) -> RootEntry:
    """The actor's organization, an active member, asks for its place in the list, or to change its key there.

    What it asked before is replaced. Raises `forbidden`, `wrong_state`, `field_invalid`.
    """
    organization = keys.organization_of(actor)
    permissions.require(actor, "organization.answer_invitation", organization)
    with unit():
        members.lock(federation)
        _check_active(federation, organization)
        entry = Entry(federation.public_id, 0, "", op, organization.public_id, key, by_organization)
        _check_consent(entry, roots.listed(federation.public_id, entries(federation)))
        RootEntry.objects.filter(federation=federation, organization=organization, seq=None).delete()
        made = _store(actor, federation, organization, entry)
        audit.record(organization, actor, "roots.proposed", federation.public_id, **_details(entry))
        if organization != federation.organization:
            sentence = (
                f"{organization.name} asks for its place in the list of keys of {federation.name}, with the "
                f"fingerprint {roots.fingerprint(key)}; compare it by phone before you sign"
            )
            notifications.tell(
                federation.organization,
                "roots.proposed",
                sentence=f"{sentence}.",
                address=f"/federations/{federation.public_id}",
                data=_details(entry) | {"federation": federation.public_id},
            )
    return made


def accept(actor: Actor, federation: Federation, **said: Any) -> RootEntry:
    """The owner puts an entry at the end of the list. Raises `forbidden`, `field_invalid`, `conflict` for a place that
    is taken meanwhile."""
    permissions.require(actor, "federation.manage", federation)
    with unit():
        members.lock(federation)
        members.check_alive(federation)
        organization = Organization.objects.filter(public_id=said.get("organization", "")).first()
        if organization is None or not federation.members.filter(organization=organization).exists():
            raise FedportalError("field_invalid", field="organization", reason="it has no place in the federation.")
        entry = Entry(federation=federation.public_id, **said)
        before = roots.listed(federation.public_id, entries(federation))
        if entry.seq <= before.length:
            raise FedportalError("conflict")
        if not before.length and organization != federation.organization:
            raise _invalid("the first entry is the owner's.")
        if entry.op != REMOVE:
            _check_active(federation, organization)
        _follow(before, entry)
        RootEntry.objects.filter(federation=federation, organization=organization, seq=None).delete()
        made = _store(actor, federation, organization, entry)
        audit.record(federation.organization, actor, "roots.accepted", federation.public_id, **_details(entry))
    return made


def _entry(federation: Federation, row: RootEntry) -> Entry:
    return Entry(
        federation=federation.public_id,
        seq=row.seq or 0,
        prev=row.prev,
        op=row.op,
        organization=row.organization.public_id,
        key=row.key,
        by_organization=row.by_organization,
        by_owner=row.by_owner,
    )


def _store(actor: Actor, federation: Federation, organization: Organization, entry: Entry) -> RootEntry:
    return RootEntry.objects.create(
        federation=federation,
        organization=organization,
        seq=entry.seq or None,
        prev=entry.prev,
        op=entry.op,
        key=entry.key,
        by_organization=entry.by_organization,
        by_owner=entry.by_owner,
        made_by=actor.person,
    )


def _check_active(federation: Federation, organization: Organization) -> None:
    members.check_alive(federation)
    place = federation.members.filter(organization=organization).first()
    if place is None or place.state != MemberState.ACTIVE:
        state = str(place.state) if place else "no member"
        raise FedportalError(
            "wrong_state", what="The organization", state=state, hint="Only active members are listed."
        )


def _check_consent(entry: Entry, before: Members) -> None:
    there = before.roots.get(entry.organization, "")
    if entry.op not in (ADD, ROTATE) or bool(there) != (entry.op == ROTATE):
        raise _invalid(f"{entry.op or 'nothing'} is nothing that it can ask for now.")
    if not entry.is_consented(there if entry.op == ROTATE else entry.key):
        raise _invalid("it is not signed by the organization's key.")


def _follow(before: Members, entry: Entry) -> None:
    try:
        before.after(entry)
    except FedportalError as error:
        raise _invalid(str(error.context.get("reason", ""))) from error


def _invalid(reason: str) -> FedportalError:
    return FedportalError("field_invalid", field="entry", reason=reason)


def _details(entry: Entry) -> dict[str, Any]:
    return {"op": entry.op, "organization": entry.organization, "fingerprint": roots.fingerprint(entry.key)}
