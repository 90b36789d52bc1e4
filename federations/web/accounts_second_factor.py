"""The second factor of one's own account: on, off, recovery codes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations.services import second_factor, throttle
from federations.web.accounts_profile import confirmed
from federations.web.page import confirm, page
from fedportal.common.sealing import Unreadable, seal, unseal
from fedwire.errors import FedportalError

# The secret that is being set up, sealed, in the session.
SETUP = "second_factor_setup"
PLACE = "/account/second-factor"


@page()
def index(request: Any) -> HttpResponse:
    """Whether it is on, and what one can do."""
    person = request.actor.person
    on = second_factor.is_on(person)
    context = {"on": on, "left": second_factor.codes_left(person) if on else 0}
    return render(request, "account/second_factor.html", context)


@page("GET", "POST")
@confirmed
def turn_on(request: Any) -> HttpResponse:
    """A secret as a picture and as text; a code shows that the authenticator has it."""
    person = request.actor.person
    if second_factor.is_on(person):
        return redirect(PLACE)
    secret, status = _secret(request), 200
    context: dict[str, Any] = {}
    if request.method == "POST":
        try:
            codes = second_factor.turn_on(person, secret, request.POST.get("code", ""), throttle.address_of(request))
            del request.session[SETUP]
            return _show_codes(request, codes, "Your second factor is on.")
        except FedportalError as error:
            context, status = {"error": error}, error.status
    grouped = " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))
    context |= {"picture": second_factor.picture(person, secret), "secret": grouped}
    return render(request, "account/second_factor_on.html", context, status=status)


@page("GET", "POST")
@confirmed
def turn_off(request: Any) -> HttpResponse:
    """The password alone opens the account again."""
    if request.method == "GET":
        consequence = "Your password alone opens your account, and the recovery codes no longer work."
        return confirm(
            request, title="Turn the second factor off?", consequence=consequence, button="Turn off", back=PLACE
        )
    second_factor.turn_off(request.actor.person)
    messages.success(request, "Your second factor is off.")
    return redirect(PLACE)


@page("GET", "POST")
@confirmed
def renew_codes(request: Any) -> HttpResponse:
    """New recovery codes; the old ones end."""
    if not second_factor.is_on(request.actor.person):
        return redirect(PLACE)
    if request.method == "GET":
        consequence = "The recovery codes you have no longer work. The new ones are shown once."
        return confirm(
            request, title="Make new recovery codes?", consequence=consequence, button="Make new codes", back=PLACE
        )
    return _show_codes(request, second_factor.renew_codes(request.actor.person), "Your recovery codes are new.")


def _show_codes(request: Any, codes: list[str], done: str) -> HttpResponse:
    text = "fedportal recovery codes of {}\nEach works once, in place of the authenticator's code.\n\n{}\n"
    content = text.format(request.actor.person.email, "\n".join(codes))
    context = {"codes": codes, "done": done, "file": f"data:text/plain;charset=utf-8,{quote(content)}"}
    return render(request, "account/recovery_codes.html", context)


def _secret(request: Any) -> str:
    """The secret that this browser is setting up: the same until it is taken, however often the page is looked at."""
    try:
        return unseal(request.session.get(SETUP, ""))
    except Unreadable:
        secret = second_factor.new_secret()
        request.session[SETUP] = seal(secret)
        return secret
