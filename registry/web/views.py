"""Models: the list, the form that describes one, its versions and where each comes from."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render

from federations import permissions
from federations import selectors as places
from federations.web.page import confirm, may, one_page, own_organization, page
from fedwire.errors import FedportalError
from registry import selectors
from registry.models import Model
from registry.services import models, versions

KINDS = {
    "": "None: I push a file",
    "logistic": "Logistic regression",
    "linear": "Linear regression",
    "mlp": "Small neural network (MLP)",
    "cnn": "Small image network (CNN)",
}


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
        "may_create": may(request, "organization.create_model", request.actor.organization),
        "query": urlencode(kept) + "&" if kept else "",
    }
    return render(request, "registry/list.html", context)


@page("GET", "POST")
def new(request: Any) -> HttpResponse:
    """Describe a model; with an architecture it may get its first weights at once."""
    permissions.require(request.actor, "organization.create_model", own_organization(request))
    context: dict[str, Any] = {"kinds": KINDS.items(), "said": request.POST}
    if request.method == "POST":
        try:
            made = _made(request, request.POST)
        except FedportalError as error:
            return render(request, "registry/new.html", {**context, "error": error}, status=error.status)
        messages.success(request, f"{made.name} is there. Share it with a federation to train it.")
        return redirect(_address(made))
    return render(request, "registry/new.html", context)


@page()
def one(request: Any, model: str) -> HttpResponse:
    """A model: its versions, with whom it is shared, and what one may do with it."""
    found = selectors.find_model(request.actor, model)
    shared = selectors.federations_of(request.actor, found)
    rows = one_page(request, selectors.versions_of(found))
    for row in rows:
        row.sentence = selectors.sentence(row)
    may_share = may(request, "model.share", found)
    others = [
        row
        for row in places.federations(request.actor).order_by("name")
        if row not in shared and may(request, "federation.share", row)
    ]
    context = {
        "model": found,
        "rows": rows,
        "shared": shared,
        "others": others if may_share else [],
        "may_share": may_share,
        "may_push": may(request, "model.push", found),
        "may_pull": may(request, "model.pull", found),
        "may_train": may(request, "model.train", found),
        "portal": settings.FEDPORTAL_PUBLIC_URL,
    }
    return render(request, "registry/one.html", context)


@page()
def version(request: Any, model: str, version: str) -> HttpResponse:
    """A version: where it comes from, how it does, its tensors, and its files."""
    found = selectors.find_model(request.actor, model)
    shown = selectors.find_version(found, version)
    context = {
        "model": found,
        "version": shown,
        "lineage": selectors.lineage(shown),
        "measures": {name: shown.metrics.get(name) for name in ("accuracy", "auc", "loss", "samples")},
        "places": shown.metrics.get("organizations", {}),
        "parameters": selectors.parameters(shown),
        "may_pull": may(request, "model.pull", found),
        "files": f"/api/v1/models/{found.public_id}/versions/{shown.version}/download",
    }
    return render(request, "registry/version.html", context)


@page("POST")
def share(request: Any, model: str) -> HttpResponse:
    """Show the model to a federation."""
    found = selectors.find_model(request.actor, model)
    federation = places.find_federation(request.actor, request.POST.get("federation", ""))
    models.share(request.actor, found, federation)
    messages.success(request, f"{federation.name} sees {found.name} now.")
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


@page("POST")
def initial(request: Any, model: str) -> HttpResponse:
    """Make a version with the first weights of the described architecture."""
    found = selectors.find_model(request.actor, model)
    made = versions.initial(request.actor, found)
    messages.success(request, f"Version {made.version} holds the first weights.")
    return redirect(_address(found))


def _made(request: Any, said: QueryDict) -> Model:
    """The model that was described, with its first weights. Raises what `models.create` raises."""
    described = _architecture(said)
    made = models.create(
        request.actor,
        name=said.get("name", "").strip(),
        description=said.get("description", "").strip(),
        architecture=described,
    )
    if described is not None:
        versions.initial(request.actor, made)
    return made


def _architecture(said: QueryDict) -> dict[str, Any] | None:
    """The architecture in the form; None for none. Raises `field_invalid`."""
    kind = said.get("kind", "")
    if not kind:
        return None
    if kind not in KINDS:
        raise FedportalError("field_invalid", field="kind", reason="choose one of the kinds.")
    inputs = _numbers(said, "inputs")
    spec: dict[str, Any] = {"kind": kind, "inputs": inputs if kind == "cnn" else (inputs or [0])[0]}
    if kind != "linear":
        spec["classes"] = (_numbers(said, "classes") or [2])[0]
    if kind in ("mlp", "cnn") and (hidden := _numbers(said, "hidden")):
        spec["hidden"] = hidden
    if said.get("standardise"):
        spec["standardise"] = True
    return spec


def _numbers(said: QueryDict, field: str) -> list[int]:
    """Whole numbers, separated by commas or spaces. Raises `field_invalid`."""
    words = said.get(field, "").replace(",", " ").split()
    if any(not (word.isascii() and word.isdigit() and len(word) < 10) for word in words):
        raise FedportalError("field_invalid", field=field, reason="it must be whole numbers.")
    return [int(word) for word in words]


def _address(model: Model) -> str:
    return f"/models/{model.public_id}"
