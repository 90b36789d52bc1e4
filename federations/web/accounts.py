"""Signing in and up, forgotten passwords, and the organization one acts for."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import login, logout
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from federations import selectors
from federations.authentication import choose_organization
from federations.services import people, throttle
from federations.web.page import page
from fedwire.errors import FedportalError

BACKEND = "django.contrib.auth.backends.ModelBackend"


@page("GET", "POST", public=True)
def sign_in(request: Any) -> HttpResponse:
    """Email and password."""
    target = request.POST.get("next") or request.GET.get("next") or "/"
    if not url_has_allowed_host_and_scheme(target, {request.get_host()}):
        target = "/"
    context: dict[str, Any] = {"next": target, "email": request.POST.get("email", "")}
    if request.method == "POST":
        try:
            address = throttle.address_of(request)
            person = people.sign_in(request.POST.get("email", ""), request.POST.get("password", ""), address)
        except FedportalError as error:
            return render(request, "federations/sign_in.html", {**context, "error": error}, status=error.status)
        login(request, person, backend=BACKEND)
        return redirect(target)
    return render(request, "federations/sign_in.html", context)


@page("POST")
def sign_out(request: Any) -> HttpResponse:
    """End the session."""
    logout(request)
    return redirect("/sign-in")


@page("GET", "POST", public=True)
def sign_up(request: Any) -> HttpResponse:
    """A person and, if named, their organization."""
    said = {name: request.POST.get(name, "").strip() for name in ("name", "email", "organization_name")}
    if request.method == "POST":
        try:
            throttle.before_sign_up(throttle.address_of(request))
            password = request.POST.get("password", "")
            person = people.sign_up(said["email"], password, said["name"], said["organization_name"])
        except FedportalError as error:
            return render(request, "federations/sign_up.html", {**said, "error": error}, status=error.status)
        login(request, person, backend=BACKEND)
        messages.success(request, "Welcome. Here is what to do first.")
        return redirect("/")
    return render(request, "federations/sign_up.html", said)


@page("GET", "POST", public=True)
def forgot(request: Any) -> HttpResponse:
    """Ask for a letter with a link; the answer is the same whether or not there is such an account."""
    if request.method == "POST":
        people.request_reset(request.POST.get("email", ""), throttle.address_of(request))
        messages.success(request, "If there is an account with this address, a letter with a link is on its way to it.")
        return redirect("/sign-in")
    return render(request, "federations/forgot.html")


@page("GET", "POST", public=True)
def reset(request: Any, uid: str, token: str) -> HttpResponse:
    """Choose a new password through the letter's link."""
    people.person_of_reset(uid, token)
    if request.method == "POST":
        try:
            people.reset_password(uid, token, request.POST.get("new_password", ""))
        except FedportalError as error:
            return render(request, "federations/reset.html", {"error": error}, status=error.status)
        messages.success(request, "Your new password is set. Sign in with it.")
        return redirect("/sign-in")
    return render(request, "federations/reset.html")


@page("POST")
def switch_organization(request: Any) -> HttpResponse:
    """Act for another of one's organizations."""
    wanted = request.POST.get("organization", "")
    for membership in selectors.memberships_of(request.actor):
        if membership.organization.public_id == wanted:
            choose_organization(request.session, membership.organization)
            return redirect("/")
    raise FedportalError("not_found", what="organization")
