"""A letter is worth what its author is: it neither outlives their place nor outranks their role."""

from __future__ import annotations

import pytest

from federations.models import AuditEntry, Invitation, Membership, Person, Role
from federations.permissions import Actor
from federations.services import federations, invitations, organizations, people
from tests.cast import PASSWORD, Cast
from tests.federations.helpers import recorded, refused, token_for

GUEST = "gina@guest.example"


@pytest.fixture
def author(cast: Cast) -> Actor:
    """A second owner of acme, who will go."""
    return Actor(cast.colleague(cast.acme, Role.OWNER), cast.acme)


def place_of(author: Actor) -> Membership:
    return Membership.objects.get(person=author.person, organization=author.organization)


def letter(author: Actor, cast: Cast, role: Role | None) -> Invitation:
    """A letter to gina: to a colleague with `role`, or without one to the federation."""
    if role is None:
        return federations.invite(author, cast.federation, emails=[GUEST]).letters[0].invitation
    return invitations.invite_colleague(author, cast.acme, email=GUEST, role=role).invitation


@pytest.mark.parametrize("role", [None, Role.OWNER, Role.VIEWER])
def test_who_is_taken_out_takes_their_letters_along(cast: Cast, author: Actor, role: Role | None) -> None:
    invitation = letter(author, cast, role)
    with recorded("person.removed"):
        organizations.remove(cast.actor("olga"), place_of(author))
    invitation.refresh_from_db()
    assert (invitation.state, invitation.closed_at is not None) == ("revoked", True)
    assert AuditEntry.objects.latest("pk").details["invitations_revoked"] == 1
    with refused("invitation_revoked"):
        invitations.accept_as_new(token_for(GUEST), password=PASSWORD, organization_name="guest")
    assert not Person.objects.filter(email=GUEST).exists()


@pytest.mark.parametrize(
    ("role", "then", "state"),
    [
        (Role.OWNER, Role.ADMIN, "revoked"),
        (Role.ADMIN, Role.ADMIN, "pending"),
        (None, Role.ADMIN, "pending"),
        (Role.VIEWER, Role.DATA_SCIENTIST, "revoked"),
        (None, Role.DATA_SCIENTIST, "revoked"),
    ],
)
def test_who_steps_down_keeps_the_letters_they_could_write_now(
    cast: Cast, author: Actor, role: Role | None, then: Role, state: str
) -> None:
    invitation = letter(author, cast, role)
    organizations.set_role(cast.actor("olga"), place_of(author), then)
    invitation.refresh_from_db()
    assert invitation.state == state


@pytest.mark.parametrize("role", [None, Role.OWNER])
def test_a_letter_is_not_accepted_after_its_author_lost_the_right_in_any_way(
    cast: Cast, author: Actor, role: Role | None
) -> None:
    letter(author, cast, role)
    gina = people.sign_up(GUEST, PASSWORD)
    place_of(author).delete()  # past the service, as a race or the admin site could
    with refused("invitation_revoked"):
        invitations.accept(token_for(GUEST), person=gina, new_organization_name="guest")


def test_a_letter_of_somebody_locked_out_leads_nowhere(cast: Cast, author: Actor) -> None:
    letter(author, cast, Role.VIEWER)
    cast.rex.is_staff = True
    people.set_active(cast.rex, author.person, False)
    with refused("invitation_revoked"):
        invitations.find(token_for(GUEST))


def test_letters_of_others_stay(cast: Cast, author: Actor) -> None:
    letter(cast.actor("olga"), cast, Role.VIEWER)
    organizations.remove(cast.actor("olga"), place_of(author))
    assert invitations.find(token_for(GUEST))


def test_nobody_resends_above_their_own_role(cast: Cast) -> None:
    invitation = letter(cast.actor("olga"), cast, Role.OWNER)
    admin = Actor(cast.colleague(cast.acme, Role.ADMIN), cast.acme)
    with refused("role_too_high"):
        invitations.resend(admin, invitation)
    Invitation.objects.filter(pk=invitation.pk).update(state="expired")
    with refused("role_too_high"):
        invitations.resend(admin, invitation)
    assert Invitation.objects.get(pk=invitation.pk).state == "expired"


@pytest.mark.parametrize("role", [None, Role.VIEWER])
def test_who_resends_a_letter_is_its_author_from_then_on(cast: Cast, author: Actor, role: Role | None) -> None:
    invitation = letter(author, cast, role)
    invitations.resend(cast.actor("olga"), invitation)
    organizations.remove(cast.actor("olga"), place_of(author))
    accepted = invitations.accept_as_new(token_for(GUEST), password=PASSWORD, organization_name="guest")[1]
    assert accepted.invitation.invited_by == cast.olga
