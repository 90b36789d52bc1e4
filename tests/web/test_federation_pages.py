"""The pages of a federation: its roster, its agreement, what happened, and what may not be undone."""

from __future__ import annotations

import html
from datetime import timedelta
from typing import Any

import pytest

from federations.models import Agreement, Federation, Invitation, Member, Organization, Policy
from federations.services import agreements, federations, invitations
from federations.services.agreements import Draft
from fedportal.common import clock
from tests.cast import Cast
from tests.web.test_pages import text_of

TEXT = "1. Purpose\nFinding <things> early."


def publish(cast: Cast, days: int = 0) -> Agreement:
    ends = clock.now() + timedelta(days=days) if days else None
    return agreements.publish(cast.actor("olga"), cast.federation, Draft("Study agreement", TEXT, ends))


def address(cast: Cast, more: str = "") -> str:
    return f"/federations/{cast.federation.public_id}{more}"


def state_of(cast: Cast, organization: Organization) -> str:
    return str(cast.federation.members.get(organization=organization).state)


def test_the_list_is_searched_and_filtered(cast: Cast) -> None:
    federations.found(cast.actor("olga"), name="second-circle")
    olga, vera = cast.browser("olga"), cast.browser("vera")
    assert "second-circle" in text_of(olga, "/federations")
    assert "healthcare-consortium" not in text_of(olga, "/federations?text=circle")
    assert "No federation like this" in text_of(olga, "/federations?state=invited")
    assert "healthcare-consortium" in text_of(vera, "/federations?state=invited")
    assert "No federation yet" in text_of(cast.browser("rex"), "/federations")


def test_the_list_says_which_agreement_waits(cast: Cast) -> None:
    publish(cast)
    assert "version 1 accepted" in text_of(cast.browser("olga"), "/federations")
    assert "version 1 waits" in text_of(cast.browser("mia"), "/federations")


def test_founding_takes_the_first_agreement_along(cast: Cast) -> None:
    said = {"name": "second", "title": "Agreement", "text": TEXT, "expires_on": "2999-12-31"}
    cast.browser("olga").post("/federations/new", {**said, "members_may_start_runs": "yes"})
    made = Federation.objects.get(name="second")
    agreement = agreements.current(made)
    assert made.members_may_start_runs
    assert agreement is not None
    assert f"{agreement.expires_at:%Y-%m-%d %H:%M}" == "2999-12-31 23:59"


@pytest.mark.parametrize(("field", "value"), [("expires_on", "soon"), ("expires_on", "2001-01-01"), ("text", "")])
def test_an_unusable_agreement_keeps_what_was_typed(cast: Cast, field: str, value: str) -> None:
    said = {"name": "second", "title": "Agreement", "text": TEXT, "expires_on": "", field: value}
    answer = cast.browser("olga").post("/federations/new", said)
    assert answer.status_code == 400
    assert 'value="second"' in answer.content.decode()
    assert f'id="{field}-error"' in answer.content.decode()
    assert not Federation.objects.filter(name="second").exists()


def test_the_roster_shows_devices_residency_and_who_accepted(cast: Cast) -> None:
    Policy.objects.create(organization=cast.metro, residency="EU")
    publish(cast)
    text = text_of(cast.browser("olga"), address(cast))
    assert "0 of 1 there" in text
    assert "EU" in text
    assert "not yet" in text
    assert "Suspend metro" in text


def test_an_invited_organization_reads_the_agreement_and_joins_by_accepting_it(cast: Cast) -> None:
    agreement = publish(cast, days=40)
    vera = cast.browser("vera")
    shown = vera.get(address(cast)).content.decode()
    assert "Finding &lt;things&gt; early." in shown
    assert "metro" not in shown  # who is only invited does not see the roster
    answer = vera.post(address(cast, "/join"), {})
    assert answer["Location"].endswith("#join")
    assert state_of(cast, cast.valley) == "invited"
    vera.post(address(cast, "/join"), {"accept_agreement": agreement.public_id})
    assert state_of(cast, cast.valley) == "active"
    assert agreements.to_accept(cast.federation, cast.valley) is None


