"""What every page's frame shows: who one is, for which organization, and where one can go."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from federations import selectors
from federations.permissions import Actor

NAVIGATION = (
    ("Home", "/"),
    ("Federations", "/federations"),
    ("Models", "/models"),
    ("Runs", "/runs"),
    ("Devices", "/devices"),
    ("Team", "/team"),
    ("Keys", "/keys"),
)


def shell(request: HttpRequest) -> dict[str, Any]:
    """Context processor. `actor` is None for pages that anybody may see."""
    actor: Actor | None = getattr(request, "actor", None)
    if actor is None:
        return {"actor": None}
    here = request.path
    return {
        "actor": actor,
        "own_organizations": [membership.organization for membership in selectors.memberships_of(actor)],
        "navigation": [
            {"name": name, "address": address, "here": here == address if address == "/" else here.startswith(address)}
            for name, address in NAVIGATION
        ],
    }
