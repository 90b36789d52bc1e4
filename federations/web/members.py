"""What one does with the organizations in a federation: invite, join, leave, suspend, remove."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from federations import permissions, selectors
from federations.models import Federation
from federations.services import agreements, federations, invitations
from federations.web import labels
from federations.web.federation_parts import address_of
from federations.web.page import PAGES, confirm, page
from fedwire.errors import FedportalError

# Of what was typed into the form of invitations so much is kept for another try.
MOST_TYPED = 10_000
# act → service, question, what will happen, what happened
ON_MEMBERS = {
    "suspend": (
        federations.suspend,
        "Suspend {name}?",
        "Its devices stop taking part, also in the round that is under way, and it sees no models and runs until you "
        "reinstate it. It is told.",
        "{name} is suspended and was told. Reinstate it here when it may go on.",
    ),
    "reinstate": (
        federations.reinstate,
        "Reinstate {name}?",
        "Its devices take part again from the next round, and it sees models and runs. It is told.",
        "{name} is an active member again and was told.",
    ),
    "remove": (
        federations.remove,
        "Remove {name}?",
        "It no longer sees the federation's models and runs, and its devices stop taking part. What was learned from "
        "them stays in the models. Coming back needs a new invitation. It is told.",
        "{name} is removed and was told. A new invitation brings it back.",
    ),
}


@page("POST")
def invite(request: Any, federation: str) -> HttpResponse:
    """Invite an organization by its id, or a person by address: whichever was typed, several at once."""
    found = selectors.find_federation(request.actor, federation)
    whom = request.POST.get("whom", "")
    typed = list(dict.fromkeys(part for part in re.split(r"[\s,;]+", whom) if part))
    try:
        if not typed:
            raise FedportalError("field_invalid", field="whom", reason="name an organization's id or an address.")
        addresses = [part for part in typed if "@" in part]
        ids = [part for part in typed if "@" not in part]
        invited = federations.invite(request.actor, found, org_ids=ids, emails=addresses)
    except FedportalError as error:
        if error.code in PAGES and not isinstance(error, federations.Uninvited):
            raise
        return _invite_again(request, found, whom, error)
    _keep_links(request, invited.letters)
    names = [member.organization.name for member in invited.members] + [w.invitation.email for w in invited.letters]
    messages.success(request, f"Invited: {', '.join(names)}. Each was sent a letter and stands below until it answers.")
    return redirect(address_of(found))


@page("POST")
def resend(request: Any, invitation: str) -> HttpResponse:
    """A new letter with a new link."""
    written = invitations.resend(request.actor, selectors.find_invitation(request.actor, invitation))
    _keep_links(request, [written])
    messages.success(request, f"A new letter to {written.invitation.email} is on its way; the old link ended.")
    return redirect(_back(written.invitation))


@page("GET", "POST")
def revoke(request: Any, invitation: str) -> HttpResponse:
    """Take an invitation back."""
    found = selectors.find_invitation(request.actor, invitation)
    if request.method == "GET":
        consequence = "The link in the letter ends at once. You can invite the address again."
        title = f"Take back the invitation to {found.email}?"
        return confirm(request, title=title, consequence=consequence, button="Take it back", back=_back(found))
    invitations.revoke(request.actor, found)
    messages.success(request, f"The invitation to {found.email} is taken back.")
    return redirect(_back(found))


@page("POST")
def join(request: Any, federation: str) -> HttpResponse:
    """Accept for one's organization, and with it the study agreement, whose text stands on the federation's page."""
    found = selectors.find_own_place(request.actor, federation)
    accepted = request.POST.get("accept_agreement", "")
    own = request.actor.organization
    may_join = own is not None and permissions.can(request.actor, "organization.answer_invitation", own)
    if may_join and not accepted and agreements.to_accept(found, own):
        messages.warning(request, "Read the study agreement first; accepting it is part of joining.")
        return redirect(address_of(found) + "#join")
    federations.join(request.actor, found, accept_agreement=accepted)
    messages.success(request, f"Your organization is now a member of {found.name}. Next, let its devices take part.")
    return redirect(address_of(found))


@page("POST")
def decline(request: Any, federation: str) -> HttpResponse:
    """Say no for one's organization."""
    found = selectors.find_own_place(request.actor, federation)
    federations.decline(request.actor, found)
    messages.success(request, f"The invitation to {found.name} is declined, and {found.organization.name} was told.")
    return redirect("/federations")


@page("GET", "POST")
def leave(request: Any, federation: str) -> HttpResponse:
    """Go."""
    found = selectors.find_own_place(request.actor, federation)
    if request.method == "GET":
        consequence = (
            "Your devices stop taking part and you no longer see its models and runs. What was learned from your "
            "devices stays in the models. Coming back needs an invitation."
        )
        title = f"Leave {found.name}?"
        return confirm(request, title=title, consequence=consequence, button="Leave", back=address_of(found))
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
    service, title, consequence, done = ON_MEMBERS[act]
    name, back = organization.name, address_of(found)
    if request.method == "GET":
        title = title.format(name=name)
        return confirm(request, title=title, consequence=consequence, button=act.capitalize(), back=back)
    service(request.actor, found, organization)
    messages.success(request, done.format(name=name))
    return redirect(back)


def _invite_again(request: Any, federation: Federation, whom: str, error: FedportalError) -> HttpResponse:
    """Back to the form, which shows once more what was typed, and of each entry that cannot be invited why."""
    refused = error.refused if isinstance(error, federations.Uninvited) else {}
    if error.context.get("field") == "org_ids":
        error = FedportalError("field_invalid", field="whom", reason=error.context["reason"])
    request.session["invite"] = {
        "whom": whom[:MOST_TYPED],
        "refused": [{"entry": entry[:100], "why": _why(entry, each)} for entry, each in refused.items()],
        "reason": "" if refused else f"{labels.sentence(error)} {error.next_step}",
    }
    return redirect(address_of(federation) + "#invite")


def _why(entry: str, error: FedportalError) -> str:
    if "@" not in entry and not entry.startswith("org_"):
        return "It is neither an organization's id (org_…) nor an address (name@…)."
    if error.code == "not_found":
        return "There is no organization with this id. It stands on the organization's own home page."
    return str(error.context["reason"]).capitalize() if error.code == "field_invalid" else error.message


def _keep_links(request: Any, written: Any) -> None:
    """Show the links on the next page, once, where no mail server carries them."""
    links = [{"email": w.invitation.email, "link": w.link_to_copy} for w in written if w.link_to_copy]
    if links:
        request.session["links"] = links


def _back(invitation: Any) -> str:
    return address_of(invitation.federation) if invitation.federation else "/team"
