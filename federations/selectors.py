"""What people see of this floor: finding things by id or name, rosters, lists. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, OuterRef, Prefetch, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from federations import permissions
from federations.models import (
    Acceptance,
    Agreement,
    ApiKey,
    AuditEntry,
    Delivery,
    Device,
    Federation,
    Invitation,
    Member,
    Membership,
    Organization,
    Person,
    Role,
    Webhook,
)
from federations.permissions import Actor
from fedportal.common import clock
from fedwire.errors import FedportalError
from fedwire.routes import ID_PREFIXES
from fedwire.states import DeviceState, InvitationState, MemberState

ALIVE = (DeviceState.ACTIVE, DeviceState.QUARANTINED)
PRESENT = (MemberState.INVITED, MemberState.ACTIVE, MemberState.SUSPENDED)


def find(actor: Actor, queryset: QuerySet[Any], reference: str, what: str, field: str = "name") -> Any:
    """The one visible row that `reference` means: a public id, or a name, one's own organization's first.

    Raises `not_found`, alike for missing and foreign ones, `ambiguous_name` with the ids to choose from, and
    `scope_missing`.
    """
    seen = permissions.visible(actor, queryset)
    if reference.startswith(ID_PREFIXES):
        found = seen.filter(public_id=reference).first()
    else:
        found = _by_name(actor, seen, reference, what, field)
    if found is None:
        raise FedportalError("not_found", what=what)
    return found


def _by_name(actor: Actor, seen: QuerySet[Any], name: str, what: str, field: str) -> Any:
    named = list(seen.filter(**{field: name}).select_related("organization")[:20])
    own = [row for row in named if actor.organization and row.organization_id == actor.organization.pk]
    if len(own or named) > 1:
        choices = ", ".join(f"{row.public_id} (of {row.organization})" for row in named)
        raise FedportalError("ambiguous_name", name=name, choices=choices, what=what)
    return next(iter(own or named), None)


# --- federations -----------------------------------------------------------------------------------------------------


def federations(actor: Actor, name: str = "") -> QuerySet[Federation]:
    """The federations the actor sees, by name, each with `active_members` and `own_state` (the state of the actor's
    organization in it, or None); those that were dissolved are left out."""
    seen = permissions.visible(actor, Federation.objects.select_related("organization")).filter(dissolved_at=None)
    active = Member.objects.filter(federation=OuterRef("pk"), state=MemberState.ACTIVE).order_by()
    own = Member.objects.filter(federation=OuterRef("pk"), organization=actor.organization)
    seen = seen.annotate(
        active_members=Coalesce(Subquery(active.values("federation").annotate(n=Count("pk")).values("n")), 0),
        own_state=Subquery(own.values("state")[:1]),
    )
    return seen.filter(name=name) if name else seen


def with_agreements(actor: Actor, rows: QuerySet[Federation]) -> QuerySet[Federation]:
    """The federations, each with its newest `agreement_version` and the `accepted_version` of the actor's own."""
    of = Agreement.objects.filter(federation=OuterRef("pk")).order_by("-version")
    own = of.filter(acceptances__organization=actor.organization)
    return rows.annotate(
        agreement_version=Subquery(of.values("version")[:1]), accepted_version=Subquery(own.values("version")[:1])
    )


def inside(federation: Federation, organizations: Iterable[Organization]) -> set[int]:
    """The primary keys of those organizations that are members already, be they suspended."""
    states = (MemberState.ACTIVE, MemberState.SUSPENDED)
    places = Member.objects.filter(federation=federation, organization__in=list(organizations), state__in=states)
    return set(places.values_list("organization_id", flat=True))


def yet_to_accept(federation: Federation, signed: Iterable[Acceptance]) -> list[Organization]:
    """The active members whose acceptance is not among `signed`."""
    places = Member.objects.filter(federation=federation, state=MemberState.ACTIVE).select_related("organization")
    others = places.exclude(organization__in=[row.organization_id for row in signed])
    return [place.organization for place in others.order_by("organization__name")]


