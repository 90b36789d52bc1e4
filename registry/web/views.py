"""Models: the list, a model with its versions, a version, and with whom a model is shared."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import permissions
from federations import selectors as places
from federations.web.page import confirm, may, one_page, page
from fedwire.architectures import Architecture
from registry import deliveries, experiment_selectors, gate_reports, selectors, tasks, wording
from registry.models import Artifact, Model
from registry.services import models
from registry.services.underway import ACTION
from registry.web import outlook
from registry.web.charts import charts
from registry.web.lineage import lineage

# How many versions the curves show, and tensors a version's page.
MOST_MEASURED, MOST_TENSORS = 20, 200


@page()
def index(request: Any) -> HttpResponse:
    """The models one may see, one's own first."""
    text, federation = request.GET.get("text", "").strip(), request.GET.get("federation", "")
    found = selectors.models_for(request.actor, text=text)
    chosen = places.find_federation(request.actor, federation) if federation else None
    if chosen is not None:
        found = found.filter(shares__federation=chosen)
    kept = {name: value for name, value in (("text", text), ("federation", federation)) if value}
    context = {
        "rows": one_page(request, selectors.with_shares(request.actor, found)),
        "text": text,
        "chosen": chosen,
        "federations": places.federations(request.actor).order_by("name"),
        "may_create": may(request, "organization.create_model", request.actor.organization),
        "query": urlencode(kept) + "&" if kept else "",
    }
    return render(request, "registry/list.html", context)


@page()
def one(request: Any, model: str) -> HttpResponse:
    """A model: its versions, with whom it is shared, and what one may do with it."""
    found = selectors.find_model(request.actor, model)
    shared = selectors.federations_of(request.actor, found)
    rows = one_page(request, selectors.versions_of(found).defer("manifest", "parent__manifest"), size=10)
    for row in selectors.told(request.actor, rows):
        row.sentence = selectors.sentence(row)
    history = selectors.told(request.actor, selectors.history(found, MOST_MEASURED))
    rights = {f"may_{verb}": may(request, f"model.{verb}", found) for verb in ("share", "push", "pull", "manage")}
    context = {
        "model": found,
        "rows": rows,
        "latest": history[-1] if history else None,
        "before": history[-2] if len(history) > 1 else None,
        "shared": shared,
        "others": _others(request, shared) if rights["may_share"] else [],
        "architecture": wording.architecture(found.architecture),
        "described": _described(found.architecture),
        "charts": charts(history),
        "lineage": lineage(request.actor, history[-selectors.DRAWN :]),
        "portal": settings.FEDPORTAL_PUBLIC_URL,
        "who_pulls": permissions.who_may("model.pull", found, request.actor),
        "may_train": selectors.may_train(request.actor, found),
        **_on_devices(request, found),
        **rights,
    }
    return render(request, "registry/one.html", context)


@page()
def version(request: Any, model: str, version: str) -> HttpResponse:
    """A version: where it comes from, how it does, its tensors, and its files."""
    found = selectors.find_model(request.actor, model)
    (shown,) = selectors.told(request.actor, [selectors.find_version(found, version)])
    told = selectors.lineage(shown)
    files = selectors.files_of(shown)
    context = {
        "model": found,
        "version": shown,
        "lineage": told,
        "gate": gate_reports.shown(request.actor, shown),
        "run": told.get("run") if _run_is_seen(request, told) else None,
        "picture": lineage(request.actor, selectors.told(request.actor, selectors.around(shown)), shown),
        "measures": {name: shown.metrics.get(name) for name in ("accuracy", "auc", "loss", "samples")},
        "by_name": sorted((shown.metrics.get("others") or {}).items()),
        "settings": {
            name.replace("_", " ").capitalize(): value
            for name, value in told.get("config", {}).get("parameters", {}).items()
        },
        "left": wording.left_on_devices(told),
        "architecture": wording.architecture(shown.architecture),
        "described": _described(shown.architecture),
        "parameters": selectors.parameters(shown),
        "tensors": shown.manifest[:MOST_TENSORS],
        "files": files,
        "waiting": any(file.state == Artifact.State.PENDING for file in files),
        "download": f"/api/v1/models/{found.public_id}/versions/{shown.version}/download",
        "portal": settings.FEDPORTAL_PUBLIC_URL,
        "may_pull": may(request, "model.pull", found),
        "may_train": selectors.may_train(request.actor, found),
        "who_pulls": permissions.who_may("model.pull", found, request.actor),
        **_on_devices(request, found),
    }
    return render(request, "registry/version.html", context)


@page("POST")
def make(request: Any, model: str, version: str, form: str) -> HttpResponse:
    """Let a worker make another form of a version."""
    found = selectors.find_model(request.actor, model)
    permissions.require(request.actor, "model.pull", found)
    wanted = selectors.find_version(found, version)
    tasks.order(request.actor, wanted, form)
    return redirect(f"{_address(found)}/versions/{wanted.version}#files")


@page("POST")
def share(request: Any, model: str) -> HttpResponse:
    """Show the model to a federation."""
    found = selectors.find_model(request.actor, model)
    federation = places.find_federation(request.actor, request.POST.get("federation", ""))
    models.share(request.actor, found, federation)
    messages.success(request, f"{federation.name} sees {found.name} now. Its active members may pull it.")
    return redirect(_address(found))


@page("GET", "POST")
def unshare(request: Any, model: str, federation: str) -> HttpResponse:
    """Take the model out of a federation."""
    found = selectors.find_model(request.actor, model)
    place = places.find_federation(request.actor, federation)
    if request.method == "GET":
        if not may(request, "federation.manage", place):
            permissions.require(request.actor, "model.share", found)
        consequence = "Its members no longer see the model or its versions. What they have pulled stays with them."
        title = f"Take {found.name} out of {place.name}?"
        return confirm(request, title=title, consequence=consequence, button="Take it out", back=_address(found))
    models.unshare(request.actor, found, place)
    messages.success(request, f"{place.name} no longer sees {found.name}.")
    return redirect(_address(found))


def _others(request: Any, shared: list[Any]) -> list[Any]:
    """The federations that the model could be shared with too."""
    rows = permissions.holding(request.actor, "federation.share", places.federations(request.actor))
    return [row for row in rows.order_by("name") if row not in shared]


def _on_devices(request: Any, model: Model) -> dict[str, Any]:
    """What the organization's devices have of the model, and whether one may send them a version."""
    present = deliveries.present(request.actor, model)
    return {
        "present": present,
        "trial": experiment_selectors.running(request.actor, model),
        "present_is": outlook.standing(present) if present else "",
        "may_deploy": may(request, ACTION, request.actor.organization),
    }


def _described(spec: dict[str, Any] | None) -> Architecture | None:
    return Architecture.parse(spec) if spec else None


def _run_is_seen(request: Any, told: dict[str, Any]) -> bool:
    federation = told.get("federation", {}).get("id")
    return federation in selectors.federations_seen_from_inside(request.actor)


def _address(model: Model) -> str:
    return f"/models/{model.public_id}"