def test_without_an_agreement_joining_is_one_button(cast: Cast) -> None:
    assert "accept_agreement" not in cast.browser("vera").get(address(cast)).content.decode()
    cast.browser("vera").post(address(cast, "/join"))
    assert state_of(cast, cast.valley) == "active"


def test_a_member_accepts_on_the_agreements_page_with_the_box_ticked(cast: Cast) -> None:
    agreement = publish(cast)
    mia, where = cast.browser("mia"), address(cast, f"/agreements/{agreement.public_id}/accept")
    assert "Your organization has not accepted this version" in text_of(mia, address(cast, "/agreements"))
    mia.post(where, {})
    assert agreements.to_accept(cast.federation, cast.metro) == agreement
    mia.post(where, {"accept_agreement": agreement.public_id})
    assert agreements.to_accept(cast.federation, cast.metro) is None
    assert "metro accepted it" in text_of(mia, address(cast, "/agreements"))


def test_older_versions_stay_readable_and_say_that_they_were_replaced(cast: Cast) -> None:
    first = publish(cast)
    cast.browser("olga").post(address(cast, "/agreements/new"), {"title": "Second", "text": "Other."})
    text = text_of(cast.browser("mia"), address(cast, f"/agreements/{first.public_id}"))
    assert "This version was replaced" in text
    assert "Finding &lt;things&gt; early." in text
    assert "Version 2" in text


def test_an_expired_agreement_says_so_wherever_it_is_shown(cast: Cast) -> None:
    publish(cast, days=1)
    with clock.shifted(timedelta(days=2)):
        for where in ("", "/agreements"):
            assert "expired" in text_of(cast.browser("mia"), address(cast, where))
        assert "You can join" in text_of(cast.browser("vera"), address(cast))


def test_settings_change_and_a_taken_name_is_said(cast: Cast) -> None:
    federations.found(cast.actor("olga"), name="taken")
    olga, where = cast.browser("olga"), address(cast, "/settings")
    assert olga.post(where, {"name": "taken"}).status_code == 409
    olga.post(where, {"name": "renamed", "description": "New.", "members_may_start_runs": "yes"})
    cast.federation.refresh_from_db()
    assert (cast.federation.name, cast.federation.description) == ("renamed", "New.")
    assert cast.federation.members_may_start_runs


def test_dissolving_needs_the_name_typed(cast: Cast) -> None:
    olga, where = cast.browser("olga"), address(cast, "/dissolve")
    assert "cannot be undone" in text_of(olga, where)
    assert olga.post(where, {"name": "healthcare"}).status_code == 400
    cast.federation.refresh_from_db()
    assert cast.federation.dissolved_at is None
    olga.post(where, {"name": "healthcare-consortium"})
    cast.federation.refresh_from_db()
    assert cast.federation.dissolved_at is not None
    assert "was dissolved" in text_of(olga, address(cast))


def test_closed_members_and_letters_are_kept_in_view(cast: Cast) -> None:
    federations.leave(cast.actor("mia"), cast.federation)
    federations.invite(cast.actor("olga"), cast.federation, emails=["gina@guest.example"])
    invitations.revoke(cast.actor("olga"), Invitation.objects.get(email="gina@guest.example"))
    text = text_of(cast.browser("olga"), address(cast))
    assert "Members that left, were removed or declined (1)" in text
    assert "gina@guest.example revoked" in text


def test_who_may_not_invite_reads_who_may(cast: Cast) -> None:
    text = text_of(cast.browser("otto"), address(cast))
    assert "Why can't I invite?" in text
    assert "An owner or an admin of acme may do this." in text


def test_a_link_to_copy_is_shown_once_where_no_mail_leaves(cast: Cast) -> None:
    olga = cast.browser("olga")
    shown = olga.post(address(cast, "/invite"), {"whom": "gina@guest.example"}, follow=True).content.decode()
    assert "/invitations/" in shown
    assert "New link to copy" in shown
    assert "shown this once" not in olga.get(address(cast)).content.decode()