def annotate_own(actor: Actor, federation: Federation) -> Federation:
    """The federation with what `federations` tells of each, for one that is at hand."""
    own = federation.members.filter(organization=actor.organization)
    federation.own_state = own.values_list("state", flat=True).first()
    federation.active_members = federation.members.filter(state=MemberState.ACTIVE).count()
    return federation


def find_federation(actor: Actor, reference: str) -> Federation:
    """A federation by id or name. Raises `not_found`, `ambiguous_name`."""
    federations = Federation.objects.select_related("organization")
    if not reference.startswith(ID_PREFIXES):  # the name of one that was dissolved may be given again
        federations = federations.filter(dissolved_at=None)
    found: Federation = find(actor, federations, reference, "federation")
    return found


def find_own_place(actor: Actor, reference: str) -> Federation:
    """A federation in which the actor's organization has a place, be it suspended: to join, decline or leave it.

    Raises `not_found`, `ambiguous_name`.
    """
    permissions.require_scope(actor, "organization.answer_invitation")
    own = Federation.objects.select_related("organization").filter(
        members__organization=actor.organization, members__state__in=PRESENT
    )
    if reference.startswith(ID_PREFIXES):
        found = own.filter(public_id=reference).first()
    else:
        found = _by_name(actor, own, reference, "federation", "name")
    # Whoever sees it without a place in it (a guest) hears from the service that there is no invitation.
    own_place: Federation = found or find_federation(actor, reference)
    return own_place


@dataclass(frozen=True)
class Place:
    """A line of the roster: an organization in a federation, or an address that was invited."""

    organization: Organization | None
    state: str
    role: str  # owner | member | invited
    joined_at: datetime | None
    invited_at: datetime | None
    devices: int
    last_seen_at: datetime | None
    invitation: Invitation | None = None
    present: int = 0  # devices that were heard of a moment ago
    residency: str = ""  # by the organization's policy
    changed_at: datetime | None = None
    accepted_version: int | None = None  # the newest version of the study agreement that it accepted
    accepted_at: datetime | None = None


def roster(federation: Federation, *, letters: bool = True) -> list[Place]:
    """Who is in the federation, the owner first; with `letters` also the addresses invited. Two queries."""
    alive = Q(organization__devices__state__in=ALIVE)
    active = Q(
        organization__devices__state=DeviceState.ACTIVE, organization__devices__last_seen_at__gte=_present_since()
    )
    accepted = Acceptance.objects.filter(agreement__federation=federation, organization=OuterRef("organization"))
    newest = accepted.order_by("-agreement__version")
    members = (
        Member.objects.filter(federation=federation)
        .select_related("organization__policy")
        .annotate(
            devices=Count("organization__devices", filter=alive),
            present=Count("organization__devices", filter=active),
            seen=Max("organization__devices__last_seen_at", filter=alive),
            accepted_version=Subquery(newest.values("agreement__version")[:1]),
            accepted_at=Subquery(newest.values("accepted_at")[:1]),
        )
        .order_by("id")
    )
    places = [
        Place(
            organization=member.organization,
            state=member.state,
            role="owner" if member.organization_id == federation.organization_id else "member",
            joined_at=member.joined_at,
            invited_at=member.invited_at,
            devices=member.devices,
            last_seen_at=member.seen,
            present=member.present,
            residency=member.organization.policy.residency if hasattr(member.organization, "policy") else "",
            changed_at=member.changed_at,
            accepted_version=member.accepted_version,
            accepted_at=member.accepted_at,
        )
        for member in members
    ]
    places.sort(key=lambda place: place.role != "owner")
    if letters:
        places += [
            Place(None, invitation.state, "invited", None, invitation.created_at, 0, None, invitation)
            for invitation in open_letters(federation)
        ]
    return places


def open_letters(federation: Federation) -> QuerySet[Invitation]:
    """The invitations by letter that wait for an answer."""
    waiting = Invitation.objects.filter(federation=federation, state=InvitationState.PENDING)
    return waiting.select_related("organization", "federation", "invited_by")


