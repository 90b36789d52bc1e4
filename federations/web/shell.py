"""What every page's frame shows: who one is, for which organization, and where one can go."""

from __future__ import annotations

import functools
from typing import Any

from django.http import HttpRequest

from federations import permissions, selectors
from federations.models import Role
from federations.permissions import Actor

NAVIGATION = (
    ("Home", "/"),
    ("Federations", "/federations"),
    ("Models", "/models"),
    ("Runs", "/runs"),
    ("Rollouts", "/rollouts"),
    ("Devices", "/devices"),
    ("Organization", "/team"),
)
OPERATORS = (("Operators", "/admin/"),)
# Pages that belong together show these as tabs; `parts/tabs.html`.
TABS = {
    "organization": (
        ("People", "/team"),
        ("Policy", "/policy"),
        ("Privacy budget", "/budget"),
        ("Keys", "/keys"),
        ("Webhooks", "/webhooks"),
        ("Audit log", "/audit"),
    ),
    "account": (
        ("Profile", "/account"),
        ("Password", "/account/password"),
        ("Second factor", "/account/second-factor"),
        ("Sessions", "/account/sessions"),
        ("Notifications", "/account/notifications"),
    ),
}
# Tabs that only those see who may do this in their organization.
NEEDED = {"/webhooks": "organization.manage_webhooks", "/audit": "organization.view_audit"}


def shell(request: HttpRequest) -> dict[str, Any]:
    """Context processor. `actor` is None for pages that anybody may see."""
    actor: Actor | None = getattr(request, "actor", None)
    if actor is None:
        return {"actor": None}
    here = request.path
    memberships = list(selectors.memberships_of(actor))
    return {
        "actor": actor,
        "own_organizations": [membership.organization for membership in memberships],
        "own_role": next((Role(m.role).label for m in memberships if m.organization == actor.organization), ""),
        "navigation": [
            {"name": name, "address": address, "here": _is_here(address, here)}
            for name, address in (*NAVIGATION, *(OPERATORS if actor.person.is_staff else ()))
        ],
        # Called by the template that shows them, so that other pages do not ask.
        "tabs": {group: functools.partial(_tabs, actor, group, here) for group in TABS},
    }


def _tabs(actor: Actor, group: str, here: str) -> list[dict[str, Any]]:
    """The tabs of a group that the actor may open."""
    needed = {NEEDED[address] for _, address in TABS[group] if address in NEEDED}
    barred = needed - permissions.allowed(actor, needed) if needed else set()
    return [
        {"name": name, "address": address, "here": _is_tab(address, here)}
        for name, address in TABS[group]
        if NEEDED.get(address) not in barred
    ]


def _is_here(address: str, here: str) -> bool:
    """Whether the page `here` belongs to the entry of the navigation that leads to `address`."""
    if address == "/":
        return here == "/"
    if address == "/team":
        return any(here.startswith(tab) for _, tab in TABS["organization"])
    return here.startswith(address)


def _is_tab(address: str, here: str) -> bool:
    """Whether the page `here` belongs to the tab that leads to `address`."""
    return here == address or (address != "/account" and here.startswith(f"{address}/"))
