"""The pages of federated inference: a federation's plans and consent to them, and one plan with its summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render

from federations.models import Federation
from federations.selectors import find_federation
from federations.web.federation_parts import address_of, frame
from federations.web.page import confirm, may, one_page, page
from fedwire import inference as wire
from fedwire.errors import FedportalError
from fedwire.states import InferenceState, word
from registry.selectors import find_model, find_version, shared_with
from training import inferences
from training.models import InferenceConsent, InferencePlan
from training.services import consents, inference

KINDS: Mapping[str, str] = {
    wire.COUNTS: "Rows by predicted class",
    wire.HISTOGRAM: "Histogram of scores",
    wire.MEAN: "Mean score",
    wire.CONFUSION: "Confusion matrix",
}
ROWS: Mapping[str, str] = {wire.ALL: "all rows", wire.HELD_OUT: "rows held out from training"}
WHOLE = ("bins", "least_count", "least_devices", "least_organizations", "plans_a_month")
NUMBERS = ("low", "high", "noise", "least_noise")
ASKED = ("bins", "low", "high", "noise", "least_count")
BOUNDS = ("least_devices", "least_organizations")
LIMITS = ("least_count", "least_noise", "plans_a_month")
HOURS = {"1": "an hour", "24": "a day", "168": "a week"}
WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 220, 48, 24, 10
SIDE = 320


@page("GET", "POST")
def index(request: Any, federation: str) -> HttpResponse:
    """The federation's plans, the own consent, and the form for a new plan."""
    found = find_federation(request.actor, federation)
    rows = inferences.of_federation(request.actor, found)
    context: dict[str, Any] = {"said": {}}
    status = 200
    if request.method == "POST":
        try:
            made = _planned(request, found)
        except FedportalError as error:
            context, status = {"said": request.POST, "error": error}, error.status
        else:
            messages.success(request, "The devices are asked. Their summary is shown here when the plan is over.")
            return redirect(f"/inference/{made.public_id}")
    shown = one_page(request, rows)
    shown.object_list = inferences.shown(shown.object_list)
    own = request.actor.organization
    consent = consents.of(found, own) if own else None
    context |= {
        **frame(request, found),
        "rows": shown,
        "consent": consent,
        "limits": consent or InferenceConsent(summaries=list(wire.SUMMARIES)),
        "kinds": KINDS.items(),
        "may_consent": may(request, consents.ACTION, own),
        "may_plan": may(request, "federation.train", found),
        "models": shared_with(request.actor, found),
        "hours": HOURS.items(),
    }
    return render(request, "training/inferences.html", context, status=status)


@page("POST")
def give(request: Any, federation: str) -> HttpResponse:
    """Consent, within the limits of the form."""
    found = find_federation(request.actor, federation)
    limits = {name: value for name, value in _numbers(request.POST).items() if name in LIMITS}
    consents.give(request.actor, found, summaries=request.POST.getlist("summaries"), **limits)
    messages.success(request, "Your devices answer plans of this federation within these limits.")
    return redirect(f"{address_of(found)}/inference")


@page("GET", "POST")
def withdraw(request: Any, federation: str) -> HttpResponse:
    """Take the consent back, after a yes."""
    found = find_federation(request.actor, federation)
    back = f"{address_of(found)}/inference"
    if request.method == "GET":
        consents.allowed(request.actor, found)
        consequence = (
            "Your devices answer no plan of this federation any more, and nothing of theirs is counted in plans that "
            "still run. What was shown before stays known."
        )
        return confirm(
            request, title="Take the consent back?", consequence=consequence, button="Take it back", back=back
        )
    inference.withdraw_consent(request.actor, found)
    messages.success(request, "The consent is taken back.")
    return redirect(back)


@page()
def one(request: Any, plan: str) -> HttpResponse:
    """A plan, how its devices stand, and what is shown of it."""
    found = inferences.find_plan(request.actor, plan)
    told = inferences.shown([found])[0]
    directs = inference.directs(request.actor, found)
    parts = one_page(request, inferences.own_parts(request.actor, found))
    parts.object_list = [
        {"device": part.device, "words": word("asked", part.state), "reason": part.reason} for part in parts.object_list
    ]
    alive = found.state in (InferenceState.PLANNED, InferenceState.RUNNING)
    shell = frame(request, found.federation)
    for tab in shell["federation_tabs"]:  # a plan has an address of its own
        tab["here"] = tab["address"].endswith("/inference")
    context = {
        **shell,
        "plan": told,
        "deadline": found.deadline,
        "rows": parts,
        "kind": KINDS[told["asked"]["summary"]],
        "which": ROWS[told["asked"]["rows"]],
        "chart": chart(told),
        "may_cancel": directs and alive,
        "may_start": directs and found.state == InferenceState.PLANNED,
    }
    return render(request, "training/inference.html", context)


@page("POST")
def start(request: Any, plan: str) -> HttpResponse:
    """Ask the devices of a plan that waits."""
    found = inference.start(request.actor, inferences.find_plan(request.actor, plan))
    return redirect(f"/inference/{found.public_id}")


