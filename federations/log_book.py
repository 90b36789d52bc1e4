"""Reading the audit log: which entries, in which words, with whose names, and as files.

Ids always stay; a name is put beside one where it is of the reader's own organization or of something they see.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from federations import above, permissions, selectors
from federations.models import (
    ApiKey,
    AuditEntry,
    Device,
    Federation,
    Invitation,
    Member,
    Membership,
    Organization,
)
from federations.permissions import Actor
from fedwire.errors import FedportalError

# Where the thing behind an id has a page.
PAGES = {
    "fed": "/federations/",
    "mdl": "/models/",
    "rol": "/rollouts/",
    "run": "/runs/",
    "dev": "/devices/",
    "whk": "/webhooks/",
}
# Actions in words; a missing one is read as it is called: "device.key_rotated" → "Device: key rotated".
WORDS = {
    "audit.exported": "Exported the audit log",
    "federation.founded": "Founded a federation",
    "federation.invited": "Invited to a federation",
    "federation.joined": "Joined a federation",
    "federation.left": "Left a federation",
    "federation.declined": "Declined an invitation to a federation",
    "federation.dissolved": "Dissolved a federation",
    "federation.member_removed": "Removed a member of a federation",
    "federation.member_suspended": "Suspended a member of a federation",
    "federation.member_reinstated": "Reinstated a member of a federation",
    "organization.founded": "Founded the organization",
    "person.invited": "Invited a colleague",
    "person.role_changed": "Changed a colleague's role",
    "person.removed": "Removed a colleague",
    "person.left": "Left the organization",
    "key.created": "Made an API key",
    "key.revoked": "Revoked an API key",
    "device.registered": "Registered a device",
    "device.revoked": "Revoked a device",
    "model.created": "Made a model",
    "model.shared": "Shared a model",
    "model.unshared": "Took a model out of a federation",
    "version.pushed": "Pushed a version of a model",
    "version.published": "A run published a version of a model",
    "version.form_ordered": "Asked for a version in another format",
    "version.form_made": "Wrote a version in another format",
    "version.form_failed": "Could not write a version in another format",
    "rollout.started": "Started to send a version to devices",
    "rollout.widened": "Sent a version to more devices",
    "rollout.paused": "Paused a rollout",
    "rollout.resumed": "Resumed a rollout",
    "rollout.completed": "Completed a rollout",
    "rollout.unwell": "A version was found unwell on its devices",
    "rollout.rolled_back": "Rolled a version back on all its devices",
    "experiment.created": "Planned an experiment between two versions",
    "experiment.joined": "Joined an experiment of a federation with the own devices",
    "experiment.started": "Started an experiment on devices",
    "experiment.decided": "An experiment found a difference",
    "experiment.stopped": "Stopped an experiment; its devices return to what they had",
    "experiment.promoted": "Promoted a version of an experiment to all devices",
    "gate.changed": "Changed what versions of a model must pass before they go to devices",
    "gate.judged": "A version was held against the limits of its model",
    "gate.overridden": "Let a version go to devices that did not pass its gate",
    "gate.override_withdrawn": "Took back that a version may go to devices without passing its gate",
    "policy.changed": "Changed the policy",
    "agreement.published": "Published a study agreement",
    "agreement.accepted": "Accepted a study agreement",
    "roots.proposed": "Asked for a place in a list of keys",
    "roots.accepted": "Signed a line of a list of keys",
    "run.started": "Started a run",
    "run.stopped": "Stopped a run",
    "run.completed": "A run was completed",
    "run.failed": "A run failed",
    "run.leakage_taken": "Took along what the portal holds of a run, to audit it",
    "run.leakage_audited": "Audited what a run gives away of rows",
    "inference.planned": "Planned inference on devices",
    "inference.started": "Asked devices for a summary of what a model says",
    "inference.cancelled": "Cancelled a plan of inference",
    "inference.done": "A plan of inference was completed",
    "inference.failed": "A plan of inference failed",
    "inference.consented": "Consented to inference in a federation",
    "inference.consent_withdrawn": "Took the consent to inference back",
    "webhook.added": "Added a webhook",
    "webhook.removed": "Removed a webhook",
    "webhook.switched_off": "A webhook was switched off because it failed",
}
COLUMNS = ("chain", "organization", "sequence", "at", "actor", "action", "subject", "details", "previous_hash", "hash")
CHUNK = 500


@dataclass(frozen=True)
class Filter:
    """Which entries are wanted; empty fields want all."""

    who: str = ""
    action: str = ""
    subject: str = ""
    since: date | None = None
    until: date | None = None
    text: str = ""

    def said(self) -> dict[str, str]:
        """The fields that are filled, as they stand in an address."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) for name, value in values.items() if value}


