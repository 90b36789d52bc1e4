"""What a reader sees when something goes wrong outside a view: the same frame, and when signed in the way on.

Django calls these by the names in fedportal/urls.py and by CSRF_FAILURE_VIEW.
"""

from __future__ import annotations

import contextlib
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.template import loader

from federations.authentication import actor_of_session
from federations.models import Person

MISSING = {
    "heading": "There is no such page",
    "message": "It does not exist, or it is not meant for you.",
    "next_step": "Check the address, or ask whoever shared it with you.",
}
FORBIDDEN = {
    "heading": "You may not do this",
    "message": "Your account is not allowed to see this page.",
    "next_step": "Ask whoever runs the portal, or an admin of your organization.",
}
OPERATORS_ONLY = {
    "heading": "This is not for you",
    "message": "Only the operators of this portal see these pages.",
    "next_step": "Whatever you do as a member of your organization is on the other pages.",
}
TOO_OLD = {
    "heading": "This form was open for too long",
    "message": "Since it was opened you signed in or out, or the browser sent no cookie. Nothing was changed.",
    "next_step": "Go back, reload the page and send the form again. The browser must accept cookies of this site.",
}
BROKEN = {
    "heading": "Something went wrong on our side",
    "message": "The portal met an error it did not expect. Nothing you entered is half done.",
    "next_step": "Try again in a moment; if it stays, tell the operator of this portal when it happened.",
}


def bad_request(request: Any, exception: Exception | None = None) -> HttpResponse:
    """400. The request is not to be trusted, so nothing is looked up for it."""
    return HttpResponse(loader.render_to_string("400.html"), status=400)


def forbidden(request: Any, exception: Exception | None = None) -> HttpResponse:
    """403."""
    return _page(request, FORBIDDEN, 403)


def operators_only(request: Any) -> HttpResponse:
    """403 for people who are signed in and do not run the portal."""
    return _page(request, OPERATORS_ONLY, 403)


def missing(request: Any, exception: Exception | None = None) -> HttpResponse:
    """404."""
    return _page(request, MISSING, 404)


def too_old(request: Any, reason: str = "") -> HttpResponse:
    """403 for a form whose token is missing or not of this session."""
    return _page(request, TOO_OLD, 403)


def broken(request: Any) -> HttpResponse:
    """500. The frame asks the database, which may be what is broken; then there is a page without it."""
    with contextlib.suppress(Exception):
        return _page(request, BROKEN, 500)
    return HttpResponse(loader.render_to_string("500.html"), status=500)


def _page(request: Any, words: dict[str, str], status: int) -> HttpResponse:
    person = getattr(request, "user", None)
    if isinstance(person, Person) and not hasattr(request, "actor"):
        request.actor = actor_of_session(person, request.session)
    return render(request, "refused.html", words, status=status)
