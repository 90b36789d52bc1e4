"""The form that begins a rollout: which version, to how many of which devices, in which steps, within which limits."""

from __future__ import annotations

import math
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render

from federations import fleet, permissions
from federations.models import Device
from federations.services import policies
from federations.web.page import own_organization, page
from fedwire.errors import FedportalError
from fedwire.states import DeviceState
from registry import deliveries, selectors
from registry.delivery.placement import WHOLE
from registry.models import Model, Rollout
from registry.models.rollouts import ALIVE
from registry.services import gatekeeping, rollouts
from registry.services.underway import ACTION
from registry.web.outlook import percent

# Rows of the schedule, versions and models to choose from.
STEPS, MOST_VERSIONS, MOST_MODELS = 5, 50, 200
UNITS = {"minutes": 60, "hours": 3_600, "days": 86_400}
DEFAULTS = {"increment": "10", "window_seconds": "600", "least": "50"}
# Fields that are percentages here and shares from 0 to 1 in the service.
RATES = ("error_rate", "accuracy")
# What is wrong with a form that sends versions out is told in it.
OF_FORM = ("field_invalid", "wrong_state", *gatekeeping.CODES)


@page("GET", "POST")
def new(request: Any) -> HttpResponse:
    """Begin a rollout of a model's version."""
    organization = own_organization(request)
    permissions.require(request.actor, ACTION, organization)
    said: QueryDict = request.POST if request.method == "POST" else request.GET
    model = selectors.find_model(request.actor, said["model"]) if said.get("model") else None
    error = None
    if request.method == "POST":
        if model is None:
            raise FedportalError("field_invalid", field="model", reason="choose one.")
        try:
            made = _begun(request, model, said)
        except FedportalError as refusal:
            if refusal.code not in OF_FORM:
                raise
            error = _of_form(refusal)
        else:
            messages.success(request, "The rollout has begun. This page shows it as it happens.")
            return redirect(f"/rollouts/{made.public_id}")
    context = _shown(request, model, said) | {"error": error}
    return render(request, "registry/rollout_new.html", context, status=error.status if error else 200)


def share_in(text: str, field: str) -> int:
    """Hundredths of a percent, of what was typed: "12.5" or "12,5". Raises `field_invalid`."""
    value = number(text, field)
    if value is None or not 0 < value <= 100 or abs(100 * value - round(100 * value)) > 1e-6:
        reason = "it must be above 0 and at most 100, in steps of 0.01."
        raise FedportalError("field_invalid", field=field, reason=reason)
    return round(100 * value)


def _of_form(error: FedportalError) -> FedportalError:
    """The error as it is about the form, which says a schedule in rows of its own."""
    if error.context.get("field") != "schedule":
        return error
    return FedportalError("field_invalid", field="wait", reason=error.context["reason"])


def _begun(request: Any, model: Model, said: QueryDict) -> Rollout:
    """The rollout that the form describes. Raises what `rollouts.deploy` raises."""
    organization = own_organization(request)
    group = said.get("group", "")
    steps = _steps(said)
    return rollouts.deploy(
        request.actor,
        selectors.find_version(model, said.get("version") or "latest"),
        share=steps[0][0],
        group=fleet.find_label(organization, group) if group else None,
        steps=steps if len(steps) > 1 or steps[0][1] else (),
        start=said.get("start") != "later",
        increment=share_in(said.get("increment") or "10", "increment"),
        **limits(said),
    )


def _steps(said: QueryDict) -> list[tuple[int, int]]:
    """(share, seconds) of each row that says a share. Raises `field_invalid`."""
    rows = zip(said.getlist("share"), said.getlist("wait"), said.getlist("unit"), strict=False)
    found = []
    for place, (share, wait, unit) in enumerate(rows):
        if not share.strip():
            if place == 0 or wait.strip():
                raise FedportalError("field_invalid", field="share", reason="say how many percent.")
            continue
        length = number(wait, "wait") or 0.0
        if length < 0 or unit not in UNITS:
            raise FedportalError("field_invalid", field="wait", reason="a step cannot be kept for so long.")
        found.append((share_in(share, "share"), round(length * UNITS[unit])))
    if not found:
        raise FedportalError("field_invalid", field="share", reason="say how many percent.")
    return found


def limits(said: QueryDict) -> dict[str, Any]:
    """What was said of limits, as `rollouts.deploy` takes them. Raises `field_invalid`."""
    found: dict[str, Any] = {}
    for name in ("window_seconds", "least", "error_rate", "latency_ms", "accuracy"):
        value = number(said.get(name, ""), name)
        if value is None:
            continue
        if name in RATES:
            found[name] = value / 100
        else:
            found[name] = int(value) if value == int(value) else value
    if said.get("auto_rollback") in ("yes", "no"):
        found["auto_rollback"] = said["auto_rollback"] == "yes"
    return found


def number(text: str, field: str) -> float | None:
    """What was typed; None for nothing. Raises `field_invalid`."""
    text = text.strip().replace(",", ".").removesuffix("%").strip()
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise FedportalError("field_invalid", field=field, reason="it is not a number.")
    return value


def _shown(request: Any, model: Model | None, said: QueryDict) -> dict[str, Any]:
    """What the form shows for what was typed."""
    organization = own_organization(request)
    posted = request.method == "POST"
    lists = {name: said.getlist(name) for name in ("share", "wait", "unit")}
    typed = {name: lists[name] + [""] * STEPS for name in lists}
    policy = policies.of(organization)
    context: dict[str, Any] = {
        "model": model,
        "said": said if posted else DEFAULTS | said.dict(),
        "steps": list(zip(typed["share"][:STEPS], typed["wait"], typed["unit"], strict=False)),
        "units": UNITS,
        "groups": fleet.labels(organization),
        "devices": Device.objects.filter(organization=organization, state=DeviceState.ACTIVE).count(),
        "policy_error_rate": f"{100 * policy.rollback_error_rate:g}",
        "policy_returns": policy.auto_rollback,
    }
    if model is None:
        found = selectors.models_for(request.actor).filter(latest_version__isnull=False)
        return context | {"models": found[:MOST_MODELS]}
    present = deliveries.present(request.actor, model)
    alive = present if present is not None and present.state in ALIVE else None
    return context | {
        "versions": selectors.versions_of(model).defer("manifest", "parent__manifest")[:MOST_VERSIONS],
        "alive": alive,
        "alive_percent": percent(alive.share) if alive else "",
        "whole": WHOLE,
    }
