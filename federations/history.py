"""What happened in a federation, told to its members from the audit log: whose acts, not which person's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet

from federations.models import Agreement, AuditEntry, Federation, Invitation, Organization

# Action → (kind of mark, what is said). `{who}`: the organization that acted; `{whom}`: the one it acted on.
SENTENCES: Mapping[str, tuple[str, str]] = {
    "federation.founded": ("good", "{who} founded the federation."),
    "federation.changed": ("", "{who} changed {fields}."),
    "federation.invited": ("", "{who} invited {invited}."),
    "federation.joined": ("good", "{who} joined."),
    "federation.declined": ("warn", "{who} declined the invitation."),
    "federation.left": ("warn", "{who} left."),
    "federation.member_suspended": ("warn", "{who} suspended {whom}."),
    "federation.member_reinstated": ("good", "{who} reinstated {whom}."),
    "federation.member_removed": ("bad", "{who} removed {whom}."),
    "federation.dissolved": ("bad", "{who} dissolved the federation."),
    "agreement.published": ("", "{who} published version {version} of the study agreement."),
    "agreement.accepted": ("good", "{who} accepted version {version} of the study agreement."),
    "roots.proposed": ("", "{who} asked for its place in the list of keys ({fingerprint})."),
    "roots.accepted": ("good", "{who} signed a line of the list of keys ({fingerprint})."),
    "agreement.expired": ("bad", "Version {version} of the study agreement expired."),
    "invitation.accepted": ("good", "{who} joined by a letter."),
    "invitation.declined": ("warn", "Somebody who was invited by letter declined."),
    "invitation.resent": ("", "{who} sent a letter again."),
    "invitation.revoked": ("", "{who} took a letter back."),
}
_FIELDS = {
    "name": "its name",
    "description": "its description",
    "members_may_start_runs": "whether members may start runs",
}


class Happening(NamedTuple):
    """A line of the history. `mark`: good, warn, bad or nothing."""

    at: Any
    mark: str
    sentence: str


def entries(federation: Federation) -> QuerySet[AuditEntry]:
    """The entries that tell of the federation, in whosever log they stand, newest first."""
    agreements = Agreement.objects.filter(federation=federation).values("public_id")
    invitations = Invitation.objects.filter(federation=federation).values("public_id")
    about = Q(subject=federation.public_id) | Q(subject__in=agreements) | Q(subject__in=invitations)
    return AuditEntry.objects.filter(about, action__in=list(SENTENCES)).select_related("organization").order_by("-id")


def told(rows: list[AuditEntry]) -> list[Happening]:
    """Entries as sentences. One query for the names in them."""
    named = {str(row.details.get("organization", "")) for row in rows}
    named |= {public_id for row in rows for public_id in row.details.get("organizations", [])}
    names = dict(Organization.objects.filter(public_id__in=named).values_list("public_id", "name"))
    return [_told(row, names) for row in rows]


def _told(row: AuditEntry, names: Mapping[str, str]) -> Happening:
    mark, sentence = SENTENCES[row.action]
    details = row.details
    invited = [names.get(public_id, public_id) for public_id in details.get("organizations", [])]
    if letters := len(details.get("invitations", [])):
        invited.append("one person by letter" if letters == 1 else f"{letters} people by letter")
    values = {
        "who": row.organization.name if row.organization else "The portal",
        "whom": names.get(str(details.get("organization", "")), "a member"),
        "fields": " and ".join(_FIELDS.get(field, field) for field in details.get("fields", [])),
        "invited": _listed(invited),
        "version": details.get("version", ""),
    }
    return Happening(row.at, mark, sentence.format(**values))


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
