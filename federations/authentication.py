"""Who asks? A key in the Authorization header, or a browser session; never both."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from federations.models import Device, Organization, Person
from federations.permissions import Actor
from federations.services import keys
from fedwire.errors import FedportalError

# The organization a person acts for in the browser, by public id.
SESSION_ORGANIZATION = "organization"


def actor_from(token: str, cookies: Mapping[str, str]) -> Actor:
    """The actor behind a key or a session cookie.

    Raises `not_authenticated`, `two_credentials`, and what `actor_of_key` raises.
    """
    session_key = cookies.get(settings.SESSION_COOKIE_NAME, "")
    if token:
        if session_key:
            raise FedportalError("two_credentials")
        return actor_of_key(token)
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key or None)
    person = get_user(request)
    if not isinstance(person, Person):
        raise FedportalError("not_authenticated")
    return actor_of_session(person, request.session)


def actor_of_key(token: str) -> Actor:
    """The actor of an API key. Raises `key_invalid`, `key_revoked`, `key_expired`, `organization_suspended`, and
    `forbidden` for the key of a device, which opens the device's own doors only."""
    try:
        key = keys.find_api_key(token)
    except FedportalError as error:
        if error.code == "key_invalid" and _is_device(token):
            raise FedportalError(
                "forbidden", action="use a device's key", who="Use the API key of a person; see `fedportal login`."
            ) from error
        raise
    if not keys.holder_is_member(key):
        raise FedportalError("key_revoked")
    keys.note_use(key)
    return Actor(key.person, key.organization, key)


def actor_of_session(person: Person, session: Any) -> Actor:
    """The person, acting for the organization they chose, or for their first one, or for none."""
    organizations = Organization.objects.filter(memberships__person=person).order_by("memberships__pk")
    chosen = session.get(SESSION_ORGANIZATION)
    organization = (organizations.filter(public_id=chosen).first() if chosen else None) or organizations.first()
    return Actor(person, organization)


def choose_organization(session: Any, organization: Organization) -> None:
    """Let the person of this session act for `organization` from now on. They must be in it."""
    session[SESSION_ORGANIZATION] = organization.public_id


def token_of(header: str) -> str:
    """The key in an Authorization header, "" when there is none. Raises `key_invalid` for another scheme."""
    if not header:
        return ""
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise FedportalError("key_invalid")
    return token.strip()


class KeyAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer edg_…` of an API key. Cookies are not read; a session beside the key is refused."""

    def authenticate(self, request: Request) -> tuple[Person, Actor] | None:
        token = token_of(request.META.get("HTTP_AUTHORIZATION", ""))
        if not token:
            return None
        actor = actor_from(token, request.COOKIES)
        return actor.person, actor

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SessionAuthentication(authentication.SessionAuthentication):
    """A browser session, with Django's protection against forged requests."""

    def authenticate(self, request: Request) -> tuple[Person, Actor] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        return found[0], actor_of_session(found[0], request._request.session)

    def enforce_csrf(self, request: Request) -> None:
        try:
            super().enforce_csrf(request)
        except exceptions.PermissionDenied as error:
            raise FedportalError(
                "forbidden", action="send this from another page", who="Reload the page and try again."
            ) from error


class DeviceAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer edg_…` of a device, for the few addresses of devices that Django answers."""

    def authenticate(self, request: Request) -> tuple[None, Device] | None:
        token = token_of(request.META.get("HTTP_AUTHORIZATION", ""))
        if not token:
            return None
        device, _ = keys.find_device(token)
        return None, device

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def _is_device(token: str) -> bool:
    try:
        keys.find_device(token)
    except FedportalError as error:
        if error.code == "key_invalid":
            return False
        raise
    return True
