"""Signing in and up, forgotten passwords, and the organization one acts for."""

from __future__ import annotations

from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.account.stages import LoginStageController
from allauth.account.utils import perform_login
from allauth.mfa.stages import AuthenticateStage
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from federations import selectors
from federations.authentication import choose_organization
from federations.models import Person
from federations.services import newcomers, organizations, people, second_factor, single_sign_on, throttle
from federations.web.page import hide_address, page
from fedwire.errors import FedportalError

# What waits for a code from a letter, in the session.
WAITING = "waiting_for_code"


def enter(request: Any, person: Person, target: str = "/") -> HttpResponse:
    """Sign the person in, through all steps of a sign-in: to `target`, or first to the page of the next step."""
    response: HttpResponse = perform_login(request, person, redirect_url=target)
    return response


def safe_target(request: Any, otherwise: str = "/") -> str:
    """Where `next` leads, if that is a page of ours."""
    target = request.POST.get("next") or request.GET.get("next") or otherwise
    return target if url_has_allowed_host_and_scheme(target, {request.get_host()}) else otherwise


@page("GET", "POST", public=True)
def sign_in(request: Any) -> HttpResponse:
    """Email and password."""
    context: dict[str, Any] = {
        "next": safe_target(request),
        "email": request.POST.get("email", ""),
        "provider": settings.FEDPORTAL_OIDC_NAME if single_sign_on.is_configured() else "",
    }
    if request.method == "POST":
        try:
            address = throttle.address_of(request)
            person = people.sign_in(request.POST.get("email", ""), request.POST.get("password", ""), address)
        except FedportalError as error:
            return render(request, "account/sign_in.html", {**context, "error": error}, status=error.status)
        return enter(request, person, context["next"])
    return render(request, "account/sign_in.html", context)


@page("GET", "POST", public=True)
def second_step(request: Any) -> HttpResponse:
    """The second factor of a sign-in whose first step went well."""
    stage = None if request.user.is_authenticated else LoginStageController.enter(request, AuthenticateStage.key)
    person = stage.login.user if stage else None
    if stage is None or not isinstance(person, Person):
        return redirect("/" if request.user.is_authenticated else "/sign-in")
    if request.method == "POST":
        try:
            second_factor.check(person, request.POST.get("code", ""), throttle.address_of(request))
        except FedportalError as error:
            return render(request, "account/second_step.html", {"error": error}, status=error.status)
        record_authentication(request, person, "mfa", type="code")
        response: HttpResponse = stage.exit()
        return response
    return render(request, "account/second_step.html")


@page("POST")
def sign_out(request: Any) -> HttpResponse:
    """End the session."""
    logout(request)
    return redirect("/sign-in")


@page("GET", "POST", public=True)
def sign_up(request: Any) -> HttpResponse:
    """What a person says about themselves; a letter with a code goes to the address."""
    said = {name: request.POST.get(name, "").strip() for name in ("name", "email", "organization_name")}
    if request.method == "POST":
        try:
            address, password = throttle.address_of(request), request.POST.get("password", "")
            waiting = newcomers.begin(said["email"], password, said["name"], said["organization_name"], address)
        except FedportalError as error:
            return render(request, "account/sign_up.html", {**said, "error": error}, status=error.status)
        request.session[WAITING] = waiting
        return redirect("/sign-up/code")
    return render(request, "account/sign_up.html", said)


@page("GET", "POST", public=True)
def sign_up_code(request: Any) -> HttpResponse:
    """The code from the letter: with it the account begins."""
    waiting = request.session.get(WAITING) or {}
    if waiting.get("purpose") != newcomers.PURPOSE:
        return redirect("/" if request.user.is_authenticated else "/sign-up")
    context: dict[str, Any] = {
        "address": waiting["address"],
        "again": "/sign-up",
        "mail": bool(settings.FEDPORTAL_EMAIL_URL),
    }
    if request.method == "POST":
        try:
            person = newcomers.finish(waiting, request.POST.get("code", ""), throttle.address_of(request))
        except FedportalError as error:
            return render(request, "account/code.html", {**context, "error": error}, status=error.status)
        logout(request)  # whoever was signed in here, and what waited
        messages.success(request, "Welcome. Here is what to do first.")
        return enter(request, person)
    return render(request, "account/code.html", context)


@page("GET", "POST", public=True)
def forgot(request: Any) -> HttpResponse:
    """Ask for a letter with a link; the answer is the same whether or not there is such an account."""
    if request.method == "POST":
        people.request_reset(request.POST.get("email", ""), throttle.address_of(request))
        messages.success(request, "If there is an account with this address, a letter with a link is on its way to it.")
        return redirect("/sign-in")
    return render(request, "account/forgot.html")


@page("GET", "POST", public=True)
def reset(request: Any, uid: str, token: str) -> HttpResponse:
    """Choose a new password through the letter's link."""
    person = people.person_of_reset(uid, token)
    context: dict[str, Any] = {"address": person.email}
    if request.method == "POST":
        try:
            people.reset_password(uid, token, request.POST.get("new_password", ""))
        except FedportalError as error:
            return render(request, "account/reset.html", {**context, "error": error}, status=error.status)
        messages.success(request, "Your new password is set. Sign in with it.")
        return redirect("/sign-in")
    response = render(request, "account/reset.html", context)
    return hide_address(response)


@page("POST")
def switch_organization(request: Any) -> HttpResponse:
    """Act for another of one's organizations."""
    wanted = request.POST.get("organization", "")
    for membership in selectors.memberships_of(request.actor):
        if membership.organization.public_id == wanted:
            choose_organization(request.session, membership.organization)
            return redirect("/")
    raise FedportalError("not_found", what="organization")


@page("GET", "POST")
def found_organization(request: Any) -> HttpResponse:
    """Found an organization of one's own, and act for it."""
    said = {"name": request.POST.get("name", "").strip()}
    if request.method == "POST":
        try:
            throttle.before_founding(throttle.address_of(request))
            organization = organizations.found(said["name"], request.actor.person)
        except FedportalError as error:
            return render(request, "account/found.html", {**said, "error": error}, status=error.status)
        choose_organization(request.session, organization)
        messages.success(request, f"{organization.name} is founded, and you are its owner. Here is what to do first.")
        return redirect("/")
    return render(request, "account/found.html", said)
