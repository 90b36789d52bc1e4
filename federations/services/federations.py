"""Federations: founded, joined, left, and who is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from django.conf import settings
from django.db import IntegrityError, transaction

from federations import permissions
from federations.models import Federation, Member, Organization, Person, Role
from federations.permissions import Actor
from federations.services import (
    agreements,
    audit,
    invitations,
    keys,
    letters,
    members,
    names,
    news,
    people,
    throttle,
)
from federations.services.agreements import Draft
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.states import MemberState

T = TypeVar("T")
MOST_AT_ONCE = 100


@dataclass(frozen=True)
class Invited:
    """What `invite` did: the organizations now invited, and the invitations by letter with their links."""

    members: Sequence[Member]
    letters: Sequence[invitations.Written]


class Uninvited(FedportalError):
    """Nobody was invited, because some cannot be. The error of the first; `refused`: what was given → why."""

    def __init__(self, refused: Mapping[str, FedportalError]) -> None:
        first = next(iter(refused.values()))
        super().__init__(first.code, **first.context)
        self.refused = refused


def found(
    actor: Actor,
    *,
    name: str,
    description: str = "",
    members_may_start_runs: bool = False,
    agreement: Draft | None = None,
) -> Federation:
    """A new federation, owned by the actor's organization, which is its first active member; `agreement`: its first
    study agreement.

    Raises `invalid_name`, `reserved_name`, `name_taken`, `field_invalid`, `forbidden`.
    """
    organization = keys.organization_of(actor)
    permissions.require(actor, "organization.found_federation", organization)
    usable, draft = names.checked(name), agreement.checked() if agreement else None
    with unit():
        try:
            with transaction.atomic():
                federation = Federation.objects.create(
                    organization=organization,
                    name=usable,
                    description=description,
                    members_may_start_runs=members_may_start_runs,
                    created_by=actor.person,
                )
        except IntegrityError as error:
            raise FedportalError("name_taken", what="federation", name=usable) from error
        now = clock.now()
        Member.objects.create(
            federation=federation, organization=organization, state=MemberState.ACTIVE, invited_at=now, joined_at=now
        )
        members.settle(federation, organization)
        first = {"agreement": agreements.write(actor, federation, draft).public_id} if draft else {}
        audit.record(organization, actor, "federation.founded", federation.public_id, **first)
    return federation


def change(
    actor: Actor,
    federation: Federation,
    *,
    name: str | None = None,
    description: str | None = None,
    members_may_start_runs: bool | None = None,
) -> Federation:
    """Change what is given. Raises `forbidden`, `invalid_name`, `reserved_name`, `name_taken`."""
    permissions.require(actor, "federation.manage", federation)
    wanted = {
        "name": names.checked(name) if name is not None else None,
        "description": description,
        "members_may_start_runs": members_may_start_runs,
    }
    with unit():
        members.lock(federation)
        changed = {field: v for field, v in wanted.items() if v is not None and v != getattr(federation, field)}
        if not changed:
            return federation
        for field, value in changed.items():
            setattr(federation, field, value)
        try:
            with transaction.atomic():
                federation.save(update_fields=list(changed))
        except IntegrityError as error:
            raise FedportalError("name_taken", what="federation", name=str(changed.get("name"))) from error
        if "members_may_start_runs" in changed:
            for member in federation.members.filter(state=MemberState.ACTIVE).select_related("organization"):
                members.settle(federation, member.organization)
        audit.record(federation.organization, actor, "federation.changed", federation.public_id, fields=sorted(changed))
    return federation


def invite(actor: Actor, federation: Federation, *, org_ids: Iterable[str] = (), emails: Iterable[str] = ()) -> Invited:
    """Invite organizations by id, and people by address; all of them or, if one cannot be, none.

    Raises `Uninvited`, which is the error of the first that cannot be invited: `not_found` for an unknown
    organization, `already_member`, `field_invalid`; and `forbidden`, `wrong_state`, `too_many_letters`.
    """
    permissions.require(actor, "federation.invite", federation)
    refused: dict[str, FedportalError] = {}
    wanted = list(dict.fromkeys(org_ids))
    addresses = list(dict.fromkeys(_each(emails, people.checked_address, refused)))
    if not 0 < len(wanted) + len(addresses) + len(refused) <= MOST_AT_ONCE:
        reason = f"name 1 to {MOST_AT_ONCE} organizations or addresses."
        raise FedportalError("field_invalid", field="org_ids", reason=reason)
    with unit():
        members.lock(federation)
        members.check_alive(federation)
        throttle.before_letters(actor.person.public_id, federation.organization.public_id, [*wanted, *addresses])
        invited = _each(wanted, lambda org_id: _invite_organization(actor, federation, org_id), refused)
        written = _each(addresses, lambda email: invitations.write_for_federation(actor, federation, email), refused)
        if refused:
            raise Uninvited(refused)
        audit.record(
            federation.organization,
            actor,
            "federation.invited",
            federation.public_id,
            organizations=wanted,
            addresses=[audit.commitment(item.invitation.email) for item in written],
            invitations=[item.invitation.public_id for item in written],
        )
    return Invited(invited, written)


def _each(entries: Iterable[str], act: Callable[[str], T], refused: dict[str, FedportalError]) -> list[T]:
    """What `act` makes of each entry; those that it refuses are put into `refused` with the reason."""
    made = []
    for entry in entries:
        try:
            made.append(act(entry))
        except FedportalError as error:
            refused[entry] = error
    return made


def join(actor: Actor, federation: Federation, *, accept_agreement: str = "") -> Member:
    """The actor's organization, which is invited, becomes an active member. Joining again changes nothing.

    `accept_agreement`: the id of the study agreement that it accepts thereby; it may do so later too. Raises
    `forbidden`, `not_invited`, `wrong_state`, and what `agreements.sign` raises; then nothing has changed.
    """
    organization = _answering(actor)
    with unit():
        members.lock(federation)
        member = members.find(federation, organization)
        if member.state == MemberState.ACTIVE:
            return member
        if member.state != MemberState.INVITED:
            raise FedportalError("not_invited")
        members.check_alive(federation)
        members.activate(member)
        accepted = {}
        if accept_agreement:
            permissions.require(actor, "organization.accept_agreement", organization)
            agreements.sign(federation, organization, actor.person, accept_agreement)
            accepted = {"agreement": accept_agreement}
        audit.record(organization, actor, "federation.joined", federation.public_id, **accepted)
        news.answered(federation, organization, MemberState.ACTIVE)
    return member


def decline(actor: Actor, federation: Federation) -> Member:
    """The actor's organization does not want to join. Raises `forbidden`, `not_invited`, `wrong_state`."""
    return _answer(actor, federation, MemberState.DECLINED, "federation.declined")


