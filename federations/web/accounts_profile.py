"""One's own account: name, address, password, and being asked again who one is."""

from __future__ import annotations

import functools
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import selectors
from federations.models import Person
from federations.services import addresses, confirming, people, second_factor, single_sign_on, throttle
from federations.web.accounts import WAITING, safe_target
from federations.web.page import View, page
from federations.web.page import confirm as ask
from fedwire.errors import FedportalError


def confirmed(view: View) -> View:
    """For views inside `page`: ask again who one is, unless that was in the last ten minutes."""

    @functools.wraps(view)
    def wrapped(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        if not confirming.is_confirmed(request.session):
            return redirect(f"/account/confirm?{urlencode({'next': request.path})}")
        return view(request, *args, **kwargs)

    return wrapped


@page("GET", "POST")
def confirm(request: Any) -> HttpResponse:
    """Password, and code where the second factor is on; then back to where one wanted to go."""
    person = request.actor.person
    context: dict[str, Any] = {
        "next": safe_target(request, "/account"),
        "second_factor": second_factor.is_on(person),
    }
    if request.method == "POST":
        said = request.POST
        try:
            confirming.confirm(person, said.get("password", ""), said.get("code", ""), throttle.address_of(request))
        except FedportalError as error:
            return render(request, "account/confirm.html", {**context, "error": error}, status=error.status)
        confirming.note_confirmed(request.session)
        return redirect(context["next"])
    return render(request, "account/confirm.html", context)


@page("GET", "POST")
def profile(request: Any) -> HttpResponse:
    """Name, address and organizations; POST changes the name."""
    person = request.actor.person
    context: dict[str, Any] = {"name": person.name}
    status = 200
    if request.method == "POST":
        try:
            people.rename(person, request.POST.get("name", ""))
            messages.success(request, "Your name is changed.")
            return redirect("/account")
        except FedportalError as error:
            context, status = {"name": request.POST.get("name", ""), "error": error}, error.status
    context |= {
        "memberships": selectors.memberships_of(request.actor),
        "provider": settings.FEDPORTAL_OIDC_NAME if single_sign_on.is_configured() else "",
        "linked": single_sign_on.is_linked(person),
    }
    return render(request, "account/profile.html", context, status=status)


@page("GET", "POST")
@confirmed
def address(request: Any) -> HttpResponse:
    """Another address: a letter with a code goes there."""
    context: dict[str, Any] = {"email": request.POST.get("email", "")}
    if request.method == "POST":
        person, ip = request.actor.person, throttle.address_of(request)
        try:
            request.session[WAITING] = addresses.begin_change(person, context["email"], ip)
        except FedportalError as error:
            return render(request, "account/address.html", {**context, "error": error}, status=error.status)
        return redirect("/account/code")
    return render(request, "account/address.html", context)


@page("GET", "POST")
def address_code(request: Any) -> HttpResponse:
    """The code from the letter to the new address."""
    waiting = request.session.get(WAITING) or {}
    if waiting.get("purpose") != addresses.PURPOSE:
        return redirect("/account")
    again, mail = "/account/address", bool(settings.FEDPORTAL_EMAIL_URL)
    context: dict[str, Any] = {"address": waiting["address"], "again": again, "mail": mail}
    if request.method == "POST":
        person: Person = request.actor.person
        try:
            addresses.finish_change(person, waiting, request.POST.get("code", ""), throttle.address_of(request))
        except FedportalError as error:
            return render(request, "account/code.html", {**context, "error": error}, status=error.status)
        del request.session[WAITING]
        messages.success(request, f"Your address is {person.email} now. Sign in with it from now on.")
        return redirect("/account")
    return render(request, "account/code.html", context)


@page("GET", "POST")
def password(request: Any) -> HttpResponse:
    """Another password; other browsers and all API keys end."""
    if request.method == "POST":
        old, new = request.POST.get("old_password", ""), request.POST.get("new_password", "")
        try:
            people.change_password(request.actor, old, new, throttle.address_of(request))
        except FedportalError as error:
            return render(request, "account/password.html", {"error": error}, status=error.status)
        update_session_auth_hash(request, request.actor.person)
        messages.success(request, "Your password is changed. Everywhere else you are signed out, and your keys ended.")
        return redirect("/account/password")
    return render(request, "account/password.html")


@page("GET", "POST")
@confirmed
def unlink(request: Any) -> HttpResponse:
    """Let single sign-on open the account no more."""
    provider = settings.FEDPORTAL_OIDC_NAME
    if request.method == "GET":
        consequence = f"Your password alone opens your account, until you sign in at {provider} again."
        title = f"Unlink {provider}?"
        return ask(request, title=title, consequence=consequence, button="Unlink", back="/account")
    single_sign_on.unlink(request.actor.person)
    messages.success(request, f"{provider} is unlinked.")
    return redirect("/account")
