"""Runs: the list."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.db.models import Q, QuerySet
from django.http import HttpResponse
from django.shortcuts import render

from federations import permissions
from federations import selectors as places
from federations.models import Federation, Organization
from federations.permissions import Actor
from federations.web.page import one_page, page
from registry.models import Model
from training import selectors
from training.models import Run
from training.web.lists import WORDS, with_progress

MINE = "me"
# What a list of runs can be sorted by → what that means for the database. A minus before the name turns it round.
ORDERS = {
    "started": ("id",),
    "model": ("model__name", "id"),
    "federation": ("federation__name", "id"),
    "state": ("state", "id"),
    "rounds": ("current_round", "id"),
}
COLUMNS = (
    ("model", "Model"),
    ("federation", "Federation"),
    ("state", "State"),
    ("rounds", "Rounds"),
    ("started", "Started"),
)
NEWEST = "-started"


@page()
def index(request: Any) -> HttpResponse:
    """The runs one may see, newest first, or as one asks for them."""
    query = request.GET
    said = {name: query.get(name, "") for name in ("state", "federation", "model", "by", "sort")}
    seen = selectors.runs_for(request.actor).defer("base_version__manifest", "result_version__manifest")
    filters = _filters(request.actor, seen)
    rows = one_page(request, _sorted(_filtered(request.actor, seen, said), said["sort"]))
    rows.object_list = with_progress(rows.object_list)
    kept = {name: value for name, value in said.items() if value}
    context = {
        "rows": rows,
        "said": said,
        "filtered": any(value for name, value in kept.items() if name != "sort"),
        "states": WORDS.items(),
        **filters,
        "columns": _columns(kept),
        "may_start": permissions.holding(request.actor, "federation.train", Federation.objects.all()).exists(),
        "query": urlencode(kept) + "&" if kept else "",
    }
    return render(request, "training/list.html", context)


def _filtered(actor: Actor, seen: QuerySet[Run], said: dict[str, str]) -> QuerySet[Run]:
    """Raises `not_found` for a federation that one does not see."""
    if said["state"] in WORDS:
        seen = seen.filter(state=said["state"])
    if said["federation"]:
        seen = seen.filter(federation=places.find_federation(actor, said["federation"]))
    if said["model"]:
        # A run stays seen when its model is taken out of the federation, so the model is not looked for among models.
        seen = seen.filter(Q(model__public_id=said["model"]) | Q(model__name=said["model"]))
    if said["by"] == MINE:
        seen = seen.filter(started_by=actor.person)
    elif said["by"]:
        seen = seen.filter(organization__public_id=said["by"])
    return seen


def _filters(actor: Actor, seen: QuerySet[Run]) -> dict[str, Any]:
    """What there is to choose from: where, of what, and by whom runs were started that one sees."""
    bare = seen.order_by()
    return {
        "federations": places.federations(actor).order_by("name"),
        "models": Model.objects.filter(pk__in=bare.values("model_id")).order_by("name", "pk"),
        "starters": Organization.objects.filter(pk__in=bare.values("organization_id")).order_by("name"),
    }


def _sorted(seen: QuerySet[Run], sort: str) -> QuerySet[Run]:
    fields = ORDERS.get(sort.removeprefix("-"))
    if fields is None:
        return seen
    return seen.order_by(*(f"-{field}" for field in fields)) if sort.startswith("-") else seen.order_by(*fields)


def _columns(kept: dict[str, str]) -> list[dict[str, str]]:
    """The heads of the table, each with the address that sorts by it and how it is sorted now."""
    now, columns = kept.get("sort", NEWEST), []
    for name, title in COLUMNS:
        turned = f"-{name}" if now == name or (name == "started" and now != f"-{name}") else name
        sorted_now = {name: "ascending", f"-{name}": "descending"}.get(now, "")
        columns.append({"title": title, "address": urlencode({**kept, "sort": turned}), "sorted": sorted_now})
    return columns
