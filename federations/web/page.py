"""What all pages have in common: who asks, which methods, and errors as pages or as messages.

A view parses, calls one service, renders. A `FedportalError` becomes a message with its next step on the page the form
came from, or a page of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.paginator import Page, Paginator
from django.db import OperationalError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, QueryDict
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from federations import permissions
from federations.authentication import actor_of_session
from federations.models import Organization, Person
from federations.permissions import Actor
from federations.services import sessions
from federations.web import labels
from fedwire.errors import FedportalError

View = Callable[..., HttpResponse]
PAGE_SIZE = 25
# Errors that are an answer of their own, whatever the method.
PAGES = {"not_found": "There is no such page", "forbidden": "You may not do this"}


class Visit(HttpRequest):
    """A request with the actor that `page` found out."""

    actor: Actor


def page(*methods: str, public: bool = False) -> Callable[[View], View]:
    """Make a page of a view. Without `public` it is for people who are signed in; others are sent to sign in first."""
    allowed = {*(methods or ("GET",))} | ({"HEAD"} if "GET" in (methods or ("GET",)) else set())

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def wrapped(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method not in allowed:
                return HttpResponseNotAllowed(sorted(allowed))
            person = request.user
            if isinstance(person, Person):
                request.actor = actor_of_session(person, request.session)
                sessions.note(request)
            elif not public:
                return redirect_to_login(request.get_full_path())
            try:
                _check_text(request.POST)
                return view(request, *args, **kwargs)
            except FedportalError as error:
                return refuse(request, error)
            except OperationalError:
                return refuse(request, FedportalError("unavailable"))

        wrapped.methods = methods or ("GET",)  # type: ignore[attr-defined]  # for the table of addresses in the tests
        return wrapped

    return decorate


def _check_text(form: QueryDict) -> None:
    """Raises `field_invalid` for NUL, which no database keeps as text."""
    for field, values in form.lists():
        if "\0" in field or any("\0" in value for value in values):
            raise FedportalError("field_invalid", field=field.replace("\0", ""), reason="it is not plain text.")


def refuse(request: Any, error: FedportalError) -> HttpResponse:
    """The error as a page; after a form as a message on the page the form came from."""
    if request.method == "POST" and error.code not in PAGES:
        messages.error(request, f"{labels.sentence(error)} {error.next_step}")
        return redirect(_page_before(request))
    heading = PAGES.get(error.code, "This did not work")
    context: dict[str, Any] = {
        "heading": heading,
        "message": labels.sentence(error),
        "next_step": error.next_step,
        "back": _back(request),
    }
    if isinstance(error, permissions.Refused):
        context |= {"refused": True, "asked": error.asked, "about": error.about}
    return render(request, "refused.html", context, status=error.status)


def hide_address(response: HttpResponse) -> HttpResponse:
    """For pages whose address is a secret: wherever one goes from here, no more than the portal's origin is told.

    Not `no-referrer`: with it browsers send `Origin: null` with the page's own form, which then looks forged.
    """
    response["Referrer-Policy"] = "strict-origin"
    return response


def own_organization(request: Any) -> Organization:
    """The organization one acts for. Raises `forbidden` for somebody without one."""
    actor: Actor = request.actor
    if actor.organization is None:
        raise FedportalError(
            "forbidden", action="see this", who="Found an organization, or accept an invitation to one."
        )
    return actor.organization


def may(request: Any, action: str, obj: Any) -> bool:
    """Whether to show a button."""
    return obj is not None and permissions.can(request.actor, action, obj)


def one_page(request: Any, rows: QuerySet[Any] | list[Any], size: int = PAGE_SIZE) -> Page[Any]:
    """The page of a list that `?page=` asks for; the nearest one when there is no such page."""
    return Paginator(rows, size).get_page(request.GET.get("page"))


def confirm(request: Any, *, title: str, consequence: str, button: str, back: str) -> HttpResponse:
    """A page that says what will happen and asks for a yes (POST to the same address)."""
    return render(
        request, "parts/confirm.html", {"title": title, "consequence": consequence, "button": button, "back": back}
    )


def _back(request: Any) -> str:
    """Where a refused reader came from; "" when that is nowhere here, or this very page."""
    before = _page_before(request)
    return "" if before == "/" or urlsplit(before).path == request.path else before


def _page_before(request: Any) -> str:
    """The page the form stood on, if it is one of ours; else the form's own address; else the start."""
    before = request.headers.get("referer", "")
    if url_has_allowed_host_and_scheme(before, {request.get_host()}) and urlsplit(before).path:
        return str(before)
    return "/"
