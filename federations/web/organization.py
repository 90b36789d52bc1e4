"""One's own organization: its devices, people, keys and log."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import permissions, selectors
from federations.models import ROLE_CHOICES, Role
from federations.services import invitations, organizations
from federations.web.page import confirm, may, one_page, own_organization, page
from fedwire.errors import FedportalError


@page("GET", "POST")
def team(request: Any) -> HttpResponse:
    """The people; POST invites a colleague."""
    organization = own_organization(request)
    if request.method == "POST":
        role = request.POST.get("role", "")
        if role not in set(Role):
            raise FedportalError("field_invalid", field="role", reason="choose one of the roles.")
        written = invitations.invite_colleague(
            request.actor, organization, email=request.POST.get("email", ""), role=Role(role)
        )
        if written.link_to_copy:
            request.session["links"] = [{"email": written.invitation.email, "link": written.link_to_copy}]
        messages.success(request, f"A letter to {written.invitation.email} is on its way.")
        return redirect("/team")
    manages = may(request, "organization.manage_people", organization)
    context = {
        "rows": one_page(request, selectors.people(organization)),
        "invitations": selectors.open_invitations(organization) if manages else [],
        "may_manage": manages,
        "roles": ROLE_CHOICES,
        "links": request.session.pop("links", []),
    }
    return render(request, "federations/team.html", context)


@page("POST")
def role(request: Any, person: str) -> HttpResponse:
    """Give a colleague another role."""
    membership = selectors.find_membership(own_organization(request), person)
    wanted = request.POST.get("role", "")
    if wanted not in set(Role):
        raise FedportalError("field_invalid", field="role", reason="choose one of the roles.")
    organizations.set_role(request.actor, membership, Role(wanted))
    messages.success(request, f"{membership.person} is now {Role(wanted).label.lower()}.")
    return redirect("/team")


@page("GET", "POST")
def dismiss(request: Any, person: str) -> HttpResponse:
    """Take a colleague out of the organization."""
    membership = selectors.find_membership(own_organization(request), person)
    if request.method == "GET":
        consequence = "They no longer see anything of this organization, and their keys end at once."
        title = f"Remove {membership.person}?"
        return confirm(request, title=title, consequence=consequence, button="Remove", back="/team")
    organizations.remove(request.actor, membership)
    messages.success(request, f"{membership.person} is no longer in the organization.")
    return redirect("/team" if membership.person != request.actor.person else "/")


@page()
def audit(request: Any) -> HttpResponse:
    """The organization's log, newest first."""
    organization = own_organization(request)
    permissions.require(request.actor, "organization.view_audit", organization)
    return render(
        request, "federations/audit.html", {"rows": one_page(request, selectors.audit_entries(organization), 50)}
    )
