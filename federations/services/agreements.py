"""Study agreements: what the members of a federation agree on, in versions of which the highest one holds.

The owner publishes a version and thereby accepts it. A member that has not accepted it, or every member once it has
expired, is not asked to take part in further rounds (`federations.services.enrolment`). A version never changes; to
withdraw one is to publish the next.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from federations import permissions
from federations.models import Acceptance, Agreement, Device, Federation, Member, Organization, Person
from federations.permissions import Actor
from federations.services import audit, keys, letters, members, notifications
from fedportal.common import clock, live
from fedportal.common.transactions import after_commit, unit
from fedwire.errors import FedportalError
from fedwire.states import MemberState

MOST_TITLE, MOST_TEXT = 200, 100_000
# So long before the end the members are told, once.
WARNING = timedelta(days=14)


@dataclass(frozen=True)
class Draft:
    """A version that is not published yet. `expires_at` of None: it holds until the next one is published."""

    title: str
    text: str
    expires_at: datetime | None = None

    def checked(self) -> Draft:
        """As it is stored. Raises `field_invalid`."""
        title = " ".join(self.title.split())
        text = "\n".join(self.text.strip().splitlines())
        if not 0 < len(title) <= MOST_TITLE or not title.isprintable():
            raise FedportalError("field_invalid", field="title", reason=f"it needs 1 to {MOST_TITLE} characters.")
        if not 0 < len(text) <= MOST_TEXT:
            raise FedportalError("field_invalid", field="text", reason=f"it needs 1 to {MOST_TEXT} characters.")
        if self.expires_at is not None and self.expires_at <= clock.now():
            raise FedportalError("field_invalid", field="expires_at", reason="it must be in the future.")
        return Draft(title, text, self.expires_at)


# --- questions -------------------------------------------------------------------------------------------------------


def current(federation: Federation) -> Agreement | None:
    """The version that holds, or held until it expired; None when the federation has no agreement."""
    return Agreement.objects.filter(federation=federation).order_by("-version").first()


def find(federation: Federation, reference: str) -> Agreement:
    """A version of the federation's agreement, by id or number. Raises `not_found`."""
    versions = Agreement.objects.filter(federation=federation)
    if reference.isascii() and reference.isdigit() and len(reference) < 10:
        found = versions.filter(version=int(reference)).first()
    else:
        found = versions.filter(public_id=reference).first()
    if found is None:
        raise FedportalError("not_found", what="agreement")
    return found


def has_expired(agreement: Agreement) -> bool:
    """Whether its end has come."""
    return agreement.expires_at is not None and agreement.expires_at <= clock.now()


def to_accept(federation: Federation, organization: Organization | None) -> Agreement | None:
    """The version that the organization still has to accept; None when there is none, or when it has expired."""
    found = current(federation)
    if found is None or has_expired(found):
        return None
    if organization is None:
        return found
    accepted = Acceptance.objects.filter(agreement=found, organization=organization).exists()
    return None if accepted else found


def title_for_letters(federation: Federation) -> str:
    """What the agreement is called that joining includes; "" without one, or when it has expired."""
    found = to_accept(federation, None)
    return letters.as_words(found.title) if found else ""


def day(at: datetime) -> str:
    """A day as sentences and letters say it; the portal's own zone is UTC."""
    return f"{at.day} {at:%B %Y}"


# --- acts ------------------------------------------------------------------------------------------------------------


def publish(actor: Actor, federation: Federation, draft: Draft) -> Agreement:
    """Make `draft` the version that holds from now; the owner has accepted it, the members are told.

    Raises `forbidden`, `not_found`, `field_invalid`, `wrong_state` in a federation that was dissolved.
    """
    permissions.require(actor, "federation.manage", federation)
    draft = draft.checked()
    with unit():
        members.lock(federation)
        members.check_alive(federation)
        made = write(actor, federation, draft)
        audit.record(federation.organization, actor, "agreement.published", made.public_id, **_details(made))
        sentence = (
            f"{federation.organization.name} published version {made.version} of the study agreement of "
            f"{federation.name} and waits for you to accept it"
        )
        for organization in _bound(federation, but=federation.organization):
            notifications.tell(
                organization,
                "agreement.published",
                sentence=f"{sentence}.",
                address=_address(federation),
                data=_details(made) | {"agreement": made.public_id},
            )
    return made


def write(actor: Actor, federation: Federation, draft: Draft) -> Agreement:
    """Store a checked draft as the next version, accepted by its owner, under the federation's lock.

    For whoever writes the audit entry: `publish`, and the founding of a federation.
    """
    last = current(federation)
    made = Agreement.objects.create(
        organization=federation.organization,
        federation=federation,
        version=last.version + 1 if last else 1,
        title=draft.title,
        text=draft.text,
        digest=hashlib.sha256(f"{draft.title}\n{draft.text}".encode()).hexdigest(),
        expires_at=draft.expires_at,
        published_by=actor.person,
    )
    Acceptance.objects.create(organization=federation.organization, agreement=made, person=actor.person)
    return made


