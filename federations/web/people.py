"""One's colleagues: who they are, what each may do, invited, changed, gone; and the organization's name and owner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import permissions, roles, selectors
from federations.models import Membership, Organization, Role
from federations.services import invitations, organizations, second_factor
from federations.web.accounts_profile import confirmed
from federations.web.page import confirm, may, one_page, own_organization, page
from fedwire.errors import FedportalError

# What the tables of objects are called on the page of roles.
RELATIONS = {
    ("federation", "owner"): "In a federation that your organization owns",
    ("federation", "member"): "In a federation that your organization is a member of",
    ("federation", "trainer"): "In a federation whose owner lets members start runs",
    ("model", "owner"): "With a model of your organization",
    ("model", "member"): "With a model that is shared with you",
    ("run", "starter"): "With a run that your organization started",
    ("run", "owner"): "With a run in a federation that your organization owns",
    ("run", "member"): "With another run in one of your federations",
}
MOST_NAMES = 3


@page("GET", "POST")
def team(request: Any) -> HttpResponse:
    """The people; POST invites a colleague."""
    organization = own_organization(request)
    permissions.require(request.actor, "organization.view", organization)
    if request.method == "POST":
        return _invite(request, organization)
    manages, text = may(request, "organization.manage_people", organization), request.GET.get("text", "").strip()
    rows = one_page(request, selectors.people(organization, text))
    protected = second_factor.people_with_it([row.person_id for row in rows]) if manages else set()
    own, given = permissions.role_of(request.actor), _givable(request)
    sole_owner = own == Role.OWNER and selectors.owners(organization).count() == 1
    for row in rows:
        row.has_second_factor = row.person_id in protected
        # Whoever stands above one is not changed by one.
        row.changeable = manages and row.person != request.actor.person and row.role in given
    context = {
        "rows": rows,
        "text": text,
        "invitations": selectors.open_invitations(organization) if manages else [],
        "may_manage": manages,
        "may_hand_over": may(request, "organization.manage", organization),
        "roles": [(role.value, role.label, roles.ABOUT[role]) for role in Role if role in given],
        "own": own,
        "sole_owner": sole_owner,
        "links": request.session.pop("links", []),
        "query": f"text={text}&" if text else "",
    }
    return render(request, "federations/team.html", context)


@page("POST")
def role(request: Any, person: str) -> HttpResponse:
    """Give a colleague another role."""
    membership = selectors.find_membership(own_organization(request), person)
    wanted = _role(request)
    organizations.set_role(request.actor, membership, wanted)
    messages.success(request, f"{membership.person} is now {wanted.label.lower()}. It holds at once.")
    return redirect("/team")


@page("GET", "POST")
def dismiss(request: Any, person: str) -> HttpResponse:
    """Take a colleague out of the organization, or leave it oneself."""
    organization = own_organization(request)
    membership = selectors.find_membership(organization, person)
    leaving = membership.person == request.actor.person
    if request.method == "GET":
        if leaving:
            organizations.check_may_go(membership)
        else:
            permissions.require(request.actor, "organization.manage_people", organization)
        who, whose = ("You", "your") if leaving else (str(membership.person), "their")
        title = f"Leave {organization}?" if leaving else f"Remove {membership.person}?"
        consequence = (
            f"{who} will no longer see anything of {organization}, and {whose} keys for it end at once. Devices that "
            "were registered with them stay. To come back, an invitation is needed."
        )
        return confirm(request, title=title, consequence=consequence, button=title.split()[0], back="/team")
    organizations.remove(request.actor, membership)
    if leaving:
        messages.success(request, f"You have left {organization}.")
        return redirect("/")
    messages.success(request, f"{membership.person} is no longer in {organization}; their keys have ended.")
    return redirect("/team")


@page("GET", "POST")
def transfer(request: Any, person: str) -> HttpResponse:
    """Make a colleague the owner in one's own place."""
    organization = own_organization(request)
    membership = selectors.find_membership(organization, person)
    permissions.require(request.actor, "organization.manage", organization)
    return _transfer(request, organization, membership)


