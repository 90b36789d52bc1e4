"""The page behind a letter's link: looking shows, a button accepts.

Whoever holds the link reads who invites to what, and the study agreement. With an account, without one, or signed in
as somebody else, each is told what to do next; a link that cannot be used says whom to ask.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import logout
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import roles, selectors
from federations.authentication import choose_organization
from federations.models import Agreement, Invitation, Role
from federations.services import agreements, invitations, people, throttle
from federations.web.accounts import enter
from federations.web.federation_parts import address_of
from federations.web.page import hide_address, page
from fedwire.errors import FedportalError

# Errors of the service that are about the name of a new organization.
ABOUT_THE_NAME = ("invalid_name", "name_taken", "reserved_name")
MAY_ANSWER = (Role.OWNER, Role.ADMIN)


@page("GET", "POST", public=True)
def invitation(request: Any, token: str) -> HttpResponse:
    """Who invites whom to what; POST with `answer`: accept, decline, or sign out to come back as somebody else."""
    try:
        found = invitations.find(token, throttle.address_of(request))
        response = _answer(request, token, found) if request.method == "POST" else _show(request, found)
    except FedportalError as error:
        response = _refused(request, token, error)
    return hide_address(response)


def _show(request: Any, found: Invitation, error: FedportalError | None = None) -> HttpResponse:
    actor = getattr(request, "actor", None)
    if actor is not None and actor.person.email != found.email:
        raise FedportalError("invitation_wrong_address")
    federation, own = found.federation, []
    if actor is not None and federation is not None:
        own = [m.organization for m in selectors.memberships_of(actor) if m.role in MAY_ANSWER]
    inside = selectors.inside(federation, own) if federation else set()
    agreement = agreements.current(federation) if federation else None
    context = {
        "invitation": found,
        "free": [organization for organization in own if organization.pk not in inside],
        "inside": [organization for organization in own if organization.pk in inside],
        "role": Role(found.role).label if found.role else "",
        "may_do": _may_do(found.role),
        "agreement": agreement,
        "expired": agreement is not None and agreements.has_expired(agreement),
        "has_account": actor is None and people.has_account(found.email),
        "said": request.POST,
        "named": not (actor is not None and own and any(organization.pk not in inside for organization in own)),
        "error": _at_its_field(error) if error else None,
    }
    return render(request, "federations/invitation.html", context, status=error.status if error else 200)


def _at_its_field(error: FedportalError) -> FedportalError:
    """The error with the form's field: what is wrong with a name or a choice is told beside the organization's name."""
    field = error.context.get("field")
    if error.code in ABOUT_THE_NAME or field == "organization":
        reason = error.context.get("reason") or f"{error.message} {error.next_step}"
        error.context |= {"field": "organization_name", "reason": reason}
    return error


def _answer(request: Any, token: str, found: Invitation) -> HttpResponse:
    actor, answer = getattr(request, "actor", None), request.POST.get("answer")
    if answer == "sign-out":
        logout(request)
        messages.info(request, "You are signed out. Go on as the person who was invited.")
        return redirect(request.path)
    if answer == "decline":
        invitations.decline(token, person=actor.person if actor else None)
        messages.success(request, f"The invitation is declined, and {found.organization.name} is told.")
        return redirect("/" if actor else "/sign-in")
    try:
        accepted = _accept(request, token, found, actor)
    except FedportalError as error:
        if error.code.startswith("invitation_"):
            raise
        return _show(request, found, error)
    choose_organization(request.session, accepted.organization)
    if accepted.member is None:
        messages.success(request, f"Welcome to {accepted.organization.name}.")
        return redirect("/")
    federation = accepted.member.federation
    messages.success(
        request,
        f"Welcome to {federation.name}: {accepted.organization.name} is a member. Next, let its devices take part.",
    )
    return redirect(address_of(federation))


def _accept(request: Any, token: str, found: Invitation, actor: Any) -> invitations.Accepted:
    new_name = request.POST.get("organization_name", "").strip()
    agreed = _agreed(request, found)
    if actor is None:
        person, accepted = invitations.accept_as_new(
            token,
            password=request.POST.get("new_password", ""),
            name=request.POST.get("name", "").strip(),
            organization_name=new_name,
            accept_agreement=agreed,
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
        accept_agreement=agreed,
    )


def _agreed(request: Any, found: Invitation) -> str:
    """The id of the study agreement that was ticked. Raises `field_invalid` when there is one and it was not."""
    wanted: Agreement | None = agreements.to_accept(found.federation, None) if found.federation else None
    said = str(request.POST.get("accept_agreement", ""))
    if wanted is not None and not said:
        reason = "read the study agreement and tick that you accept it."
        raise FedportalError("field_invalid", field="accept_agreement", reason=reason)
    return said if wanted is not None else ""


def _may_do(role: str) -> list[str]:
    """What a colleague may do in that role, in the words of the table of rights."""
    return [roles.WORDS[action] for action, allowed in roles.ORGANIZATION.items() if role in allowed]


def _refused(request: Any, token: str, error: FedportalError) -> HttpResponse:
    actor = getattr(request, "actor", None)
    if error.code == "invitation_wrong_address" and actor is not None:
        found = {"invitation": invitations.find(token)}
        return render(request, "federations/invitation_wrong.html", found, status=error.status)
    used = invitations.used_by(token, actor.person) if actor is not None else None
    if error.code == "invitation_used" and used is not None:
        messages.info(request, "You have accepted this invitation already.")
        return redirect(address_of(used.federation) if used.federation else "/")
    context = {"heading": "This invitation cannot be used", "message": error.message, "next_step": error.next_step}
    return render(request, "refused.html", context, status=error.status)
