"""The operators' site: other people are told that it is not for them, and operators need a second factor, for who is
in there can suspend every organization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html

from federations.models import Person
from federations.services import second_factor
from federations.web import errors

SITE = "/admin/"
SETUP = "/account/second-factor"
OPEN = (f"{SITE}login/", f"{SITE}logout/", f"{SITE}jsi18n/")


def for_operators_only(get_response: Callable[[Any], HttpResponse]) -> Callable[[Any], HttpResponse]:
    """Middleware: whoever is signed in and no operator is told so; to sign in again would not help them."""

    def respond(request: Any) -> HttpResponse:
        if request.path.startswith(SITE) and isinstance(request.user, Person) and not request.user.is_staff:
            return errors.operators_only(request)
        return get_response(request)

    return respond


def second_factor_for_operators(get_response: Callable[[Any], HttpResponse]) -> Callable[[Any], HttpResponse]:
    """Middleware: in production, portal staff without a second factor set one up first; elsewhere they are told to."""

    def respond(request: Any) -> HttpResponse:
        if request.path.startswith(SITE) and not request.path.startswith(OPEN) and _lacks_it(request.user):
            if settings.PRODUCTION:
                messages.error(request, "Operators need a second factor. Turn it on, then open the operators' site.")
                return redirect(SETUP)
            if request.path == SITE and request.method == "GET":
                link = format_html('<a href="{}">Turn a second factor on</a>', SETUP)
                messages.warning(request, format_html("You sign in with a password alone. {}.", link))
        return get_response(request)

    return respond


def _lacks_it(person: Any) -> bool:
    return isinstance(person, Person) and person.is_staff and not second_factor.is_on(person)