def closed_letters(federation: Federation) -> QuerySet[Invitation]:
    """Those that were answered, taken back or ran out, newest first."""
    return invitations(federation).exclude(state=InvitationState.PENDING).select_related("accepted_for")


def agreements(federation: Federation) -> QuerySet[Agreement]:
    """The versions of the federation's study agreement, newest first, with who accepted them."""
    signed = Prefetch("acceptances", Acceptance.objects.select_related("organization", "person").order_by("pk"))
    versions = Agreement.objects.filter(federation=federation).select_related("federation", "published_by")
    return versions.prefetch_related(signed).order_by("-version")


def invitations(federation: Federation) -> QuerySet[Invitation]:
    """All invitations by letter to a federation, newest first."""
    return Invitation.objects.filter(federation=federation).select_related("organization", "federation", "invited_by")


def find_invitation(actor: Actor, public_id: str) -> Invitation:
    """An invitation of the actor's organization, for who may invite. Raises `not_found`, `forbidden`."""
    found = permissions.visible(actor, Invitation.objects.select_related("organization", "federation__organization"))
    invitation = found.filter(public_id=public_id).first()
    if invitation is None:
        raise FedportalError("not_found", what="invitation")
    if invitation.federation is not None:
        permissions.require(actor, "federation.invite", invitation.federation)
    else:
        permissions.require(actor, "organization.manage_people", invitation.organization)
    return invitation


def waiting_for(organization: Organization) -> QuerySet[Member]:
    """The federations that invited the organization and wait for its answer."""
    return Member.objects.filter(
        organization=organization, state=MemberState.INVITED, federation__dissolved_at=None
    ).select_related("federation__organization")


def suspended_places(organization: Organization | None) -> QuerySet[Member]:
    """The federations in which the organization is suspended; it does not see them otherwise."""
    places = Member.objects.filter(
        organization=organization, state=MemberState.SUSPENDED, federation__dissolved_at=None
    )
    return places.select_related("federation__organization")


# --- organizations ---------------------------------------------------------------------------------------------------


def find_organization(actor: Actor, reference: str) -> Organization:
    """The actor's own organization by id or name. Raises `not_found` for any other."""
    own = actor.organization
    if own is None or reference not in (own.public_id, own.name):
        raise FedportalError("not_found", what="organization")
    return own


def find_member_organization(federation: Federation, reference: str) -> Organization:
    """An organization with a row in the federation, by id or name. Raises `not_found`."""
    of = Organization.objects.filter(federation_members__federation=federation)
    found = of.filter(Q(public_id=reference) | Q(name=reference)).first()
    if found is None:
        raise FedportalError("not_found", what="member")
    return found


def people(organization: Organization, text: str = "") -> QuerySet[Membership]:
    """The people in the organization with their roles; with `text` those whose name, address or role holds it."""
    of = Membership.objects.filter(organization=organization).select_related("person", "organization").order_by("pk")
    if text:
        role = text.lower().replace(" ", "_")
        words = Q(person__name__icontains=text) | Q(person__email__icontains=text) | Q(role__contains=role)
        of = of.filter(words)
    return of


def find_membership(organization: Organization, person_id: str) -> Membership:
    """A person in the organization by public id. Raises `not_found`."""
    found = people(organization).filter(person__public_id=person_id).first()
    if found is None:
        raise FedportalError("not_found", what="person")
    return found


def open_invitations(organization: Organization) -> QuerySet[Invitation]:
    """The colleagues who were invited and have not answered."""
    return Invitation.objects.filter(
        organization=organization, kind=Invitation.Kind.ORGANIZATION, state=InvitationState.PENDING
    ).select_related("invited_by", "organization", "federation")


def memberships_of(actor: Actor) -> QuerySet[Membership]:
    """The organizations of the acting person; through a key only the key's."""
    own = Membership.objects.filter(person=actor.person).select_related("organization").order_by("pk")
    return own.filter(organization=actor.organization) if actor.key else own


