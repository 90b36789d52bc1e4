"""Where one is signed in."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations.services import sessions
from federations.web.page import confirm, one_page, page


@page()
def index(request: Any) -> HttpResponse:
    """Every browser in which one is signed in, this one first."""
    rows = one_page(request, sessions.of(request.actor.person, request.session.session_key))
    return render(request, "account/sessions.html", {"rows": rows})


@page("POST")
def end(request: Any, session: int) -> HttpResponse:
    """Sign one browser out."""
    sessions.end(request.actor.person, session)
    messages.success(request, "That browser is signed out.")
    return redirect("/account/sessions")


@page("GET", "POST")
def end_others(request: Any) -> HttpResponse:
    """Sign every other browser out."""
    if request.method == "GET":
        consequence = "Every other browser has to sign in again. API keys and devices go on."
        title = "Sign out everywhere else?"
        return confirm(request, title=title, consequence=consequence, button="Sign out", back="/account/sessions")
    count = sessions.end_others(request.actor.person, request.session.session_key)
    messages.success(request, f"{count} other browser{'' if count == 1 else 's'} signed out.")
    return redirect("/account/sessions")