@page("GET", "POST")
def cancel(request: Any, plan: str) -> HttpResponse:
    """Cancel a plan, after a yes."""
    found = inferences.find_plan(request.actor, plan)
    back = f"/inference/{found.public_id}"
    if request.method == "GET":
        inference.require_directing(request.actor, found)
        consequence = "Nothing of it is shown, and what devices answered is erased. What they spent stays spent."
        return confirm(request, title="Cancel this plan?", consequence=consequence, button="Cancel the plan", back=back)
    inference.cancel(request.actor, found)
    messages.success(request, "The plan is cancelled.")
    return redirect(back)


def chart(told: Mapping[str, Any]) -> dict[str, Any] | None:
    """What is shown of a plan as SVG geometry and as a table; None where there are no cells."""
    result, asked = told["result"], told["asked"]
    if not result or "cells" not in result:
        return None
    cells, labels = result["cells"], told["labels"]
    if asked["summary"] == wire.CONFUSION:
        return _squares(cells, labels)
    if asked["summary"] == wire.COUNTS:
        wide = (WIDTH - LEFT) / len(labels)
        # Only so many names fit below the bars; the table has all.
        marks = [(LEFT + (place + 0.5) * wide, labels[place]) for place in range(0, len(labels), -(-len(labels) // 6))]
        return _bars(cells, labels, marks)
    ends = [(LEFT + 12, asked["low"]), ((LEFT + WIDTH) / 2, (asked["low"] + asked["high"]) / 2)]
    marks = [(x, f"{value:.4g}") for x, value in (*ends, (WIDTH - 12, asked["high"]))]
    return _bars(cells, _intervals(asked), marks)


def _intervals(asked: Mapping[str, Any]) -> list[str]:
    step = (asked["high"] - asked["low"]) / asked["bins"]
    edges = [f"{asked['low'] + place * step:.4g}" for place in range(asked["bins"] + 1)]
    return [f"{low} to {high}" for low, high in pairwise(edges)]


def _bars(cells: Sequence[int | None], names: Sequence[str], marks: Sequence[tuple[float, str]]) -> dict[str, Any]:
    most = max((cell for cell in cells if cell is not None), default=0) or 1
    wide = (WIDTH - LEFT) / len(cells)
    bars = []
    for place, (cell, name) in enumerate(zip(cells, names, strict=True)):
        tall = max((cell or 0) / most, 0.0) * (HEIGHT - BOTTOM - TOP)
        bars.append(
            {
                "x": round(LEFT + place * wide + wide * 0.08, 2),
                "y": round(HEIGHT - BOTTOM - tall, 2),
                "width": round(wide * 0.84, 2),
                "height": round(tall, 2),
                "name": name,
                "cell": cell,
                "middle": round(LEFT + (place + 0.5) * wide, 2),
            }
        )
    return {"bars": bars, "marks": marks, "most": most, "base": HEIGHT - BOTTOM, "top": TOP}


def _squares(cells: Sequence[int | None], labels: Sequence[str]) -> dict[str, Any]:
    classes = len(labels)
    most, size = max((cell for cell in cells if cell is not None), default=0) or 1, SIDE / classes
    squares = [
        {
            "x": round(place % classes * size, 2),
            "y": round(place // classes * size, 2),
            "opacity": f"{max((cell or 0) / most, 0.0):.3f}",
            "name": f"{labels[place // classes]} taken for {labels[place % classes]}",
            "cell": cell,
        }
        for place, cell in enumerate(cells)
    ]
    lines = [
        {"label": label, "cells": cells[place * classes : (place + 1) * classes]} for place, label in enumerate(labels)
    ]
    return {"squares": squares, "size": round(size, 2), "labels": labels, "lines": lines}


def _planned(request: Any, federation: Federation) -> InferencePlan:
    said, numbers = request.POST, _numbers(request.POST)
    bounds: dict[str, Any] = {name: numbers[name] for name in BOUNDS if name in numbers}
    model = find_model(request.actor, said.get("model", ""))
    return inference.plan(
        request.actor,
        federation,
        model,
        version=find_version(model, said.get("version", "").strip() or "latest"),
        said={"summary": said.get("summary"), **{name: numbers[name] for name in ASKED if name in numbers}},
        seconds=3600 * int(said["hours"]) if said.get("hours") in HOURS else inference.DEFAULT_SECONDS,
        name=said.get("name", "").strip(),
        **bounds,
    )


def _numbers(said: QueryDict) -> dict[str, Any]:
    """The numbers of a form; empty fields are left out. Raises `field_invalid`."""
    found: dict[str, Any] = {}
    for names, read in ((WHOLE, int), (NUMBERS, float)):
        for name in names:
            text = said.get(name, "").strip()
            if not text:
                continue
            try:
                found[name] = read(text)
            except ValueError:
                raise FedportalError("field_invalid", field=name, reason="it is not a number.") from None
    return found