def leave(actor: Actor, federation: Federation) -> Member:
    """The actor's organization goes. Raises `forbidden`, `not_invited`, and `wrong_state` for the owner."""
    return _answer(actor, federation, MemberState.LEFT, "federation.left")


def suspend(actor: Actor, federation: Federation, organization: Organization) -> Member:
    """The owner stops a member for a while. Raises `forbidden`, `not_found`, `wrong_state`."""
    return _manage(actor, federation, organization, MemberState.SUSPENDED, "federation.member_suspended")


def reinstate(actor: Actor, federation: Federation, organization: Organization) -> Member:
    """The owner lets a suspended member go on. Raises `forbidden`, `not_found`, `wrong_state`."""
    permissions.require(actor, "federation.manage", federation)
    with unit():
        members.lock(federation)
        member = members.find(federation, organization, missing="not_found")
        if member.state != MemberState.SUSPENDED:
            raise members.wrong(member)
        return _manage(actor, federation, organization, MemberState.ACTIVE, "federation.member_reinstated")


def remove(actor: Actor, federation: Federation, organization: Organization) -> Member:
    """The owner sends a member away, or takes an invitation back. Raises `forbidden`, `not_found`, `wrong_state`."""
    return _manage(actor, federation, organization, MemberState.REMOVED, "federation.member_removed")