def accept(actor: Actor, agreement: Agreement) -> Acceptance:
    """The actor's organization, a member, accepts the version that holds. Accepting again changes nothing.

    Raises `forbidden`, `agreement_outdated`, `agreement_expired`, `wrong_state` for who is no active member.
    """
    organization, federation = keys.organization_of(actor), agreement.federation
    permissions.require(actor, "organization.accept_agreement", organization)
    with unit():
        members.lock(federation)
        members.check_alive(federation)
        place = federation.members.filter(organization=organization).first()
        if place is None or place.state != MemberState.ACTIVE:
            state = str(place.state) if place else "no member"
            hint = "Only active members accept; who is invited accepts by joining."
            raise FedportalError("wrong_state", what="Your organization", state=state, hint=hint)
        accepted, fresh = sign(federation, organization, actor.person, agreement.public_id)
        if fresh:
            audit.record(organization, actor, "agreement.accepted", agreement.public_id, **_details(agreement))
            pks = list(Device.objects.filter(organization=organization).values_list("pk", flat=True))
            after_commit(lambda: live.ring_devices(pks))  # a round may wait for just these
    return accepted


def sign(federation: Federation, organization: Organization, person: Person, public_id: str) -> tuple[Acceptance, bool]:
    """Note that the organization accepts the version with this id, under the federation's lock; whether that is new.

    For whoever writes the audit entry: `accept`, and joining. Raises `not_found`, `agreement_outdated`,
    `agreement_expired`.
    """
    agreement, holds = find(federation, public_id), current(federation)
    if holds is not None and holds.pk != agreement.pk:
        raise FedportalError("agreement_outdated", version=agreement.version, current=holds.version)
    done = Acceptance.objects.filter(agreement=agreement, organization=organization).first()
    if done is not None:
        return done, False
    if agreement.expires_at is not None and has_expired(agreement):
        raise FedportalError("agreement_expired", day=day(agreement.expires_at), owner=federation.organization.name)
    return Acceptance.objects.create(agreement=agreement, organization=organization, person=person), True


def sweep() -> int:
    """Tell the members once that their agreement expires within two weeks, and once that it has; how many versions."""
    now = clock.now()
    versions = Agreement.objects.filter(federation__dissolved_at=None, expires_at__lte=now + WARNING)
    due = versions.filter(expiry_told_at=None).exclude(expires_at__gt=now, reminded_at__isnull=False)
    told = 0
    for agreement in due.select_related("federation__organization").order_by("pk"):
        with unit():
            members.lock(agreement.federation)
            told += _tell_of_the_end(agreement, now)
    return told


# --- inside ----------------------------------------------------------------------------------------------------------


def _tell_of_the_end(agreement: Agreement, now: datetime) -> bool:
    """The news of one version, under its federation's lock; whether this call was the one to tell it."""
    federation, expires_at = agreement.federation, agreement.expires_at
    assert expires_at is not None
    over = expires_at <= now
    field = "expiry_told_at" if over else "reminded_at"
    if not Agreement.objects.filter(pk=agreement.pk, **{field: None}).update(**{field: now}):
        return False
    holds = current(federation)
    if federation.dissolved_at is not None or holds is None or holds.pk != agreement.pk:
        return False  # nothing hangs on it any more
    kind = "agreement.expired" if over else "agreement.expiring"
    if over:
        audit.record(federation.organization, audit.PORTAL, kind, agreement.public_id, **_details(agreement))
        then = "and no member is asked to take part in further rounds until a new version is published and accepted"
    else:
        then = "and from then no member is asked to take part in further rounds"
    verb = "expired" if over else "expires"
    sentence = f"The study agreement of {federation.name} {verb} on {day(expires_at)} {then}."
    details = _details(agreement) | {"agreement": agreement.public_id}
    for organization in _bound(federation):
        notifications.tell(organization, kind, sentence=sentence, address=_address(federation), data=details)
    return True


def _bound(federation: Federation, but: Organization | None = None) -> Sequence[Organization]:
    """The active members: whom the agreement concerns, and who can read it."""
    places = Member.objects.filter(federation=federation, state=MemberState.ACTIVE).select_related("organization")
    return [place.organization for place in places.order_by("organization_id") if place.organization != but]


def _details(agreement: Agreement) -> dict[str, str | int | None]:
    return {
        "federation": agreement.federation.public_id,
        "version": agreement.version,
        "digest": agreement.digest,
        "expires_at": agreement.expires_at.isoformat() if agreement.expires_at else None,
    }


def _address(federation: Federation) -> str:
    return f"/federations/{federation.public_id}/agreements"
