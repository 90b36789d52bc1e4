"""The log of one's own organization."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render

from federations import permissions, selectors
from federations.web.page import one_page, own_organization, page


@page()
def audit(request: Any) -> HttpResponse:
    """The organization's log, newest first."""
    organization = own_organization(request)
    permissions.require(request.actor, "organization.view_audit", organization)
    return render(
        request, "federations/audit.html", {"rows": one_page(request, selectors.audit_entries(organization), 50)}
    )