def parse(said: Mapping[str, Any]) -> Filter:
    """The filter of a form or an address. Raises `field_invalid` for what is no day."""
    text = {name: str(said.get(name, "")).strip()[:200] for name in ("who", "action", "subject", "text")}
    return Filter(**text, since=_day(said, "since"), until=_day(said, "until"))


def entries(organization: Organization, wanted: Filter) -> QuerySet[AuditEntry]:
    """The entries of the organization's log that are wanted, newest first."""
    found = selectors.audit_entries(organization)
    if wanted.who:
        found = found.filter(actor__in=_actors(organization, wanted.who))
    if wanted.action:
        found = found.filter(action=wanted.action)
    if wanted.subject:
        found = found.filter(subject__in=_subjects(organization, wanted.subject))
    if wanted.since:
        found = found.filter(at__gte=_midnight(wanted.since))
    if wanted.until:
        found = found.filter(at__lt=_midnight(wanted.until) + timedelta(days=1))
    if wanted.text:
        text = wanted.text
        about = Q(action__icontains=text) | Q(actor__icontains=text) | Q(subject__icontains=text)
        found = found.filter(about | Q(hash__istartswith=text) | Q(details__icontains=text))
    return found


def actions(organization: Organization) -> list[tuple[str, str]]:
    """Every action that stands in the log, with its words."""
    names = AuditEntry.objects.filter(chain=organization.public_id).order_by().values_list("action", flat=True)
    return sorted(((name, words(name)) for name in names.distinct()), key=lambda one: one[1])


def words(action: str) -> str:
    """The action as a person reads it."""
    if action in WORDS:
        return WORDS[action]
    noun, _, verb = action.partition(".")
    return f"{noun.replace('_', ' ').capitalize()}: {verb.replace('_', ' ')}"


def name_all(actor: Actor, rows: Iterable[AuditEntry]) -> None:
    """Put beside each row its `words`, `actor_name`, `subject_name` and `subject_page`. Nine queries for all."""
    listed = list(rows)
    named = names(actor, {row.actor for row in listed} | {row.subject for row in listed})
    for row in listed:
        row.words = words(row.action)
        row.actor_name = named.get(row.actor, "The portal" if row.actor == "portal" else "")
        row.subject_name = named.get(row.subject, "")
        page = PAGES.get(row.subject.partition("_")[0])
        row.subject_page = f"{page}{row.subject}" if page else ""
        row.lines = [(name, _shown(value)) for name, value in sorted(row.details.items())]


def names(actor: Actor, ids: set[str]) -> dict[str, str]:
    """The names of those ids that the actor may know: of their own organization, and of what they share with others."""
    own = actor.organization
    people = Membership.objects.filter(organization=own, person__public_id__in=_of(ids, "usr")).select_related("person")
    found = {membership.person.public_id: str(membership.person) for membership in people}
    keys = ApiKey.objects.filter(organization=own, public_id__in=_of(ids, "key")).select_related("person")
    found |= {key.public_id: f"{key.person} (with the key “{key.name}”)" for key in keys}
    devices = Device.objects.filter(organization=own, public_id__in=_of(ids, "dev"))
    found |= dict(devices.values_list("public_id", "identifier"))
    mine = Member.objects.filter(organization=own).values("federation")
    found |= dict(
        Federation.objects.filter(pk__in=mine, public_id__in=_of(ids, "fed")).values_list("public_id", "name")
    )
    together = Organization.objects.filter(public_id__in=_of(ids, "org"))
    near = together.filter(Q(pk=own.pk if own else None) | Q(federation_members__federation__in=mine)).distinct()
    found |= dict(near.values_list("public_id", "name"))
    return found | _invitations(actor, _of(ids, "inv")) | above.names_of(actor, _of(ids, "mdl") + _of(ids, "run"))


