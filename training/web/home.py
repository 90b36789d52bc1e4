"""The first page: what waits for the reader, what is going on, and for a new organization what to do first."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import selectors as places
from federations.permissions import Actor
from federations.web.page import may, own_organization, page
from fedwire.errors import FedportalError
from training import first_steps, selectors
from training.agenda import agenda
from training.lifecycle import ALIVE_RUNS
from training.web.lists import with_progress

MOST = 5
# Which first steps were hidden in this browser: "usr_…:org_…:owner", joined by dots. It decides nothing else.
COOKIE = "fedportal-hidden-steps"
KEPT = 20
YEAR = 365 * 24 * 3600


@page()
def home(request: Any) -> HttpResponse:
    """Runs, invitations, federations and devices at a glance."""
    actor: Actor = request.actor
    organization = actor.organization
    if organization is None:
        return render(request, "training/homeless.html", {"agenda": agenda(actor)})
    runs = selectors.runs_for(actor)
    sees_devices = may(request, "organization.view_devices", organization)
    devices = list(places.devices(actor).order_by("-last_seen_at")[:MOST]) if sees_devices else []
    for device in devices:
        device.present = places.is_present(device)
    federations = list(places.federations(actor).order_by("name")[: MOST + 1])
    unfinished = first_steps.lists_for(actor)
    hidden = [] if "steps" in request.GET else _hidden(request)
    context = {
        "agenda": agenda(actor),
        "going_on": with_progress(runs.filter(state__in=ALIVE_RUNS)[:MOST]),
        "ended": with_progress(runs.exclude(state__in=ALIVE_RUNS)[:MOST]),
        "federations": federations[:MOST],
        "more_federations": len(federations) > MOST,
        "devices": devices,
        "sees_devices": sees_devices,
        "lists": [one for one in unfinished if _mark(actor, one.name) not in hidden],
        "some_hidden": any(_mark(actor, one.name) in hidden for one in unfinished),
    }
    return render(request, "training/home.html", context)


@page("POST")
def hide_steps(request: Any) -> HttpResponse:
    """Leave a list of first steps out, for this person and organization in this browser."""
    own_organization(request)
    name = request.POST.get("list", "")
    if name not in first_steps.NAMES:
        raise FedportalError("not_found", what="list")
    marks = [mark for mark in _hidden(request) if mark != _mark(request.actor, name)]
    answer = redirect("/")
    answer.set_cookie(
        COOKIE,
        ".".join([*marks, _mark(request.actor, name)][-KEPT:]),
        max_age=YEAR,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )
    return answer


def _hidden(request: Any) -> list[str]:
    return [mark for mark in request.COOKIES.get(COOKIE, "").split(".") if mark]


def _mark(actor: Actor, name: str) -> str:
    organization = actor.organization.public_id if actor.organization else ""
    return f"{actor.person.public_id}:{organization}:{name}"
