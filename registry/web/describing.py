"""Models as their owner makes them: the form that describes one, its first weights, its description."""

from __future__ import annotations

import csv
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render

from federations import permissions
from federations.web.page import own_organization, page
from fedwire.errors import FedportalError
from registry import selectors, wording
from registry.models import Model
from registry.services import models, versions

FILE = "file"
KINDS = {
    "logistic": "Logistic regression",
    "linear": "Linear regression",
    "mlp": "Small neural network (MLP)",
    "cnn": "Small image network (CNN)",
    FILE: "Another: I upload its weights",
}
# Which fields of the form each kind needs.
FIELDS = {
    "logistic": ("inputs", "columns", "classes", "labels", "standardise"),
    "linear": ("inputs", "columns", "standardise"),
    "mlp": ("inputs", "columns", "hidden", "classes", "labels", "standardise", "batch_norm"),
    "cnn": ("image", "channels", "hidden", "classes", "labels", "standardise", "batch_norm"),
    FILE: ("file",),
}


@page("GET", "POST")
def new(request: Any) -> HttpResponse:
    """Describe a model; with an architecture it gets its first weights at once."""
    permissions.require(request.actor, "organization.create_model", own_organization(request))
    said: QueryDict = request.POST if request.method == "POST" else request.GET
    kind = said.get("kind", "logistic")
    fields = {field for needed in FIELDS.values() for field in needed}
    context: dict[str, Any] = {
        "kinds": KINDS.items(),
        "kind": kind,
        "said": said,
        "needs": {field: " ".join(name for name, needed in FIELDS.items() if field in needed) for field in fields},
        "shown": FIELDS.get(kind, ()),
    }
    if request.method == "POST":
        try:
            made = _made(request, said)
        except FedportalError as error:
            return render(request, "registry/new.html", {**context, "error": error}, status=error.status)
        messages.success(request, _welcome(made))
        return redirect(_address(made))
    return render(request, "registry/new.html", context)


@page("POST")
def describe(request: Any, model: str) -> HttpResponse:
    """Change what the model is said to be."""
    found = selectors.find_model(request.actor, model)
    models.describe(request.actor, found, description=request.POST.get("description", "").strip())
    messages.success(request, "The description is changed.")
    return redirect(_address(found))


@page("POST")
def initial(request: Any, model: str) -> HttpResponse:
    """Make a version with the first weights of the described architecture."""
    found = selectors.find_model(request.actor, model)
    made = versions.initial(request.actor, found)
    messages.success(request, f"Version {made.version} holds the first weights. Share the model to train it.")
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


def _welcome(made: Model) -> str:
    if made.architecture is None:
        return f"{made.name} is there, without weights yet. Upload a safetensors file as its first version."
    return f"{made.name} is there, and version 1.0.0 holds its first weights. Share it with a federation to train it."


def _architecture(said: QueryDict) -> dict[str, Any] | None:
    """The architecture in the form; None for none. Raises `field_invalid`."""
    kind = said.get("kind", "")
    if kind in ("", FILE):
        return None
    if kind not in wording.KINDS:
        raise FedportalError("field_invalid", field="kind", reason="choose one of the kinds.")
    inputs = _numbers(said, "image" if kind == "cnn" else "inputs")
    spec: dict[str, Any] = {"kind": kind, "inputs": inputs if kind == "cnn" else _first(inputs)}
    for field in ("columns", "labels"):
        if field in FIELDS[kind] and (names := _names(said, field)):
            spec[field] = names
    if not inputs and "columns" in spec:
        spec["inputs"] = len(spec["columns"])
    if "classes" in FIELDS[kind]:
        spec["classes"] = _first(_numbers(said, "classes")) or 2
    for field in ("hidden", "channels"):
        if field in FIELDS[kind] and (widths := _numbers(said, field)):
            spec[field] = widths
    for field in ("standardise", "batch_norm"):
        if field in FIELDS[kind] and said.get(field):
            spec[field] = True
    return spec


def _first(numbers: list[int]) -> int:
    return numbers[0] if numbers else 0


def _numbers(said: QueryDict, field: str) -> list[int]:
    """Whole numbers, separated by commas or spaces. Raises `field_invalid`."""
    words = said.get(field, "").replace(",", " ").split()
    if any(not (word.isascii() and word.isdigit() and len(word) < 10) for word in words):
        raise FedportalError("field_invalid", field=field, reason="it must be whole numbers.")
    return [int(word) for word in words]


def _names(said: QueryDict, field: str) -> list[str]:
    """Names on lines of their own or separated like the cells of a CSV file. Raises `field_invalid`."""
    lines = said.get(field, "").splitlines()
    separator = max(",;\t", key="".join(lines).count)
    try:
        cells = [cell.strip() for row in csv.reader(lines, delimiter=separator, skipinitialspace=True) for cell in row]
    except csv.Error as error:
        raise FedportalError("field_invalid", field=field, reason="a quote is not closed.") from error
    return [cell for cell in cells if cell]


def _address(model: Model) -> str:
    return f"/models/{model.public_id}"
