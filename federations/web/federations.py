"""Federations: the list, founding, the roster, and what one does with the organizations in it."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import permissions, selectors
from federations.models import Federation
from federations.services import federations, invitations
from federations.web.page import confirm, may, one_page, own_organization, page
from fedwire.errors import FedportalError
from fedwire.states import MemberState

ON_MEMBERS = {
    "suspend": (federations.suspend, "Suspend {name}?", "Its devices stop taking part until you reinstate it."),
    "reinstate": (federations.reinstate, "Reinstate {name}?", "Its devices take part again."),
    "remove": (
        federations.remove,
        "Remove {name}?",
        "It no longer sees the federation's models and runs. Coming back needs a new invitation.",
    ),
}


@page()
def index(request: Any) -> HttpResponse:
    """The federations one is in or invited to."""
    rows = one_page(request, selectors.federations(request.actor).order_by("name"))
    found_one = may(request, "organization.found_federation", request.actor.organization)
    return render(request, "federations/list.html", {"rows": rows, "may_found": found_one})


@page("GET", "POST")
def new(request: Any) -> HttpResponse:
    """Found a federation."""
    permissions.require(request.actor, "organization.found_federation", own_organization(request))
    if request.method == "POST":
        said = {name: request.POST.get(name, "").strip() for name in ("name", "description")}
        try:
            made = federations.found(request.actor, **said)
        except FedportalError as error:
            return render(request, "federations/new.html", {**said, "error": error}, status=error.status)
        messages.success(request, f"{made.name} is founded. Invite the others.")
        return redirect(_address(made))
    return render(request, "federations/new.html")


@page()
def one(request: Any, federation: str) -> HttpResponse:
    """The roster, and what one may do here."""
    found = selectors.find_federation(request.actor, federation)
    selectors.annotate_own(request.actor, found)
    sees_roster = may(request, "federation.view_roster", found)
    own = request.actor.organization
    context = {
        "federation": found,
        "places": selectors.roster(found, letters=may(request, "federation.invite", found)) if sees_roster else [],
        "sees_roster": sees_roster,
        "may_invite": may(request, "federation.invite", found),
        "may_manage": may(request, "federation.manage", found),
        "may_answer": may(request, "organization.answer_invitation", own),
        "is_owner": own is not None and found.organization_id == own.pk,
        "invited": found.own_state == MemberState.INVITED,
        "links": request.session.pop("links", []),
    }
    return render(request, "federations/one.html", context)


@page("POST")
def invite(request: Any, federation: str) -> HttpResponse:
    """Invite an organization by its id, or a person by address: whichever was typed, several at once."""
    found = selectors.find_federation(request.actor, federation)
    typed = [part for part in re.split(r"[\s,;]+", request.POST.get("whom", "")) if part]
    if not typed:
        raise FedportalError("field_invalid", field="whom", reason="name an organization's id or an address.")
    addresses = [part for part in typed if "@" in part]
    invited = federations.invite(
        request.actor, found, org_ids=[part for part in typed if "@" not in part], emails=addresses
    )
    request.session["links"] = [
        {"email": w.invitation.email, "link": w.link_to_copy} for w in invited.letters if w.link_to_copy
    ]
    messages.success(request, f"Invited: {', '.join(typed)}.")
    return redirect(_address(found))


@page("POST")
def resend(request: Any, invitation: str) -> HttpResponse:
    """A new letter with a new link."""
    written = invitations.resend(request.actor, selectors.find_invitation(request.actor, invitation))
    if written.link_to_copy:
        request.session["links"] = [{"email": written.invitation.email, "link": written.link_to_copy}]
    messages.success(request, f"A new letter to {written.invitation.email} is on its way; the old link ended.")
    return redirect(_back(written.invitation))


@page("GET", "POST")
def revoke(request: Any, invitation: str) -> HttpResponse:
    """Take an invitation back."""
    found = selectors.find_invitation(request.actor, invitation)
    if request.method == "GET":
        title = f"Take back the invitation to {found.email}?"
        return confirm(
            request, title=title, consequence="The link in the letter ends.", button="Take it back", back=_back(found)
        )
    invitations.revoke(request.actor, found)
    messages.success(request, f"The invitation to {found.email} is taken back.")
    return redirect(_back(found))


@page("POST")
def join(request: Any, federation: str) -> HttpResponse:
    """Accept for one's organization."""
    found = selectors.find_own_place(request.actor, federation)
    federations.join(request.actor, found)
    messages.success(request, f"Your organization is now a member of {found.name}.")
    return redirect(_address(found))


@page("POST")
def decline(request: Any, federation: str) -> HttpResponse:
    """Say no for one's organization."""
    found = selectors.find_own_place(request.actor, federation)
    federations.decline(request.actor, found)
    messages.success(request, f"The invitation to {found.name} is declined.")
    return redirect("/federations")


@page("GET", "POST")
def leave(request: Any, federation: str) -> HttpResponse:
    """Go."""
    found = selectors.find_own_place(request.actor, federation)
    if request.method == "GET":
        consequence = "Your devices stop taking part and you no longer see its models. Coming back needs an invitation."
        return confirm(
            request, title=f"Leave {found.name}?", consequence=consequence, button="Leave", back=_address(found)
        )
    federations.leave(request.actor, found)
    messages.success(request, f"Your organization left {found.name}.")
    return redirect("/federations")


@page("GET", "POST")
def member(request: Any, federation: str, org: str, act: str) -> HttpResponse:
    """Suspend, reinstate or remove a member."""
    found = selectors.find_federation(request.actor, federation)
    permissions.require(request.actor, "federation.manage", found)
    organization = selectors.find_member_organization(found, org)
    if act not in ON_MEMBERS:
        raise FedportalError("not_found", what="page")
    service, title, consequence = ON_MEMBERS[act]
    if request.method == "GET":
        return confirm(
            request,
            title=title.format(name=organization.name),
            consequence=consequence,
            button=act.capitalize(),
            back=_address(found),
        )
    service(request.actor, found, organization)
    messages.success(request, f"{organization.name}: done.")
    return redirect(_address(found))


def _address(federation: Federation) -> str:
    return f"/federations/{federation.public_id}"


def _back(invitation: Any) -> str:
    return _address(invitation.federation) if invitation.federation else "/team"
