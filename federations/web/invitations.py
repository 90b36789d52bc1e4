"""The page behind a letter's link: looking shows, a button accepts."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import selectors
from federations.authentication import choose_organization
from federations.models import Invitation, Role
from federations.services import invitations, throttle
from federations.web.accounts import enter
from federations.web.page import page
from fedwire.errors import FedportalError

MAY_ANSWER = (Role.OWNER, Role.ADMIN)


@page("GET", "POST", public=True)
def invitation(request: Any, token: str) -> HttpResponse:
    """Who invites whom to what; POST with `answer` accepts or declines."""
    try:
        found = invitations.find(token, throttle.address_of(request))
        response = _answer(request, token, found) if request.method == "POST" else _show(request, found)
    except FedportalError as error:
        response = _refused(request, error)
    response["Referrer-Policy"] = "no-referrer"
    return response


def _show(request: Any, found: Invitation, error: FedportalError | None = None) -> HttpResponse:
    actor = getattr(request, "actor", None)
    own = []
    if actor is not None:
        if actor.person.email != found.email:
            raise FedportalError("invitation_wrong_address")
        own = [m.organization for m in selectors.memberships_of(actor) if m.role in MAY_ANSWER]
    context = {
        "invitation": found,
        "organizations": own,
        "role": Role(found.role).label if found.role else "",
        "said": request.POST,
        "error": error,
    }
    return render(request, "federations/invitation.html", context, status=error.status if error else 200)


def _answer(request: Any, token: str, found: Invitation) -> HttpResponse:
    actor = getattr(request, "actor", None)
    if request.POST.get("answer") == "decline":
        invitations.decline(token, person=actor.person if actor else None)
        messages.success(request, "The invitation is declined. Whoever invited you sees it.")
        return redirect("/" if actor else "/sign-in")
    try:
        accepted = _accept(request, token, actor)
    except FedportalError as error:
        if error.code.startswith("invitation_"):
            raise
        return _show(request, found, error)
    choose_organization(request.session, accepted.organization)
    place = accepted.member.federation.name if accepted.member else accepted.organization.name
    messages.success(request, f"Welcome to {place}.")
    return redirect(f"/federations/{accepted.member.federation.public_id}" if accepted.member else "/")


def _accept(request: Any, token: str, actor: Any) -> invitations.Accepted:
    new_name = request.POST.get("organization_name", "").strip()
    if actor is None:
        person, accepted = invitations.accept_as_new(
            token,
            password=request.POST.get("new_password", ""),
            name=request.POST.get("name", "").strip(),
            organization_name=new_name,
            ip=throttle.address_of(request),
        )
        enter(request, person)
        return accepted
    chosen = request.POST.get("organization", "")
    own = {m.organization.public_id: m.organization for m in selectors.memberships_of(actor)}
    return invitations.accept(
        token,
        person=actor.person,
        organization=own.get(chosen),
        new_organization_name="" if own.get(chosen) else new_name,
    )


def _refused(request: Any, error: FedportalError) -> HttpResponse:
    context = {"heading": "This invitation cannot be used", "message": error.message, "next_step": error.next_step}
    return render(request, "refused.html", context, status=error.status)
