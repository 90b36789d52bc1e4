"""An organization's place in a federation, and the rights that go with it.

A member's state moves by a guarded UPDATE that must touch the row in its old state; with it, in the same unit, move the
organization's grants on the federation and on everything shared or run in it.

Whoever moves a member, shares, unshares, starts a run, invites, or changes or dissolves a federation asks who is in it
and writes grants by the answer. So that the answer stays true until the commit, each of these units begins with `lock`.
Everywhere rows are locked in one order: federation, organization, invitation, member, model, heads of audit chains (of
organizations by public id, then the portal's).
"""

from __future__ import annotations

from typing import Any

from federations import permissions
from federations.models import Device, Federation, Member, Organization
from fedportal.common import clock, live
from fedportal.common.transactions import after_commit
from fedwire.errors import FedportalError
from fedwire.states import MOVES, MemberState

_GONE = (MemberState.LEFT, MemberState.REMOVED, MemberState.DECLINED)


def lock(federation: Federation) -> None:
    """Let nobody else change who is in the federation, or what is in it, until the unit ends; read it anew.

    Call it first in the unit, and ask for rights that hang on the federation after it.
    """
    federation.refresh_from_db(from_queryset=Federation.objects.select_for_update(no_key=True))


def activate(member: Member) -> None:
    """invited → active with all its grants, inside the caller's unit. Raises `conflict`, `wrong_state`."""
    move(member, MemberState.ACTIVE, joined_at=clock.now())
    settle(member.federation, member.organization)


def move(member: Member, state: MemberState, **values: Any) -> None:
    """One allowed move of a member. Raises `wrong_state`, or `conflict` if somebody else moved it meanwhile."""
    if state not in MOVES["member"][member.state]:
        raise wrong(member)
    now = clock.now()
    moved = Member.objects.filter(pk=member.pk, state=member.state).update(state=state, changed_at=now, **values)
    if not moved:
        raise FedportalError("conflict")
    member.state, member.changed_at = state, now
    for name, value in values.items():
        setattr(member, name, value)


def settle(federation: Federation, organization: Organization) -> None:
    """Make the organization's grants on the federation, and on what is in it, what its state there says.

    Call it under the federation's lock.
    """
    permissions.settle(federation, organization, relation_of(federation, organization))
    permissions.settle_followers(federation, organization)
    device_pks = list(Device.objects.filter(organization=organization).values_list("pk", flat=True))
    after_commit(lambda: live.ring_devices(device_pks))


def relation_of(federation: Federation, organization: Organization) -> str | None:
    """The organization's relation to the federation in the words of `federations.roles`; None for a stranger."""
    if organization.pk == federation.organization_id:
        return "owner"
    state = federation.members.filter(organization=organization).values_list("state", flat=True).first()
    if state == MemberState.ACTIVE:
        return "trainer" if federation.members_may_start_runs else "member"
    return "invited" if state == MemberState.INVITED else None


def is_active(federation: Federation, organization: Organization) -> bool:
    """Whether the organization is an active member now."""
    return federation.members.filter(organization=organization, state=MemberState.ACTIVE).exists()


def welcome(federation: Federation, organization: Organization) -> Member:
    """Make the organization an active member by an accepted letter (under the lock). Raises `already_member`."""
    member, _ = Member.objects.get_or_create(federation=federation, organization=organization)
    if member.state in (MemberState.ACTIVE, MemberState.SUSPENDED):
        raise FedportalError("already_member", name=organization.name)
    if member.state != MemberState.INVITED:
        move(member, MemberState.INVITED)
    activate(member)
    return member


def check_alive(federation: Federation) -> None:
    """Raises `wrong_state` when the federation was dissolved. Call it under the federation's lock."""
    if federation.dissolved_at is not None:
        raise FedportalError("wrong_state", what="This federation", state="dissolved", hint="Found a new one.")


def find(federation: Federation, organization: Organization, missing: str = "not_invited") -> Member:
    """The organization's row in the federation (under its lock). Raises the error called `missing`."""
    member = federation.members.filter(organization=organization).first()
    if member is None:
        raise FedportalError(missing, what="member") if missing == "not_found" else FedportalError(missing)
    member.federation, member.organization = federation, organization
    return member


def wrong(member: Member) -> FedportalError:
    """The error that says in which state the member is."""
    hint = "Invite it again." if member.state in _GONE else "Look at the roster."
    return FedportalError("wrong_state", what=member.organization.name, state=str(member.state), hint=hint)
