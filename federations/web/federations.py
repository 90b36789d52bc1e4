"""Federations: the list, founding, and a federation's pages: roster, activity, settings."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings as conf
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import history, permissions, selectors
from federations.services import agreements, federations, roots
from federations.web.agreements import draft_of
from federations.web.federation_parts import address_of, frame
from federations.web.page import may, one_page, own_organization, page
from fedportal.common import clock
from fedwire.errors import FedportalError
from fedwire.states import DeviceState, MemberState

# What the list can be narrowed to.
STATES = {"owned": "Owner", "active": "Active member", "invited": "Invited"}
ROSTER_SIZE = 50
MOST_CLOSED = 50


@page()
def index(request: Any) -> HttpResponse:
    """The federations one is in or invited to."""
    state, text = request.GET.get("state", ""), request.GET.get("text", "").strip()
    seen = selectors.federations(request.actor).order_by("name", "pk")
    any_at_all = seen.exists()
    if state == "owned":
        seen = seen.filter(organization=request.actor.organization)
    elif state in STATES:
        seen = seen.filter(own_state=state)
    if text:
        seen = seen.filter(name__icontains=text)
    rows = one_page(request, selectors.with_agreements(request.actor, seen))
    context = {
        "rows": rows,
        "states": STATES.items(),
        "state": state,
        "text": text,
        "any_at_all": any_at_all,
        "suspended": selectors.suspended_places(request.actor.organization) if request.actor.organization else [],
        "may_answer": may(request, "organization.answer_invitation", request.actor.organization),
        "query": _prefix(state=state, text=text),
        "may_found": may(request, "organization.found_federation", request.actor.organization),
    }
    return render(request, "federations/list.html", context)


@page("GET", "POST")
def new(request: Any) -> HttpResponse:
    """Found a federation, perhaps with its first study agreement."""
    permissions.require(request.actor, "organization.found_federation", own_organization(request))
    if request.method == "GET":
        return render(request, "federations/new.html", {"said": {}})
    said = request.POST
    try:
        drafted = draft_of(said) if said.get("title", "").strip() or said.get("text", "").strip() else None
        made = federations.found(
            request.actor,
            name=said.get("name", ""),
            description=said.get("description", "").strip(),
            members_may_start_runs=bool(said.get("members_may_start_runs")),
            agreement=drafted,
        )
    except FedportalError as error:
        return render(request, "federations/new.html", {"said": said, "error": error}, status=error.status)
    messages.success(request, f"{made.name} is founded. Invite the others next.")
    return redirect(address_of(made) + "#invite")


@page()
def one(request: Any, federation: str) -> HttpResponse:
    """The roster, and what one may do here."""
    found = selectors.find_federation(request.actor, federation)
    context = frame(request, found)
    own = request.actor.organization
    sees_roster, may_invite = context["sees_roster"], may(request, "federation.invite", found)
    places = selectors.roster(found, letters=False) if sees_roster else []
    here = [place for place in places if place.state in selectors.PRESENT]
    gone = [place for place in places if place.state not in selectors.PRESENT]
    agreement = agreements.current(found)
    context |= {
        "rows": one_page(request, here, ROSTER_SIZE),
        "members": len(here),
        "gone": sorted(gone, key=lambda place: place.changed_at or clock.now(), reverse=True)[:MOST_CLOSED],
        "agreement": agreement,
        "roots": roots.printed(found) if sees_roster else None,
        "expired": agreement is not None and agreements.has_expired(agreement),
        "to_accept": agreements.to_accept(found, own),
        "open_letters": list(selectors.open_letters(found)) if may_invite else [],
        "closed_letters": list(selectors.closed_letters(found)[:MOST_CLOSED]) if may_invite else [],
        "may_invite": may_invite,
        "may_answer": may(request, "organization.answer_invitation", own),
        "may_accept": may(request, "organization.accept_agreement", own),
        "links": request.session.pop("links", []),
        "invite": request.session.pop("invite", {}),
        "lacks_devices": found.own_state == MemberState.ACTIVE and not found.dissolved_at and not _has_devices(request),
        "may_enroll": may(request, "organization.enroll_devices", own),
        "mails": bool(conf.FEDPORTAL_EMAIL_URL),
        "invited": found.own_state == MemberState.INVITED,
    }
    return render(request, "federations/one.html", context)


@page()
def activity(request: Any, federation: str) -> HttpResponse:
    """What happened in the federation, newest first."""
    found = selectors.find_federation(request.actor, federation)
    permissions.require(request.actor, "federation.view_roster", found)
    rows = one_page(request, history.entries(found), ROSTER_SIZE)
    happened = history.told(list(rows.object_list))
    return render(request, "federations/activity.html", {**frame(request, found), "rows": rows, "happened": happened})


@page("GET", "POST")
def settings(request: Any, federation: str) -> HttpResponse:
    """Rename, describe, and let members start runs or not."""
    found = selectors.find_federation(request.actor, federation)
    permissions.require(request.actor, "federation.manage", found)
    context = {**frame(request, found), "said": _settings_of(found)}
    if request.method == "GET":
        return render(request, "federations/settings.html", context)
    said = {
        "name": request.POST.get("name", ""),
        "description": request.POST.get("description", "").strip(),
        "members_may_start_runs": bool(request.POST.get("members_may_start_runs")),
    }
    try:
        changed = federations.change(request.actor, found, **said)
    except FedportalError as error:
        return render(
            request, "federations/settings.html", context | {"said": said, "error": error}, status=error.status
        )
    messages.success(request, f"The settings of {changed.name} are saved.")
    return redirect(address_of(changed))


@page("GET", "POST")
def dissolve(request: Any, federation: str) -> HttpResponse:
    """End the federation, after its name was typed."""
    found = selectors.find_federation(request.actor, federation)
    permissions.require(request.actor, "federation.manage", found)
    context = frame(request, found)
    if request.method == "GET":
        return render(request, "federations/dissolve.html", context)
    if request.POST.get("name", "").strip() != found.name:
        error = FedportalError("field_invalid", field="name", reason=f"type {found.name} exactly.")
        return render(request, "federations/dissolve.html", context | {"error": error}, status=error.status)
    federations.dissolve(request.actor, found)
    messages.success(request, f"{found.name} is dissolved. Its members were told; models and past runs stay.")
    return redirect("/federations")


def _has_devices(request: Any) -> bool:
    """Whether a device of one's own organization can take part."""
    return selectors.devices(request.actor).filter(state=DeviceState.ACTIVE).exists()


def _settings_of(found: Any) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("name", "description", "members_may_start_runs")}


def _prefix(**filters: str) -> str:
    """What the links between pages carry on."""
    chosen = {name: value for name, value in filters.items() if value}
    return urlencode(chosen) + "&" if chosen else ""
