"""The first page: what is going on, and for an empty account what to do first."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render

from federations import selectors as places
from federations.models import Organization
from federations.permissions import Actor
from federations.web.page import may, page
from registry.selectors import models_for
from training import selectors
from training.lifecycle import ALIVE_RUNS
from training.web.lists import with_progress

MOST = 5


@page()
def home(request: Any) -> HttpResponse:
    """Runs, invitations, federations and devices at a glance."""
    actor: Actor = request.actor
    organization = actor.organization
    if organization is None:
        return render(request, "training/homeless.html")
    runs = selectors.runs_for(actor)
    sees_devices = may(request, "organization.view_devices", organization)
    devices = list(places.devices(actor).order_by("-last_seen_at")[:MOST]) if sees_devices else []
    for device in devices:
        device.present = places.is_present(device)
    federations = list(places.federations(actor).order_by("name")[: MOST + 1])
    steps = _steps(request, organization, bool(devices), bool(federations))
    context = {
        "going_on": with_progress(runs.filter(state__in=ALIVE_RUNS)[:MOST]),
        "ended": with_progress(runs.exclude(state__in=ALIVE_RUNS)[:MOST]),
        "invited": places.waiting_for(organization),
        "may_answer": may(request, "organization.answer_invitation", organization),
        "federations": federations[:MOST],
        "devices": devices,
        "sees_devices": sees_devices,
        "steps": steps if any(not step["done"] for step in steps) else [],
    }
    return render(request, "training/home.html", context)


def _steps(request: Any, organization: Organization, devices: bool, federations: bool) -> list[dict[str, Any]]:
    """What an organization does first, in order, each with whether it is done. What one may not do is left out."""
    models = models_for(request.actor).exists()
    wanted = (
        (
            "organization.found_federation",
            "Found a federation, or join one you are invited to",
            "/federations/new",
            federations,
        ),
        ("organization.create_model", "Describe a model and share it with the federation", "/models/new", models),
        ("organization.manage_devices", "Let a device register on the machine with the data", "/devices", devices),
    )
    return [
        {"text": text, "address": address, "done": done}
        for action, text, address, done in wanted
        if may(request, action, organization)
    ]
