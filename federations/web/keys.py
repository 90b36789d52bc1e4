"""Keys with which programs act for people."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_date

from federations import permissions, roles, selectors
from federations.models import ApiKey
from federations.services import keys
from federations.web.page import confirm, one_page, own_organization, page
from fedportal.common import clock
from fedwire.errors import FedportalError

# What the form offers: word in the form → words for people.
LASTS = {
    "30": "30 days",
    "90": "90 days",
    "365": "a year",
    "date": "until the date below",
    "never": "until it is revoked",
}
USUAL = "90"
DEVICES = "devices:enroll"


@page("GET", "POST")
def index(request: Any) -> HttpResponse:
    """The keys; POST makes one, whose text is shown this once."""
    organization = own_organization(request)
    said = request.POST
    offered = roles.scopes_of(permissions.role_of(request.actor) or "")
    context: dict[str, Any] = {"said": {"lasts": USUAL}, "chosen": [DEVICES] if DEVICES in offered else []}
    status = 200
    if request.method == "POST":
        try:
            key, text = keys.create(
                request.actor,
                name=said.get("name", "").strip(),
                scopes=said.getlist("scopes"),
                expires_at=_end(said),
                device_limit=_limit(said),
            )
            context |= {"fresh": key, "text": text}
        except FedportalError as error:
            context |= {"error": _named(error, said), "said": said, "chosen": said.getlist("scopes")}
            status = error.status
    rows = one_page(request, selectors.keys(request.actor))
    now = clock.now()
    for row in rows:
        row.state = _state(row, now)
    context |= {
        "rows": rows,
        "scopes": [(scope, words) for scope, words in roles.SCOPE_WORDS.items() if scope in offered],
        "lasts": LASTS.items(),
        "tomorrow": (now + timedelta(days=1)).date(),
        "organization": organization,
    }
    return render(request, "federations/keys.html", context, status=status)


@page("GET", "POST")
def revoke(request: Any, key: str) -> HttpResponse:
    """End a key."""
    found = selectors.find_key(request.actor, key)
    if request.method == "GET":
        consequence = "Programs and devices that use it are refused from now on. Devices keep their own keys."
        return confirm(request, title=f"Revoke {found.name}?", consequence=consequence, button="Revoke", back="/keys")
    keys.revoke(request.actor, found)
    messages.success(request, f"{found.name} is revoked.")
    return redirect("/keys")


def _end(said: Any) -> datetime | None:
    """When the key ends: in some days, at the end of a day (UTC), or never. Raises `field_invalid`."""
    lasts = said.get("lasts", USUAL)
    if lasts == "never":
        return None
    if lasts == "date":
        try:
            day = parse_date(said.get("day", ""))
        except ValueError:
            day = None
        if day is None:
            raise FedportalError("field_invalid", field="day", reason="it is not a date.")
        return datetime.combine(day, time.max, tzinfo=UTC)
    if lasts not in LASTS:
        raise FedportalError("field_invalid", field="lasts", reason="choose one of the answers.")
    return clock.now() + timedelta(days=int(lasts))


def _named(error: FedportalError, said: Any) -> FedportalError:
    """The error with the form's field in place of the service's: a key ends by a choice, or on a day."""
    if error.context.get("field") != "expires_at":
        return error
    field = "day" if said.get("lasts") == "date" else "lasts"
    return FedportalError("field_invalid", field=field, reason=error.context["reason"])


def _limit(said: Any) -> int | None:
    """How many devices the key may register; None: as many as come. Raises `field_invalid`."""
    text = said.get("device_limit", "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise FedportalError("field_invalid", field="device_limit", reason="it is not a whole number below a million.")
    return int(text)


def _state(key: ApiKey, now: datetime) -> str:
    if key.revoked_at:
        return "revoked"
    return "expired" if key.expires_at and key.expires_at <= now else "usable"
