"""The audit log: read, filtered, checked and taken away as a file."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import render

from federations import log_book, permissions
from federations.models import Organization
from federations.services import audit
from federations.web.page import one_page, own_organization, page
from fedportal.common import clock
from fedwire.errors import FedportalError

ROWS = 50
FORMS = {"jsonl": (log_book.as_json_lines, "application/x-ndjson"), "csv": (log_book.as_csv, "text/csv; charset=utf-8")}


@page("GET", "POST")
def index(request: Any) -> HttpResponse:
    """The organization's log, newest first, filtered; after POST with what a look through its chain found."""
    organization = _readable(request)
    error, wanted = None, log_book.Filter()
    try:
        wanted = log_book.parse(request.GET)
    except FedportalError as refused:
        error = refused
    rows = one_page(request, log_book.entries(organization, wanted), ROWS)
    log_book.name_all(request.actor, rows.object_list)
    said = wanted.said()
    context = {
        "rows": rows,
        "said": said,
        "filtered": bool(said),
        "query": urlencode(said) + "&" if said else "",
        "actions": log_book.actions(organization),
        "error": error,
        "standing": audit.check(request.actor, organization) if request.method == "POST" else None,
    }
    return render(request, "federations/audit.html", context, status=error.status if error else 200)


@page("POST")
def export(request: Any) -> HttpResponse | StreamingHttpResponse:
    """The log, or what the filter leaves of it, as a file; the entry that says so comes after it."""
    organization = _readable(request)
    form = request.POST.get("form", "")
    if form not in FORMS:
        raise FedportalError("field_invalid", field="form", reason="choose jsonl or csv.")
    wanted = log_book.parse(request.POST)
    last = audit.note_export(request.actor, organization, form, wanted.said())
    write, kind = FORMS[form]
    rows = log_book.in_order(log_book.entries(organization, wanted), last)
    response = StreamingHttpResponse(write(rows), content_type=kind)
    name = f"audit-{organization.public_id}-{clock.now():%Y-%m-%d}.{form}"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _readable(request: Any) -> Organization:
    organization = own_organization(request)
    permissions.require(request.actor, "organization.view_audit", organization)
    return organization