def person_for(actor: Actor | None, organization: Organization, person: Person | None) -> Person | None:
    """The person who acted for the organization, for their colleagues; None for others, who see no more than it."""
    return person if actor is not None and actor.organization == organization else None


def owners(organization: Organization) -> QuerySet[Membership]:
    """The owners of an organization."""
    return Membership.objects.filter(organization=organization, role=Role.OWNER)


def keys(actor: Actor) -> QuerySet[ApiKey]:
    """One's own keys in the organization, each with `registered` devices; all of them for whoever manages keys."""
    permissions.require_scope(actor, "organization.make_key")
    of = permissions.visible(actor, ApiKey.objects.select_related("person", "organization"))
    of = of.annotate(registered=Count("devices")).order_by("-created_at", "-pk")
    if actor.organization and permissions.can(actor, "organization.manage_keys", actor.organization):
        return of
    return of.filter(person=actor.person)


def find_key(actor: Actor, public_id: str) -> ApiKey:
    """One of `keys`. Raises `not_found`."""
    found = keys(actor).filter(public_id=public_id).first()
    if found is None:
        raise FedportalError("not_found", what="key")
    return found


def webhooks(actor: Actor) -> QuerySet[Webhook]:
    """The webhooks of the actor's organization, for who manages them. Raises `forbidden`, `scope_missing`."""
    if actor.organization is not None:
        permissions.require(actor, "organization.manage_webhooks", actor.organization)
    of = permissions.visible(actor, Webhook.objects.select_related("organization", "created_by"))
    waiting = Delivery.objects.filter(webhook=OuterRef("pk"), delivered_at=None).order_by().values("webhook")
    return of.annotate(waiting=Coalesce(Subquery(waiting.annotate(n=Count("pk")).values("n")), 0)).order_by("pk")


def find_webhook(actor: Actor, public_id: str) -> Webhook:
    """One of `webhooks`. Raises `not_found`, and `forbidden` if it is one's organization's."""
    if not permissions.visible(actor, Webhook.objects.filter(public_id=public_id)).exists():
        raise FedportalError("not_found", what="webhook")
    return webhooks(actor).get(public_id=public_id)


def deliveries(webhook: Webhook) -> QuerySet[Delivery]:
    """What was sent to a webhook, or waits to be, newest first."""
    return Delivery.objects.filter(webhook=webhook).select_related("webhook", "organization").order_by("-pk")


def find_delivery(webhook: Webhook, public_id: str) -> Delivery:
    """One of `deliveries`. Raises `not_found`."""
    found = deliveries(webhook).filter(public_id=public_id).first()
    if found is None:
        raise FedportalError("not_found", what="delivery")
    return found


def audit_entries(organization: Organization) -> QuerySet[AuditEntry]:
    """The organization's log, newest first."""
    return AuditEntry.objects.filter(chain=organization.public_id).select_related("organization").order_by("-sequence")


# --- devices ---------------------------------------------------------------------------------------------------------


def devices(actor: Actor, *, group: str = "", states: Iterable[str] = ()) -> QuerySet[Device]:
    """The devices of the actor's organization, with their groups. Raises `scope_missing`, `forbidden`."""
    if actor.organization is not None:
        permissions.require(actor, "organization.view_devices", actor.organization)
    found = permissions.visible(actor, Device.objects.select_related("organization")).prefetch_related("groups")
    found = found.order_by("identifier")
    if group:
        found = found.filter(groups__name=group)
    return found.filter(state__in=list(states)) if states else found


def find_device(actor: Actor, reference: str) -> Device:
    """A device of the actor's organization by id or identifier. Raises `not_found`."""
    found: Device = find(actor, devices(actor), reference, "device", field="identifier")
    return found


def is_present(device: Device) -> bool:
    """Whether the device was heard of within FEDPORTAL_PRESENCE_SECONDS."""
    return device.last_seen_at is not None and device.last_seen_at >= _present_since()


def _present_since() -> datetime:
    return clock.now() - timedelta(seconds=settings.FEDPORTAL_PRESENCE_SECONDS)
