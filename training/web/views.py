"""Runs: the list."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse
from django.shortcuts import render

from federations import selectors as places
from federations.web.page import one_page, page
from training import selectors
from training.web.lists import WORDS, with_progress


@page()
def index(request: Any) -> HttpResponse:
    """The runs one may see, newest first."""
    state, federation = request.GET.get("state", ""), request.GET.get("federation", "")
    seen = selectors.runs_for(request.actor, state=state if state in WORDS else "")
    chosen = places.find_federation(request.actor, federation) if federation else None
    if chosen is not None:
        seen = seen.filter(federation=chosen)
    rows = one_page(request, seen)
    rows.object_list = with_progress(rows.object_list)
    filters = {"state": state, "federation": federation}
    context = {
        "rows": rows,
        "states": WORDS.items(),
        "state": state,
        "chosen": chosen,
        "federations": places.federations(request.actor).order_by("name"),
        "query": _prefix({name: value for name, value in filters.items() if value}),
    }
    return render(request, "training/list.html", context)


def _prefix(filters: dict[str, str]) -> str:
    return urlencode(filters) + "&" if filters else ""
