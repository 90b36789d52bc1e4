"""The study agreement of a federation: read it, accept it, publish the next version, look at older ones."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render

from federations import permissions, selectors
from federations.models import Agreement, Federation
from federations.services import agreements
from federations.services.agreements import Draft
from federations.web.federation_parts import address_of, frame
from federations.web.page import may, one_page, page
from fedwire.errors import FedportalError


@page()
def index(request: Any, federation: str) -> HttpResponse:
    """The current version in full, who accepted it, and the history."""
    found = selectors.find_federation(request.actor, federation)
    holds = selectors.agreements(found).first()
    return _show(request, found, holds, holds)


@page()
def one(request: Any, federation: str, agreement: str) -> HttpResponse:
    """A version in full, be it an old one."""
    found = selectors.find_federation(request.actor, federation)
    shown = agreements.find(found, agreement)
    return _show(request, found, selectors.agreements(found).get(pk=shown.pk), agreements.current(found))


@page("POST")
def accept(request: Any, federation: str, agreement: str) -> HttpResponse:
    """Accept the current version for one's organization."""
    found = selectors.find_own_place(request.actor, federation)
    version = agreements.find(found, agreement)
    if request.POST.get("accept_agreement") != version.public_id:
        own = request.actor.organization
        permissions.require(request.actor, "organization.accept_agreement", own)
        raise FedportalError("field_invalid", field="accept_agreement", reason="tick that you have read it.")
    agreements.accept(request.actor, version)
    messages.success(
        request, f"Accepted version {version.version}. Your devices are asked to take part from the next round."
    )
    return redirect(_address(found))


@page("GET", "POST")
def new(request: Any, federation: str) -> HttpResponse:
    """Publish the next version."""
    found = selectors.find_federation(request.actor, federation)
    permissions.require(request.actor, "federation.manage", found)
    last = agreements.current(found)
    context = {**frame(request, found), "last": last, "next": last.version + 1 if last else 1}
    if request.method == "GET":
        said = {"title": last.title, "text": last.text} if last else {}
        return render(request, "federations/agreement_new.html", context | {"said": said})
    try:
        made = agreements.publish(request.actor, found, draft_of(request.POST))
    except FedportalError as error:
        context |= {"said": request.POST, "error": error}
        return render(request, "federations/agreement_new.html", context, status=error.status)
    messages.success(request, f"Version {made.version} is published, and the members were asked to accept it.")
    return redirect(_address(found))


def draft_of(said: QueryDict) -> Draft:
    """What a form says of a version; it ends with the day that was chosen. Raises `field_invalid`."""
    ends, text = None, said.get("expires_on", "").strip()
    if text:
        try:
            ends = datetime.combine(date.fromisoformat(text), time(23, 59, 59), UTC)
        except ValueError:
            raise FedportalError("field_invalid", field="expires_on", reason="it is not a day.") from None
    try:
        return Draft(said.get("title", ""), said.get("text", ""), ends).checked()
    except FedportalError as error:
        if error.context.get("field") != "expires_at":
            raise
        raise FedportalError("field_invalid", field="expires_on", reason=error.context["reason"]) from error


def _show(request: Any, federation: Federation, shown: Agreement | None, holds: Agreement | None) -> HttpResponse:
    own = request.actor.organization
    signed = list(shown.acceptances.all()) if shown else []
    context = {
        **frame(request, federation),
        "agreement": shown,
        "is_current": shown is not None and holds is not None and shown.pk == holds.pk,
        "expired": shown is not None and agreements.has_expired(shown),
        "own_acceptance": next((row for row in signed if row.organization == own), None),
        "signed": signed,
        "rows": one_page(request, selectors.agreements(federation)),
        "may_accept": may(request, "organization.accept_agreement", own),
    }
    context["missing"] = selectors.yet_to_accept(federation, signed) if context["sees_roster"] and shown else []
    return render(request, "federations/agreement.html", context)


def _address(federation: Federation) -> str:
    return f"{address_of(federation)}/agreements"