def dissolve(actor: Actor, federation: Federation) -> Federation:
    """End the federation: nobody joins, shares or starts runs in it any more; what was learned stays.

    Raises `forbidden`.
    """
    permissions.require(actor, "federation.manage", federation)
    with unit():
        members.lock(federation)
        if federation.dissolved_at is None:
            federation.dissolved_at = clock.now()
            federation.save(update_fields=["dissolved_at"])
            invitations.close_all(federation)
            others = federation.members.exclude(organization=federation.organization).select_related("organization")
            standing = others.filter(state__in=(MemberState.INVITED, MemberState.ACTIVE, MemberState.SUSPENDED))
            for member in standing.order_by("organization_id"):
                members.move(member, MemberState.REMOVED)
                members.settle(federation, member.organization)
                news.dissolved(federation, member.organization)
            audit.record(federation.organization, actor, "federation.dissolved", federation.public_id)
    return federation


def _invite_organization(actor: Actor, federation: Federation, org_id: str) -> Member:
    organization = Organization.objects.filter(public_id=org_id).first()
    if organization is None:
        raise FedportalError("not_found", what=f"organization {org_id[:40]}")
    member, made = Member.objects.get_or_create(federation=federation, organization=organization)
    if not made:
        if member.state in (MemberState.INVITED, MemberState.ACTIVE, MemberState.SUSPENDED):
            raise FedportalError("already_member", name=organization.name)
        members.move(member, MemberState.INVITED, invited_at=clock.now(), joined_at=None)
    members.settle(federation, organization)
    answering = Person.objects.filter(
        memberships__organization=organization, memberships__role__in=(Role.OWNER, Role.ADMIN), is_active=True
    )
    link = f"{settings.FEDPORTAL_PUBLIC_URL}/federations/{federation.public_id}"
    for person in answering.distinct():
        letters.write(
            person.email,
            "organization_invited",
            organization,
            link=link,
            federation=letters.as_words(federation.name),
            federation_id=federation.public_id,
            inviter=letters.as_words(federation.organization.name),
            organization_name=letters.as_words(organization.name),
            agreement=agreements.title_for_letters(federation),
            person=letters.as_words(person.name),
        )
    return member


def _answer(actor: Actor, federation: Federation, state: MemberState, action: str) -> Member:
    organization = _answering(actor)
    if organization.pk == federation.organization_id:
        raise FedportalError(
            "wrong_state", what="Your organization", state="the owner", hint="The owner can dissolve the federation."
        )
    with unit():
        members.lock(federation)
        member = members.find(federation, organization)
        members.move(member, state)
        members.settle(federation, organization)
        audit.record(organization, actor, action, federation.public_id)
        news.answered(federation, organization, state)
    return member


def _manage(
    actor: Actor, federation: Federation, organization: Organization, state: MemberState, action: str
) -> Member:
    permissions.require(actor, "federation.manage", federation)
    with unit():
        members.lock(federation)
        member = members.find(federation, organization, missing="not_found")
        if organization.pk == federation.organization_id:
            raise FedportalError(
                "wrong_state", what=organization.name, state="the owner", hint="The owner stays in its federation."
            )
        before = member.state
        members.move(member, state)
        members.settle(federation, organization)
        audit.record(federation.organization, actor, action, federation.public_id, organization=organization.public_id)
        news.managed(federation, organization, before, state)
    return member


def _answering(actor: Actor) -> Organization:
    organization = keys.organization_of(actor)
    permissions.require(actor, "organization.answer_invitation", organization)
    return organization
