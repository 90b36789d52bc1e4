"""What waits for somebody: invitations, agreements, runs that stand still, keys that end. Each with where to go."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import F

from federations import permissions, selectors
from federations.models import Device, Invitation, Member
from federations.permissions import Actor
from fedportal.common import clock
from fedwire.states import DeviceState, InvitationState, MemberState, RunState
from training.first_steps import agreements_to_accept
from training.models import Run
from training.selectors import runs_for
from training.services import needs

SOON = timedelta(days=14)
MOST = 5
MOST_KEYS = 100  # that are looked at


@dataclass(frozen=True)
class Item:
    """One thing that waits. `action` on `about` is what one must be allowed to do it; "" for everybody."""

    kind: str
    text: str
    address: str
    button: str
    until: datetime | None = None
    action: str = ""
    about: Any = None
    may: bool = True


def agenda(actor: Actor) -> list[Item]:
    """What waits for the actor and their organization, the most pressing first; at most MOST of a kind.

    The number of queries does not depend on how many there are.
    """
    organization = actor.organization
    if organization is None:
        return _letters(actor)
    may_answer = permissions.can(actor, "organization.answer_invitation", organization)
    may_accept = permissions.can(actor, "organization.accept_agreement", organization)
    return [
        *_letters(actor),
        *_invitations(organization, may_answer),
        *_agreements(organization, may_accept),
        *_runs(actor),
        *_keys(actor),
        *_devices(actor),
    ]


def _letters(actor: Actor) -> list[Item]:
    """Invitations to the person by letter. Only the letter holds the link."""
    mine = Invitation.objects.filter(
        email=actor.person.email, state=InvitationState.PENDING, expires_at__gt=clock.now()
    ).select_related("organization", "federation")
    return [
        Item(
            "letter",
            f"{row.organization.name} invites you{f' to {row.federation.name}' if row.federation else ''}: "
            f"open the link in the letter to {row.email}.",
            "",
            "",
            until=row.expires_at,
        )
        for row in mine.order_by("pk")[:MOST]
    ]


def _invitations(organization: Any, may: bool) -> list[Item]:
    return [
        Item(
            "invitation",
            f"{place.federation.organization.name} invites your organization to {place.federation.name}.",
            f"/federations/{place.federation.public_id}",
            "Look and answer",
            action="organization.answer_invitation",
            about=organization,
            may=may,
        )
        for place in selectors.waiting_for(organization)[:MOST]
    ]


def _agreements(organization: Any, may: bool) -> list[Item]:
    places = Member.objects.filter(
        organization=organization,
        state=MemberState.ACTIVE,  # a suspended member sees no agreement, nor can it accept one
        federation__dissolved_at=None,
    ).select_related("federation")
    open_ones = agreements_to_accept(organization, [place.federation for place in places])
    now = clock.now()
    return [
        Item(
            "agreement",
            f"{row.federation.name} has a study agreement that your organization has not accepted: {row.title}.",
            f"/federations/{row.federation.public_id}/agreements",
            "Read and accept",
            until=row.expires_at,
            action="organization.accept_agreement",
            about=organization,
            may=may,
        )
        for row in open_ones
        if row.expires_at is None or row.expires_at > now
    ][:MOST]


def _runs(actor: Actor) -> list[Item]:
    """Runs that are paused, and runs whose open round has fewer devices than it needs."""
    alive = list(runs_for(actor).filter(state__in=(RunState.RUNNING, RunState.PAUSED))[:20])
    short = needs.short_among([run.pk for run in alive])
    found = []
    for run in alive:
        if run.state == RunState.PAUSED:
            found.append(_run(run, f"{run.model.name} in {run.federation.name} is paused.", None))
        elif row := short.get(run.pk):
            devices = "1 more device" if row.missing == 1 else f"{row.missing} more devices"
            told = f"{run.model.name} in {run.federation.name} waits for {devices}."
            found.append(_run(run, told, row.found.deadline))
    return found[:MOST]


def _run(run: Run, text: str, until: datetime | None) -> Item:
    return Item("run", text, f"/runs/{run.public_id}", "See why", until=until)


def _keys(actor: Actor) -> list[Item]:
    """Keys that end soon, unless they were made for a short while just now or their devices are all there."""
    now = clock.now()
    ending = selectors.keys(actor).filter(revoked_at=None, expires_at__gt=now, expires_at__lte=now + SOON)
    ending = ending.exclude(device_limit__isnull=False, registered__gte=F("device_limit"))
    old = [row for row in ending.order_by("expires_at")[:MOST_KEYS] if now - row.created_at > row.expires_at - now]
    return [
        Item("key", f"The key {row.name} of {row.person} ends.", "/keys", "See the keys", until=row.expires_at)
        for row in old[:MOST]
    ]


def _devices(actor: Actor) -> list[Item]:
    organization = actor.organization
    if organization is None or not permissions.can(actor, "organization.manage_devices", organization):
        return []
    held = Device.objects.filter(organization=organization, state=DeviceState.QUARANTINED).count()
    if not held:
        return []
    devices = "1 device is" if held == 1 else f"{held} devices are"
    return [Item("device", f"{devices} in quarantine and gets no work.", "/devices", "See the devices")]
