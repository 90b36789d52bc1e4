"""Letters with a link that is used once, expires and is bound to its address."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from federations import selectors
from federations.models import AuditEntry, Invitation, Letter, Member, Membership, Organization, Person, Role
from federations.permissions import Actor
from federations.services import federations, invitations, organizations, people
from fedportal.common import clock
from fedportal.common.transactions import unit
from tests.cast import PASSWORD, Cast
from tests.federations.helpers import recorded, refused, token_for

GUEST = "gina@guest.example"


@pytest.fixture
def token(cast: Cast) -> str:
    """The token in the letter that invites gina to the federation."""
    federations.invite(cast.actor("olga"), cast.federation, emails=["Gina@Guest.example "])
    return token_for(GUEST)


@pytest.fixture
def gina(cast: Cast) -> Person:
    return people.sign_up(GUEST, PASSWORD, "Gina", "guest")


def colleague_token(cast: Cast, role: Role = Role.DATA_SCIENTIST) -> str:
    invitations.invite_colleague(cast.actor("olga"), cast.acme, email=GUEST, role=role)
    return token_for(GUEST)


def test_only_the_hash_of_the_token_is_stored_and_it_has_256_bits(token: str) -> None:
    invitation = Invitation.objects.get(email=GUEST)
    assert invitation.token_hash == hashlib.sha256(token.encode()).hexdigest()
    assert len(token) == 43


def test_the_log_knows_the_address_only_as_a_commitment(token: str) -> None:
    assert not any(GUEST in str(entry.details) or token in str(entry.details) for entry in AuditEntry.objects.all())


def test_looking_changes_nothing(token: str) -> None:
    before = AuditEntry.objects.count()
    for _ in range(3):
        assert invitations.find(token).email == GUEST
    assert AuditEntry.objects.count() == before


def test_accepting_for_ones_own_organization(cast: Cast, token: str, gina: Person) -> None:
    own = Organization.objects.get(name="guest")
    with recorded("invitation.accepted"):
        accepted = invitations.accept(token, person=gina, organization=own)
    assert (accepted.organization, accepted.member.state) == (own, "active")
    assert Invitation.objects.get(email=GUEST).accepted_for == own
    with refused("invitation_used"):
        invitations.accept(token, person=gina, organization=own)


def test_accepting_founds_an_organization_on_the_way(cast: Cast, token: str) -> None:
    gina = people.sign_up(GUEST, PASSWORD)
    accepted = invitations.accept(token, person=gina, new_organization_name="guest clinic")
    assert accepted.organization.name == "guest clinic"
    assert Membership.objects.get(person=gina).role == Role.OWNER
    assert selectors.find_federation(Actor(gina, accepted.organization), cast.federation.public_id)


def test_signing_up_and_accepting_are_one(cast: Cast, token: str) -> None:
    with refused("name_taken"):
        invitations.accept_as_new(token, password=PASSWORD, organization_name="acme")
    assert not Person.objects.filter(email=GUEST).exists()
    person, accepted = invitations.accept_as_new(token, password=PASSWORD, name="Gina", organization_name="guest")
    assert (person.email, accepted.organization.name) == (GUEST, "guest")


def test_a_name_must_be_chosen_or_given(token: str, gina: Person) -> None:
    with refused("field_invalid", field="organization"):
        invitations.accept(token, person=gina)
    assert invitations.find(token)


@pytest.mark.parametrize("role", [role for role in Role if role not in (Role.OWNER, Role.ADMIN)])
def test_only_owners_and_admins_accept_for_an_organization(cast: Cast, token: str, gina: Person, role: Role) -> None:
    own = Organization.objects.get(name="guest")
    Membership.objects.filter(person=gina).update(role=role)
    with refused("forbidden"):
        invitations.accept(token, person=gina, organization=own)
    assert invitations.find(token)


def test_nobody_accepts_for_an_organization_they_are_not_in(cast: Cast, token: str, gina: Person) -> None:
    with refused("not_found"):
        invitations.accept(token, person=gina, organization=cast.rival)


def test_an_organization_that_is_in_already_is_told_so_and_the_letter_stays_good(cast: Cast) -> None:
    federations.invite(cast.actor("olga"), cast.federation, emails=["mia@metro.example"])
    token = token_for("mia@metro.example")
    with refused("already_member", name="metro"):
        invitations.accept(token, person=cast.mia, organization=cast.metro)
    assert invitations.find(token)


def test_a_letter_brings_back_who_had_left(cast: Cast) -> None:
    federations.leave(cast.actor("mia"), cast.federation)
    federations.invite(cast.actor("olga"), cast.federation, emails=["mia@metro.example"])
    accepted = invitations.accept(token_for("mia@metro.example"), person=cast.mia, organization=cast.metro)
    assert accepted.member.state == "active"


@pytest.mark.parametrize("who", ["rex", "olga"])
def test_another_address_is_refused(cast: Cast, token: str, who: str) -> None:
    with refused("invitation_wrong_address"):
        invitations.accept(token, person=getattr(cast, who), organization=cast.organization_of(who))
    with refused("invitation_wrong_address"):
        invitations.decline(token, person=getattr(cast, who))


@pytest.mark.parametrize(
    "look_alike", ["g\u0456na@guest.example", "\uff47ina@guest.example", "gina@gu\u0435st.example"]
)
def test_look_alike_addresses_are_nobodys(cast: Cast, token: str, look_alike: str) -> None:
    with refused("field_invalid", field="email"):
        people.sign_up(look_alike, PASSWORD)
    impostor = Person.objects.create_user(look_alike, PASSWORD)  # as if one had come in another way
    with refused("invitation_wrong_address"):
        invitations.accept(token, person=impostor, new_organization_name="impostors")


@pytest.mark.parametrize("spelling", ["GINA@GUEST.EXAMPLE", " Gina@guest.Example"])
def test_the_spelling_of_the_address_does_not_matter(token: str, spelling: str) -> None:
    person = people.sign_up(spelling, PASSWORD)
    assert invitations.accept(token, person=person, new_organization_name="guest").member


def test_the_link_ends_to_the_second(token: str, gina: Person) -> None:
    own = Organization.objects.get(name="guest")
    expires = Invitation.objects.get(email=GUEST).expires_at
    assert abs(expires - clock.now() - timedelta(hours=72)) < timedelta(minutes=1)
    with clock.frozen(expires + timedelta(seconds=1)), refused("invitation_expired"):
        invitations.accept(token, person=gina, organization=own)
    with clock.frozen(expires), refused("invitation_expired"):
        invitations.accept(token, person=gina, organization=own)
    with clock.frozen(expires - timedelta(seconds=1)):
        assert invitations.accept(token, person=gina, organization=own).member


def test_the_sweeper_marks_what_expired(token: str) -> None:
    assert invitations.sweep() == 0
    with clock.shifted(timedelta(hours=73)):
        assert invitations.sweep() == 1
        with refused("invitation_expired"):
            invitations.find(token)


def test_a_revoked_link_ends(cast: Cast, token: str, gina: Person) -> None:
    invitation = Invitation.objects.get(email=GUEST)
    with recorded("invitation.revoked", invitation.public_id):
        invitations.revoke(cast.actor("olga"), invitation)
    with refused("invitation_revoked"):
        invitations.accept(token, person=gina, organization=Organization.objects.get(name="guest"))
    with refused("wrong_state"):
        invitations.revoke(cast.actor("olga"), invitation)
    with refused("wrong_state"):
        invitations.resend(cast.actor("olga"), invitation)


def test_declining_ends_the_link_and_the_address_can_be_invited_anew(cast: Cast, token: str) -> None:
    with recorded("invitation.declined"):
        invitations.decline(token)
    with refused("invitation_used"):
        invitations.find(token)
    assert federations.invite(cast.actor("olga"), cast.federation, emails=[GUEST]).letters


def test_resending_makes_a_new_link_and_ends_the_old_one(cast: Cast, token: str, gina: Person) -> None:
    invitation = Invitation.objects.get(email=GUEST)
    with recorded("invitation.resent", invitation.public_id):
        written = invitations.resend(cast.actor("olga"), invitation)
    fresh = written.link.rpartition("/")[2]
    assert fresh == token_for(GUEST) != token
    with refused("invitation_invalid"):
        invitations.find(token)
    assert invitations.accept(fresh, person=gina, organization=Organization.objects.get(name="guest")).member


def test_resending_revives_what_expired(cast: Cast, token: str) -> None:
    invitation = Invitation.objects.get(email=GUEST)
    with clock.shifted(timedelta(hours=80)):
        invitations.sweep()
        invitations.resend(cast.actor("olga"), invitation)
        assert invitations.find(token_for(GUEST)).state == "pending"


def test_an_address_has_one_open_letter(cast: Cast, token: str) -> None:
    with refused("already_member", name=GUEST):
        federations.invite(cast.actor("olga"), cast.federation, emails=[GUEST])
    with clock.shifted(timedelta(hours=73)):
        assert federations.invite(cast.actor("olga"), cast.federation, emails=[GUEST]).letters
    assert Invitation.objects.filter(email=GUEST, state="pending").count() == 1


def test_no_letter_is_revived_beside_a_newer_one(cast: Cast, token: str) -> None:
    old = Invitation.objects.get(email=GUEST)
    with clock.shifted(timedelta(hours=73)):
        federations.invite(cast.actor("olga"), cast.federation, emails=[GUEST])
        with refused("already_member", name=GUEST):
            invitations.resend(cast.actor("olga"), old)
    with clock.shifted(timedelta(hours=150)):  # the newer one is over too, whether or not anybody noted it
        invitations.resend(cast.actor("olga"), old)
        assert Invitation.objects.get(email=GUEST, state="pending") == old


def test_no_letter_to_a_colleague_is_revived_beside_a_newer_one(cast: Cast) -> None:
    colleague_token(cast)
    old = Invitation.objects.get(email=GUEST)
    with clock.shifted(timedelta(hours=73)):
        colleague_token(cast, Role.VIEWER)
        with refused("already_member", name=GUEST):
            invitations.resend(cast.actor("olga"), old)


def test_a_letter_to_somebody_who_came_in_meanwhile_is_not_revived(cast: Cast) -> None:
    colleague_token(cast)
    gina = people.sign_up(GUEST, PASSWORD)
    with unit():
        organizations.enter(cast.acme, gina, Role.VIEWER)
    with refused("already_member", name=GUEST):
        invitations.resend(cast.actor("olga"), Invitation.objects.get(email=GUEST))


@pytest.mark.parametrize("kind", ["federation", "organization"])
def test_the_database_keeps_one_open_letter_of_a_kind_for_an_address(cast: Cast, kind: str) -> None:
    federations.invite(cast.actor("olga"), cast.federation, emails=[GUEST])
    colleague_token(cast)
    twin = Invitation.objects.get(email=GUEST, kind=kind)
    twin.pk, twin.public_id, twin.token_hash = None, "inv_twin", "0" * 64
    with pytest.raises(IntegrityError), transaction.atomic():
        twin.save(force_insert=True)
    twin.state = "expired"
    twin.save(force_insert=True)


@pytest.mark.parametrize("who", ["otto", "mia", "vera"])
def test_only_who_may_invite_resends_and_revokes(cast: Cast, token: str, who: str) -> None:
    invitation = Invitation.objects.get(email=GUEST)
    for act in (invitations.resend, invitations.revoke):
        with refused("forbidden"):
            act(cast.actor(who), invitation)
    with refused("not_found"):
        invitations.revoke(cast.actor("rex"), invitation)


def test_a_letter_of_a_dissolved_federation_or_a_suspended_organization_leads_nowhere(cast: Cast, token: str) -> None:
    cast.rex.is_staff = True
    organizations.suspend(cast.rex, cast.acme)
    with refused("invitation_revoked"):
        invitations.find(token)
    organizations.reinstate(cast.rex, cast.acme)
    federations.dissolve(cast.actor("olga"), cast.federation)
    with refused("invitation_revoked"):
        invitations.find(token)


@pytest.mark.parametrize("token", ["", "x", "a" * 43, "a" * 5000, "\x00", "ä"])
def test_random_tokens_hit_nothing(cast: Cast, token: str) -> None:
    with refused("invitation_invalid"):
        invitations.find(token)


def test_guessing_engages_the_limiter(cast: Cast, token: str) -> None:
    for number in range(20):
        with refused("invitation_invalid"):
            invitations.find(f"{number:043}", ip="192.0.2.1")
    with refused("too_many_tries"):
        invitations.find(token, ip="192.0.2.1")
    assert invitations.find(token, ip="192.0.2.2")


def test_a_colleague_comes_in_with_the_role_of_the_letter(cast: Cast) -> None:
    token = colleague_token(cast)
    person, accepted = invitations.accept_as_new(token, password=PASSWORD, name="Gina")
    membership = Membership.objects.get(person=person)
    assert (membership.organization, membership.role, accepted.member) == (cast.acme, "data_scientist", None)
    assert [group.name for group in person.groups.all()] == [f"{cast.acme.public_id}:data_scientist"]


def test_inviting_a_colleague_is_recorded_once(cast: Cast) -> None:
    with recorded("person.invited"):
        colleague_token(cast)
    with refused("already_member"):
        colleague_token(cast)
    with refused("already_member"):
        invitations.invite_colleague(cast.actor("olga"), cast.acme, email="otto@acme.example", role=Role.VIEWER)


def test_nobody_invites_above_their_own_role(cast: Cast) -> None:
    admin = Actor(cast.colleague(cast.acme, Role.ADMIN), cast.acme)
    with refused("role_too_high"):
        invitations.invite_colleague(admin, cast.acme, email=GUEST, role=Role.OWNER)
    assert invitations.invite_colleague(admin, cast.acme, email=GUEST, role=Role.ADMIN)


def test_a_colleague_who_is_in_already_is_told_so(cast: Cast) -> None:
    token = colleague_token(cast)
    gina = people.sign_up(GUEST, PASSWORD)
    with unit():
        organizations.enter(cast.acme, gina, Role.VIEWER)
    with refused("already_member"):
        invitations.accept(token, person=gina)
    assert Membership.objects.get(person=gina).role == Role.VIEWER


def test_the_letter_says_who_invites_where_to_and_until_when(token: str) -> None:
    letter = Letter.objects.filter(to=GUEST).latest("pk")
    assert letter.subject == "acme invites you to the federation healthcare-consortium"
    for part in ("Olga of acme", GUEST, "72 hours", f"/invitations/{token}"):
        assert part in letter.text
    assert f'href="http://127.0.0.1:8000/invitations/{token}"' in letter.html


def test_names_are_escaped_in_html_and_bare_in_text(cast: Cast) -> None:
    Person.objects.filter(pk=cast.olga.pk).update(name="<b>A & B</b>")
    people.request_reset("olga@acme.example", "192.0.2.1")
    letter = Letter.objects.filter(to="olga@acme.example").latest("pk")
    assert "<b>A & B</b>" in letter.text
    assert "<b>A" not in letter.html


def test_members_wait_for_answers_where_they_can_be_seen(cast: Cast) -> None:
    assert [member.federation for member in selectors.waiting_for(cast.valley)] == [cast.federation]
    assert Member.objects.filter(organization=cast.valley, state="invited").exists()


def test_a_letter_to_a_stranger_carries_no_text_of_its_sender(cast: Cast) -> None:
    Organization.objects.filter(pk=cast.acme.pk).update(name="evil.example")
    Person.objects.filter(pk=cast.olga.pk).update(name="Claim at https://evil.example")
    federations.change(cast.actor("olga"), cast.federation, description="Click www.evil.example\nnow")
    federations.invite(cast.actor("olga"), cast.federation, emails=[GUEST], org_ids=[cast.rival.public_id])
    invitations.invite_colleague(cast.actor("olga"), cast.acme, email=GUEST, role=Role.VIEWER)
    written = Letter.objects.order_by("-pk")[:3]
    assert {letter.to for letter in written} == {GUEST, "rex@rival.example"}
    for letter in written:
        assert "evil" in letter.text
        assert not any("evil.example" in part or "www" in part for part in (letter.subject, letter.text, letter.html))


def test_who_has_had_ten_letters_today_gets_no_more_and_nothing_is_half_done(cast: Cast) -> None:
    invitation = invitations.invite_colleague(cast.actor("olga"), cast.acme, email=GUEST, role=Role.VIEWER).invitation
    for _ in range(9):
        invitations.resend(cast.actor("olga"), invitation)
    before = Invitation.objects.get(pk=invitation.pk).token_hash
    with refused("too_many_letters"):
        invitations.resend(cast.actor("olga"), invitation)
    assert Invitation.objects.get(pk=invitation.pk).token_hash == before
    with refused("too_many_letters"):
        federations.invite(cast.actor("olga"), cast.federation, emails=["else@guest.example", GUEST])
    assert not Invitation.objects.filter(federation=cast.federation, email__endswith="guest.example").exists()
