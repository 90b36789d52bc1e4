"""Invitations by letter: a link with a secret token that is used once, expires and is bound to its address.

Only the token's SHA-256 is stored. Looking at a link changes nothing; accepting it proves the address, because the
token was sent nowhere else and the accepting person must be the one invited. Whoever accepts first wins: accepting is
a guarded UPDATE. A letter gives no more than its author may give at that moment.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from federations import permissions, roles
from federations.models import Federation, Invitation, Member, Membership, Organization, Person, Role
from federations.permissions import Actor
from federations.services import agreements, audit, letters, members, news, organizations, people, throttle
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.states import InvitationState

VALID_FOR = timedelta(hours=72)
TOKEN_BYTES = 32

Kind = Invitation.Kind


@dataclass(frozen=True)
class Written:
    """An invitation and its link, which is known only now."""

    invitation: Invitation
    link: str

    @property
    def link_to_copy(self) -> str | None:
        """The link where no mail server is set up. With one only the letter holds it, so that it proves the address."""
        return None if settings.FEDPORTAL_EMAIL_URL else self.link


@dataclass(frozen=True)
class Accepted:
    """What accepting led to: the organization one is in or for which one joined, and the member row of a federation."""

    invitation: Invitation
    organization: Organization
    member: Member | None


# --- inviting --------------------------------------------------------------------------------------------------------


def write_for_federation(actor: Actor, federation: Federation, address: str) -> Written:
    """Invite a checked address to the federation, under its lock, for `federations.invite`, which asked for the right.

    Raises `already_member` when the address has an open invitation.
    """
    _make_room(Invitation.objects.filter(federation=federation), address)
    return _write(actor, Kind.FEDERATION, federation.organization, address, federation=federation)


def invite_colleague(actor: Actor, organization: Organization, *, email: str, role: Role) -> Written:
    """Invite a person into the organization. Raises `forbidden`, `role_too_high`, `already_member`, `field_invalid`,
    `too_many_letters`."""
    permissions.require(actor, "organization.manage_people", organization)
    address = people.checked_address(email)
    with unit():
        organizations.lock(organization)
        organizations.check_rank(actor, role)
        _check_outside(organization, address)
        _make_room(Invitation.objects.filter(organization=organization, kind=Kind.ORGANIZATION), address)
        throttle.before_letters(actor.person.public_id, organization.public_id, [address])
        written = _write(actor, Kind.ORGANIZATION, organization, address, role=role)
        audit.record(
            organization,
            actor,
            "person.invited",
            written.invitation.public_id,
            role=str(role),
            address=audit.commitment(address),
        )
    return written


def resend(actor: Actor, invitation: Invitation) -> Written:
    """Send a new letter with a new link, valid for the full time again; the old link ends.

    Who resends it is its author from then on. Raises `role_too_high`, `wrong_state`, `too_many_letters`, and
    `already_member` when the address has another open letter or its person is in by now.
    """
    _require(actor, invitation)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    with unit():
        _lock(invitation)
        open_or_over = Invitation.objects.filter(
            pk=invitation.pk, state__in=(InvitationState.PENDING, InvitationState.EXPIRED)
        )
        if not open_or_over.exists():
            raise _closed(invitation)
        others = Invitation.objects.exclude(pk=invitation.pk)
        if invitation.federation is not None:
            _make_room(others.filter(federation=invitation.federation), invitation.email)
        else:
            organizations.check_rank(actor, invitation.role)
            _check_outside(invitation.organization, invitation.email)
            others = others.filter(organization=invitation.organization, kind=Kind.ORGANIZATION)
            _make_room(others, invitation.email)
        throttle.before_letters(actor.person.public_id, invitation.organization.public_id, [invitation.email])
        revived = open_or_over.update(
            state=InvitationState.PENDING,
            token_hash=_hash(token),
            expires_at=clock.now() + VALID_FOR,
            closed_at=None,
            invited_by=actor.person,
        )
        if not revived:
            raise _closed(invitation)
        invitation.refresh_from_db()
        link = _send(invitation, token)
        audit.record(invitation.organization, actor, "invitation.resent", invitation.public_id)
    return Written(invitation, link)


def revoke(actor: Actor, invitation: Invitation) -> Invitation:
    """Take an invitation back; its link ends. Raises `wrong_state` for one that was answered."""
    _require(actor, invitation)
    with unit():
        if not _move(invitation, InvitationState.REVOKED):
            raise _closed(invitation)
        audit.record(invitation.organization, actor, "invitation.revoked", invitation.public_id)
    return invitation


def close_all(federation: Federation) -> int:
    """Revoke every open invitation of a federation that ends (inside the unit); how many."""
    return Invitation.objects.filter(federation=federation, state=InvitationState.PENDING).update(
        state=InvitationState.REVOKED, closed_at=clock.now()
    )


# --- answering -------------------------------------------------------------------------------------------------------


def find(token: str, ip: str | None = None) -> Invitation:
    """The open invitation behind a link; looking changes nothing. With `ip`, tries are counted.

    Raises `too_many_tries`, `invitation_invalid`, `invitation_used`, `invitation_revoked`, `invitation_expired`.
    """
    if ip is not None:
        throttle.before_token(ip)
    found = Invitation.objects.select_related("organization", "federation", "invited_by")
    invitation = found.filter(token_hash=_hash(token)).first()
    if invitation is None:
        raise FedportalError("invitation_invalid")
    _check_open(invitation)
    return invitation


def used_by(token: str, person: Person) -> Invitation | None:
    """The invitation behind a link, if this person has accepted it."""
    accepted = Invitation.objects.filter(token_hash=_hash(token), state=InvitationState.ACCEPTED, accepted_by=person)
    return accepted.select_related("federation").first()


def accept(
    token: str,
    *,
    person: Person,
    organization: Organization | None = None,
    new_organization_name: str = "",
    accept_agreement: str = "",
) -> Accepted:
    """Accept the invitation behind `token` as `person`, once.

    A federation invitation is accepted for `organization`, in which the person must be owner or admin, or for a new one
    that is founded on the way; `accept_agreement` is the id of the study agreement that it accepts thereby, which it
    may also do later. Raises what `find` and `agreements.sign` raise, `invitation_wrong_address`, `field_invalid`
    without an organization, `forbidden`, `already_member`, and what `organizations.found` raises; then nothing has
    changed.
    """
    invitation = find(token)
    if person.email != invitation.email or not person.is_active:
        raise FedportalError("invitation_wrong_address")
    with unit():
        _lock(invitation)
        invitation = find(token)  # as it and its author are under the lock
        if not _move(invitation, InvitationState.ACCEPTED, accepted_by=person):
            _check_open(Invitation.objects.get(pk=invitation.pk))
            raise FedportalError("conflict")
        if invitation.kind == Kind.ORGANIZATION:
            accepted = _enter(invitation, person)
        else:
            accepted = _join(invitation, person, organization, new_organization_name)
            if accept_agreement:
                _sign(accepted, person, accept_agreement)
        Invitation.objects.filter(pk=invitation.pk).update(accepted_for=accepted.organization)
        invitation.accepted_for = accepted.organization
        audit.record(
            accepted.organization,
            person,
            "invitation.accepted",
            invitation.public_id,
            federation=invitation.federation.public_id if invitation.federation else None,
            **({"agreement": accept_agreement} if accept_agreement else {}),
        )
        if accepted.member is not None:
            news.answered(accepted.member.federation, accepted.organization, accepted.member.state)
    return accepted


def accept_as_new(
    token: str,
    *,
    password: str,
    name: str = "",
    organization_name: str = "",
    accept_agreement: str = "",
    ip: str | None = None,
) -> tuple[Person, Accepted]:
    """Sign up under the invited address and accept, both or neither. Raises what `accept` and `people` raise."""
    invitation = find(token, ip)
    newcomer = people.prepare(invitation.email, password, name)
    with unit():
        _lock(invitation)
        person = people.admit(newcomer)
        accepted = accept(
            token, person=person, new_organization_name=organization_name, accept_agreement=accept_agreement
        )
        people.note_sign_up(person)
    return person, accepted


def decline(token: str, *, person: Person | None = None) -> Invitation:
    """Say no; the link ends. Whoever holds the letter may, signed in or not, but not as another person.

    Raises what `find` raises, and `invitation_wrong_address`.
    """
    invitation = find(token)
    if person is not None and person.email != invitation.email:
        raise FedportalError("invitation_wrong_address")
    with unit():
        if not _move(invitation, InvitationState.DECLINED):
            raise FedportalError("conflict")
        author = person or audit.PORTAL
        audit.record(invitation.organization, author, "invitation.declined", invitation.public_id)
        if invitation.federation is not None:
            news.declined_letter(invitation.federation)
    return invitation


def sweep() -> int:
    """Mark what has expired, so that lists say so; how many."""
    now = clock.now()
    overdue = Invitation.objects.filter(state=InvitationState.PENDING, expires_at__lte=now)
    return overdue.update(state=InvitationState.EXPIRED, closed_at=now)


# --- inside ----------------------------------------------------------------------------------------------------------


def _enter(invitation: Invitation, person: Person) -> Accepted:
    organizations.enter(invitation.organization, person, Role(invitation.role))
    return Accepted(invitation, invitation.organization, None)


def _join(invitation: Invitation, person: Person, organization: Organization | None, new_name: str) -> Accepted:
    federation = invitation.federation
    assert federation is not None
    if new_name:
        organization = organizations.found(new_name, person)
    elif organization is None:
        raise FedportalError("field_invalid", field="organization", reason="choose one, or name a new one.")
    permissions.require(Actor(person, organization), "organization.answer_invitation", organization)
    return Accepted(invitation, organization, members.welcome(federation, organization))


def _sign(accepted: Accepted, person: Person, public_id: str) -> None:
    assert accepted.member is not None
    permissions.require(Actor(person, accepted.organization), "organization.accept_agreement", accepted.organization)
    agreements.sign(accepted.member.federation, accepted.organization, person, public_id)


def _write(actor: Actor, kind: Kind, organization: Organization, address: str, **values: Any) -> Written:
    token = secrets.token_urlsafe(TOKEN_BYTES)
    invitation = Invitation.objects.create(
        kind=kind,
        organization=organization,
        email=address,
        token_hash=_hash(token),
        expires_at=clock.now() + VALID_FOR,
        invited_by=actor.person,
        **values,
    )
    return Written(invitation, _send(invitation, token))


def _send(invitation: Invitation, token: str) -> str:
    author, organization = invitation.invited_by, invitation.organization
    link = f"{settings.FEDPORTAL_PUBLIC_URL}/invitations/{token}"
    letters.write(
        invitation.email,
        f"{invitation.kind}_invitation",
        organization,
        link=link,
        invitation=invitation,
        inviter=letters.as_words(organization.name),
        invited_by=letters.as_words(author.name) if author else "",
        federation=letters.as_words(invitation.federation.name) if invitation.federation else "",
        role=Role(invitation.role).label.lower() if invitation.role else "",
        agreement=agreements.title_for_letters(invitation.federation) if invitation.federation else "",
        hours=int(VALID_FOR.total_seconds() // 3600),
    )
    return link


def _lock(invitation: Invitation) -> None:
    """Lock where the invitation leads to, for the unit: first of all, in the order that `members` says."""
    if invitation.federation is not None:
        members.lock(invitation.federation)
    else:
        organizations.lock(invitation.organization)


def _make_room(letters: QuerySet[Invitation], address: str) -> None:
    """Close those pending letters to the address that ran out unnoticed. Raises `already_member` when one is open."""
    now = clock.now()
    pending = letters.filter(email=address, state=InvitationState.PENDING)
    if pending.filter(expires_at__gt=now).exists():
        raise FedportalError("already_member", name=address)
    pending.update(state=InvitationState.EXPIRED, closed_at=now)


def _check_outside(organization: Organization, address: str) -> None:
    """Raises `already_member` when the person with this address is in the organization."""
    if Membership.objects.filter(organization=organization, person__email=address).exists():
        raise FedportalError("already_member", name=address)


def _require(actor: Actor, invitation: Invitation) -> None:
    if invitation.federation is not None:
        permissions.require(actor, "federation.invite", invitation.federation)
    else:
        permissions.require(actor, "organization.manage_people", invitation.organization)


def _move(invitation: Invitation, state: InvitationState, **values: Any) -> bool:
    now = clock.now()
    pending = Invitation.objects.filter(pk=invitation.pk, state=InvitationState.PENDING)
    if state == InvitationState.ACCEPTED:  # not a moment after it ended, and not by a link that was replaced
        pending = pending.filter(expires_at__gt=now, token_hash=invitation.token_hash)
    moved = pending.update(state=state, closed_at=now, **values)
    if moved:
        invitation.state, invitation.closed_at = state, now
        for name, value in values.items():
            setattr(invitation, name, value)
    return bool(moved)


def _check_open(invitation: Invitation) -> None:
    if invitation.state in (InvitationState.ACCEPTED, InvitationState.DECLINED):
        raise _ended("invitation_used", invitation)
    if invitation.state == InvitationState.REVOKED:
        raise _ended("invitation_revoked", invitation)
    if invitation.state == InvitationState.EXPIRED or invitation.expires_at <= clock.now():
        raise _ended("invitation_expired", invitation)
    federation = invitation.federation
    if invitation.organization.suspended_at is not None or (federation and federation.dissolved_at is not None):
        raise _ended("invitation_revoked", invitation)
    author = Membership.objects.filter(
        organization=invitation.organization, person=invitation.invited_by, person__is_active=True
    ).first()
    if author is None or not roles.may_invite(author.role, invitation.role):
        raise _ended("invitation_revoked", invitation)


def _ended(code: str, invitation: Invitation) -> FedportalError:
    """The error that names whom to ask; whoever has the letter knows the names from it."""
    author, organization = invitation.invited_by, invitation.organization.name
    who = f"{author.name} of {organization}" if author is not None and author.name else organization
    return FedportalError(code, who=who)


def _closed(invitation: Invitation) -> FedportalError:
    invitation.refresh_from_db()
    return FedportalError(
        "wrong_state", what="This invitation", state=str(invitation.state), hint="Invite the person again."
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