def test_a_suspended_organization_is_told_in_the_list_and_can_leave(cast: Cast) -> None:
    federations.suspend(cast.actor("olga"), cast.federation, cast.metro)
    mia = cast.browser("mia")
    assert "acme suspended your organization in healthcare-consortium" in text_of(mia, "/federations")
    assert "No federation yet" in text_of(mia, "/federations")
    mia.post(address(cast, "/leave"))
    assert state_of(cast, cast.metro) == "left"


def test_a_suspended_organization_is_not_sent_to_agreements_that_it_may_not_read(cast: Cast) -> None:
    federations.suspend(cast.actor("olga"), cast.federation, cast.metro)
    publish(cast)
    home = text_of(cast.browser("mia"), "/")
    assert "agreement" not in home
    federations.reinstate(cast.actor("olga"), cast.federation, cast.metro)
    assert "study agreement that your organization has not accepted" in text_of(cast.browser("mia"), "/")


def test_activity_tells_what_happened_without_naming_people(cast: Cast) -> None:
    agreement = publish(cast)
    agreements.accept(cast.actor("mia"), agreement)
    federations.suspend(cast.actor("olga"), cast.federation, cast.metro)
    federations.invite(cast.actor("olga"), cast.federation, emails=["gina@guest.example"])
    text = text_of(cast.browser("otto"), address(cast, "/activity"))
    for said in (
        "acme founded the federation.",
        "acme invited metro and valley.",
        "metro joined.",
        "acme published version 1 of the study agreement.",
        "metro accepted version 1 of the study agreement.",
        "acme suspended metro.",
        "acme invited one person by letter.",
    ):
        assert said in text
    assert "gina" not in text
    assert "olga" not in text.lower()


@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize("page", ["", "/agreements", "/activity"])
def test_pages_ask_the_same_number_of_questions(
    cast: Cast, count: int, page: str, django_assert_max_num_queries: Any
) -> None:
    publish(cast)
    for number in range(count):
        organization = Organization.objects.create(name=f"clinic-{number}")
        Member.objects.create(federation=cast.federation, organization=organization, state="active")
    federations.invite(cast.actor("olga"), cast.federation, emails=[f"p{n}@x.example" for n in range(min(count, 15))])
    olga = cast.browser("olga")
    with django_assert_max_num_queries(40):
        assert olga.get(address(cast, page)).status_code == 200


def test_one_bad_entry_of_a_list_is_told_and_the_list_kept(cast: Cast) -> None:
    olga = cast.browser("olga")
    typed = f"{cast.rival.public_id} org_nope not-an-address owner@ good@clinic.example {cast.metro.public_id}"
    page = olga.post(address(cast, "/invite"), {"whom": typed}, follow=True).content.decode()
    assert f">{typed}</textarea>" in page
    for entry, why in (
        ("org_nope", "There is no organization with this id."),
        ("not-an-address", "It is neither an organization's id (org_…) nor an address (name@…)."),
        ("owner@", "It is not an email address."),
        (cast.metro.public_id, "metro is already a member or invited."),
    ):
        assert f"<strong>{entry}</strong>: {why}" in html.unescape(page)
    assert page.count("</strong>: ") == 4
    assert "Nobody was invited yet." in page
    assert not Member.objects.filter(organization=cast.rival).exists()
    assert not Invitation.objects.filter(email="good@clinic.example").exists()
    assert "Nobody was invited yet." not in olga.get(address(cast)).content.decode()


@pytest.mark.parametrize("typed", ["", " ".join(f"p{number}@x.example" for number in range(101))])
def test_a_list_of_nobody_or_too_many_is_kept_too(cast: Cast, typed: str) -> None:
    page = cast.browser("olga").post(address(cast, "/invite"), {"whom": typed}, follow=True).content.decode()
    assert "“Organization ids or email addresses” is not usable" in page
    assert f">{typed}</textarea>" in page


def test_who_has_joined_is_led_to_the_first_device_and_not_to_leaving(cast: Cast) -> None:
    vera = cast.browser("vera")
    page = vera.post(address(cast, "/join"), follow=True).content.decode()
    assert '<a class="button primary" href="/devices/new">Register a device</a>' in page
    assert "danger" not in page
    assert "Next, let your devices take part" not in text_of(cast.browser("mia"), address(cast))