@confirmed
def _transfer(request: Any, organization: Organization, membership: Membership) -> HttpResponse:
    if request.method == "GET":
        title = f"Transfer {organization} to {membership.person}?"
        consequence = (
            f"{membership.person} becomes owner of {organization}, and you become admin, both at once. You will no "
            "longer set the policy, make models or start runs, and only an owner can undo this."
        )
        return confirm(request, title=title, consequence=consequence, button="Transfer the ownership", back="/team")
    organizations.transfer(request.actor, membership)
    messages.success(request, f"{membership.person} is now owner of {organization}, and you are admin.")
    return redirect("/team")


@page("GET", "POST")
def rename(request: Any) -> HttpResponse:
    """Give the organization another name."""
    organization = own_organization(request)
    permissions.require(request.actor, "organization.manage", organization)
    context: dict[str, Any] = {"organization": organization, "said": organization}
    if request.method == "POST":
        try:
            renamed = organizations.rename(request.actor, organization, request.POST.get("name", ""))
        except FedportalError as error:
            context |= {"error": error, "said": request.POST}
        else:
            messages.success(request, f"The organization is called {renamed} now.")
            return redirect("/team")
    status = context["error"].status if "error" in context else 200
    return render(request, "federations/team_name.html", context, status=status)


@page()
def who_can(request: Any) -> HttpResponse:
    """Who can do what: the tables of roles, and who of one's colleagues has which."""
    organization = own_organization(request)
    permissions.require(request.actor, "organization.view", organization)
    own = permissions.role_of(request.actor)
    lines = [(roles.WORDS[action], allowed) for action, allowed in roles.ORGANIZATION.items()]
    tables = [("In your organization", _table(lines, own))]
    for (noun, how), title in RELATIONS.items():
        tables.append((title, _table([(words, allowed) for words, _, allowed in roles.rows(noun, how)], own)))
    context = {
        "own": own,
        "columns": [(role.label, role == own) for role in Role],
        "tables": tables,
        "roles": [(role, role.label, roles.ABOUT[role], names) for role, names in _holders(organization).items()],
        "missing": [
            (roles.WORDS[action], permissions.who_may(action))
            for action, allowed in roles.ORGANIZATION.items()
            if own not in allowed
        ],
    }
    return render(request, "federations/team_roles.html", context)


def _invite(request: Any, organization: Organization) -> HttpResponse:
    wanted = _role(request)
    written = invitations.invite_colleague(
        request.actor, organization, email=request.POST.get("email", ""), role=wanted
    )
    if written.link_to_copy:
        request.session["links"] = [{"email": written.invitation.email, "link": written.link_to_copy}]
    to = written.invitation.email
    messages.success(request, f"A letter to {to} is on its way. Whoever accepts it is {wanted.label.lower()} here.")
    return redirect("/team")


def _role(request: Any) -> Role:
    wanted = request.POST.get("role", "")
    if wanted not in set(Role):
        raise FedportalError("field_invalid", field="role", reason="choose one of the roles.")
    return Role(wanted)


def _givable(request: Any) -> set[str]:
    """The roles that the reader may give: none above their own."""
    own = permissions.role_of(request.actor)
    return {role for role in Role if own is not None and roles.RANK[role] >= roles.RANK[own]}


def _holders(organization: Organization) -> dict[Role, str]:
    """Role → the names of those who have it, the first few."""
    found: dict[Role, list[str]] = {role: [] for role in Role}
    for membership in Membership.objects.filter(organization=organization).select_related("person").order_by("pk"):
        found[Role(membership.role)].append(str(membership.person))
    return {role: _listed(names) for role, names in found.items()}


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more if names else "nobody"


def _table(
    lines: Iterable[tuple[str, roles.Roles]], own: Role | None
) -> list[tuple[str, list[tuple[bool, bool, str]]]]:
    """Rows of words, and for each role whether it may, whether it is the reader's, and its name."""
    return [(words, [(role in allowed, role == own, role.label) for role in Role]) for words, allowed in lines]
