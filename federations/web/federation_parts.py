"""What the pages of one federation have in common: their head and their tabs."""

from __future__ import annotations

from typing import Any

from federations import selectors
from federations.models import Federation
from federations.web.page import may


def address_of(federation: Federation) -> str:
    """The federation's page."""
    return f"/federations/{federation.public_id}"


def frame(request: Any, federation: Federation) -> dict[str, Any]:
    """The context of `federations/frame.html`, from which these pages extend."""
    selectors.annotate_own(request.actor, federation)
    own, here = request.actor.organization, request.path
    sees_roster, may_manage = (
        may(request, "federation.view_roster", federation),
        may(request, "federation.manage", federation),
    )
    address = address_of(federation)
    tabs = [("Overview", address, True), ("Study agreement", f"{address}/agreements", True)]
    tabs += [("Inference", f"{address}/inference", sees_roster)]
    tabs += [("Activity", f"{address}/activity", sees_roster), ("Settings", f"{address}/settings", may_manage)]
    return {
        "federation": federation,
        "address": address,
        "sees_roster": sees_roster,
        "may_manage": may_manage,
        "is_owner": own is not None and federation.organization_id == own.pk,
        "own_state": getattr(federation, "own_state", None),
        "federation_tabs": [
            {"name": name, "address": to, "here": here == to or (to != address and here.startswith(f"{to}/"))}
            for name, to, shown in tabs
            if shown
        ],
    }
