"""One's own organization: its keys and its log."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import permissions, roles, selectors
from federations.services import keys
from federations.web.page import confirm, one_page, own_organization, page
from fedwire.errors import FedportalError


@page("GET", "POST")
def key_list(request: Any) -> HttpResponse:
    """API keys; POST makes one, whose text is shown this once."""
    own_organization(request)
    context: dict[str, Any] = {"scopes": list(roles.SCOPES)}
    if request.method == "POST":
        limit = request.POST.get("device_limit", "").strip()
        try:
            if limit and not limit.isdigit():
                raise FedportalError("field_invalid", field="device_limit", reason="it is not a whole number.")
            key, text = keys.create(
                request.actor,
                name=request.POST.get("name", "").strip(),
                scopes=request.POST.getlist("scopes"),
                device_limit=int(limit) if limit else None,
            )
            context |= {"fresh": key, "text": text}
        except FedportalError as error:
            context |= {"error": error, "said": request.POST}
    context["rows"] = one_page(request, selectors.keys(request.actor))
    return render(
        request, "federations/keys.html", context, status=context["error"].status if "error" in context else 200
    )


@page("GET", "POST")
def key_revoke(request: Any, key: str) -> HttpResponse:
    """End a key."""
    found = selectors.find_key(request.actor, key)
    if request.method == "GET":
        consequence = "Programs and devices that use it are refused from now on. Devices keep their own keys."
        return confirm(request, title=f"Revoke {found.name}?", consequence=consequence, button="Revoke", back="/keys")
    keys.revoke(request.actor, found)
    messages.success(request, f"{found.name} is revoked.")
    return redirect("/keys")


@page()
def audit(request: Any) -> HttpResponse:
    """The organization's log, newest first."""
    organization = own_organization(request)
    permissions.require(request.actor, "organization.view_audit", organization)
    return render(
        request, "federations/audit.html", {"rows": one_page(request, selectors.audit_entries(organization), 50)}
    )
