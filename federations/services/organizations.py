"""Organizations: founded, the people in them, suspended by the portal's staff."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import IntegrityError, transaction

from federations import permissions, roles
from federations.models import Device, Invitation, Membership, Organization, Person, Role
from federations.permissions import Actor
from federations.services import audit, keys, names
from fedportal.common import clock, live
from fedportal.common.transactions import after_commit, unit
from fedwire.errors import FedportalError
from fedwire.states import InvitationState


def found(name: str, owner: Person) -> Organization:
    """A new organization with `owner` as its owner. Raises `invalid_name`, `reserved_name`, `name_taken`."""
    usable = names.checked(name)
    with unit():
        if Organization.objects.filter(name__iexact=usable).exists():
            raise FedportalError("name_taken", what="organization", name=usable)
        try:
            with transaction.atomic():
                organization = Organization.objects.create(name=usable)
        except IntegrityError as error:
            raise FedportalError("name_taken", what="organization", name=usable) from error
        permissions.make_groups(organization)
        enter(organization, owner, Role.OWNER)
        audit.record(organization, owner, "organization.founded", organization.public_id)
    return organization


def enter(organization: Organization, person: Person, role: Role) -> Membership:
    """Make the person a part of the organization (inside a unit; the caller writes the audit entry).

    Raises `already_member`.
    """
    membership, made = Membership.objects.get_or_create(
        organization=organization, person=person, defaults={"role": role}
    )
    if not made:
        raise FedportalError("already_member", name=str(person))
    permissions.put_in_group(membership)
    return membership


def set_role(actor: Actor, membership: Membership, role: Role) -> Membership:
    """Give a person another role. Nobody gives or takes a role above their own, and one owner must remain.

    Open invitations that the person could not write with the new role are revoked.
    Raises `forbidden`, `not_found`, `role_too_high`, `last_owner`.
    """
    organization = membership.organization
    permissions.require(actor, "organization.manage_people", organization)
    with unit():
        lock(organization)
        _refresh(membership)
        check_rank(actor, membership.role, role)
        if role != Role.OWNER:
            _keep_an_owner(membership)
        before = membership.role
        if before != role:
            membership.role = role
            membership.save(update_fields=["role"])
            permissions.put_in_group(membership)
            revoked = _revoke_letters(membership, [given for given in ("", *Role) if roles.may_invite(role, given)])
            audit.record(
                organization,
                actor,
                "person.role_changed",
                membership.person.public_id,
                before=before,
                after=str(role),
                invitations_revoked=revoked,
            )
    return membership


def remove(actor: Actor, membership: Membership) -> None:
    """Let a person go, or go oneself: their rights, keys and open invitations end with the commit.

    Raises `forbidden`, `not_found`, `role_too_high`, `last_owner`.
    """
    organization, person = membership.organization, membership.person
    leaving = person == actor.person
    permissions.require(actor, "organization.view" if leaving else "organization.manage_people", organization)
    if leaving:
        permissions.require_scope(actor, "organization.manage_people")
    with unit():
        lock(organization)
        _refresh(membership)
        if not leaving:
            check_rank(actor, membership.role)
        _keep_an_owner(membership)
        permissions.leave_groups(membership)
        ended = keys.revoke_all(organization, person)
        revoked = _revoke_letters(membership, [])
        membership.delete()
        action = "person.left" if leaving else "person.removed"
        audit.record(organization, actor, action, person.public_id, keys_revoked=ended, invitations_revoked=revoked)


def check_may_go(membership: Membership) -> None:
    """Raises `last_owner` when the organization would be left without an owner."""
    _keep_an_owner(membership)


def transfer(actor: Actor, membership: Membership) -> Membership:
    """Make a colleague the owner in the actor's place: they become owner and the actor admin, both at once.

    Raises `forbidden`, `not_found`, `wrong_state` for somebody who cannot sign in, `field_invalid` for oneself.
    """
    organization, heir = membership.organization, membership.person
    permissions.require(actor, "organization.manage", organization)
    if heir == actor.person:
        raise FedportalError("field_invalid", field="person", reason="you are the owner already.")
    with unit():
        lock(organization)
        permissions.require(actor, "organization.manage", organization)  # of two at once the second is owner no more
        own = Membership.objects.get(organization=organization, person=actor.person)
        _refresh(membership)
        if not Person.objects.filter(pk=heir.pk, is_active=True).exists():
            raise FedportalError("wrong_state", what=str(heir), state="locked out", hint="Choose another colleague.")
        for one, role in ((membership, Role.OWNER), (own, Role.ADMIN)):
            one.role = role
            one.save(update_fields=["role"])
            permissions.put_in_group(one)
        revoked = _revoke_letters(own, [given for given in ("", *Role) if roles.may_invite(Role.ADMIN, given)])
        audit.record(
            organization,
            actor,
            "organization.transferred",
            heir.public_id,
            before=actor.person.public_id,
            invitations_revoked=revoked,
        )
    return membership


def rename(actor: Actor, organization: Organization, name: str) -> Organization:
    """Give the organization another name. Raises `forbidden`, `invalid_name`, `reserved_name`, `name_taken`."""
    permissions.require(actor, "organization.manage", organization)
    usable, before = names.checked(name), organization.name
    if usable == before:
        return organization
    with unit():
        if Organization.objects.filter(name__iexact=usable).exclude(pk=organization.pk).exists():
            raise FedportalError("name_taken", what="organization", name=usable)
        organization.name = usable
        try:
            with transaction.atomic():
                organization.save(update_fields=["name"])
        except IntegrityError as error:
            raise FedportalError("name_taken", what="organization", name=usable) from error
        audit.record(organization, actor, "organization.renamed", organization.public_id, before=before, after=usable)
    return organization


def suspend(by: Person, organization: Organization) -> None:
    """Portal staff stop an organization: keys, devices and people of it are refused at once. Raises `forbidden`."""
    permissions.require_staff(by)
    with unit():
        if not Organization.objects.filter(pk=organization.pk, suspended_at=None).update(suspended_at=clock.now()):
            return
        audit.record(None, by, "organization.suspended", organization.public_id)
        device_pks = list(Device.objects.filter(organization=organization).values_list("pk", flat=True))
        after_commit(lambda: live.ring_devices(device_pks))
    organization.refresh_from_db()


def reinstate(by: Person, organization: Organization) -> None:
    """Portal staff let a suspended organization go on. Raises `forbidden`."""
    permissions.require_staff(by)
    with unit():
        if Organization.objects.filter(pk=organization.pk).exclude(suspended_at=None).update(suspended_at=None):
            audit.record(None, by, "organization.reinstated", organization.public_id)
    organization.refresh_from_db()


def lock(organization: Organization) -> None:
    """Let one change of people or of their letters happen after the other, until the unit ends.

    So two owners cannot both be the last to go, and no address gets two letters.
    """
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)


def check_rank(actor: Actor, *wanted: str) -> None:
    """Raises `role_too_high` when one of the roles is above the actor's own."""
    own = permissions.role_of(actor)
    if own is None or any(roles.RANK[role] < roles.RANK[own] for role in wanted):
        raise FedportalError("role_too_high")


def _revoke_letters(author: Membership, kept: Sequence[str]) -> int:
    """Revoke the open invitations that this person wrote here, but not those to a role in `kept`; how many."""
    written = Invitation.objects.filter(
        organization=author.organization, invited_by=author.person, state=InvitationState.PENDING
    )
    return written.exclude(role__in=kept).update(state=InvitationState.REVOKED, closed_at=clock.now())


def _refresh(membership: Membership) -> None:
    """The membership as it is under the lock. Raises `not_found` when the person is in the organization no more."""
    try:
        membership.refresh_from_db()
    except Membership.DoesNotExist as error:
        raise FedportalError("not_found", what="person") from error


def _keep_an_owner(membership: Membership) -> None:
    others = Membership.objects.filter(organization=membership.organization, role=Role.OWNER).exclude(pk=membership.pk)
    if membership.role == Role.OWNER and not others.exists():
        raise FedportalError("last_owner")