def _invitations(actor: Actor, ids: list[str]) -> dict[str, str]:
    """What the organization's invitations are to; whom they invite is for those to read who may invite."""
    knows = "organization.manage_people" in permissions.allowed(actor, ["organization.manage_people"])
    rows = Invitation.objects.filter(organization=actor.organization, public_id__in=ids).select_related("federation")
    return {
        row.public_id: (row.email if knows else "Somebody") + (f" to {row.federation.name}" if row.federation else "")
        for row in rows
    }


def as_json_lines(rows: Iterable[AuditEntry]) -> Iterator[bytes]:
    """One JSON object a line, with every column that the hash covers."""
    for row in rows:
        # ASCII only: some programs end a line at U+2028, too.
        yield json.dumps(columns(row)).encode() + b"\n"


def as_csv(rows: Iterable[AuditEntry]) -> Iterator[bytes]:
    """A table with a heading. No cell is read as a formula by a spreadsheet."""
    yield _line(COLUMNS)
    for row in rows:
        said = columns(row)
        said["details"] = json.dumps(said["details"], ensure_ascii=False, sort_keys=True)
        yield _line([_harmless("" if said[name] is None else str(said[name])) for name in COLUMNS])


def columns(row: AuditEntry) -> dict[str, Any]:
    """The row as it was hashed, and its hash."""
    return {
        "chain": row.chain,
        "organization": row.organization.public_id if row.organization else None,
        "sequence": row.sequence,
        "at": row.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": row.actor,
        "action": row.action,
        "subject": row.subject,
        "details": row.details,
        "previous_hash": row.previous_hash,
        "hash": row.hash,
    }


def in_order(found: QuerySet[AuditEntry], last: int) -> Iterator[AuditEntry]:
    """The entries up to number `last`, oldest first, a chunk for each query: whoever waits for them may take long."""
    done, found = 0, found.filter(sequence__lte=last).order_by("sequence")
    while chunk := list(found.filter(sequence__gt=done)[:CHUNK]):
        yield from chunk
        done = chunk[-1].sequence


def _actors(organization: Organization, who: str) -> set[str]:
    """The ids that may stand as actor for a person, key or device called so."""
    people = Membership.objects.filter(organization=organization).filter(
        Q(person__name__icontains=who) | Q(person__email__icontains=who) | Q(person__public_id=who)
    )
    pks = list(people.values_list("person", flat=True))
    keys = ApiKey.objects.filter(organization=organization).filter(Q(person__in=pks) | Q(name__icontains=who))
    devices = Device.objects.filter(organization=organization, identifier__icontains=who)
    return {
        who,
        *people.values_list("person__public_id", flat=True),
        *keys.values_list("public_id", flat=True),
        *devices.values_list("public_id", flat=True),
    }


def _subjects(organization: Organization, subject: str) -> set[str]:
    """The ids that a name may mean as what was acted on."""
    mine = Member.objects.filter(organization=organization).values("federation")
    federations = Federation.objects.filter(pk__in=mine, name__icontains=subject)
    return _actors(organization, subject) | set(federations.values_list("public_id", flat=True))


def _of(ids: set[str], prefix: str) -> list[str]:
    return [one for one in ids if one.startswith(f"{prefix}_")]


def _day(said: Mapping[str, Any], name: str) -> date | None:
    text = str(said.get(name, "")).strip()
    try:
        return date.fromisoformat(text) if text else None
    except ValueError as error:
        raise FedportalError("field_invalid", field=name, reason="write a day as 2026-12-31.") from error


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()
