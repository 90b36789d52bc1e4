"""One's own devices: the list, each of them, their groups, and the line that makes a machine one of them."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render

from federations import above, fleet, permissions, selectors
from federations.models import ApiKey, Device, Organization
from federations.permissions import Actor
from federations.services import device_groups, devices
from federations.web.page import confirm, may, one_page, own_organization, page
from fedportal.common import clock
from fedwire.errors import FedportalError
from fedwire.states import DeviceState
from fedwire.version import VERSION

FILTERS = ("text", "state", "group", "present")
# As many of the devices that came with one line are shown.
MOST_ARRIVALS = 200
DEFAULTS = {"data": "patients.csv", "target": "diagnosis", "days": "7", "device_limit": "1"}


# What the SDK says of a machine → what the page calls it.
CAPABILITIES = {
    "architecture": "Architecture",
    "cpus": "Processors",
    "devices_behind": "Devices behind this edge",
    "gpus": "Graphics processors",
    "memory_mb": "Memory",
    "python": "Python",
}


@dataclass(frozen=True)
class Act:
    """Something a person does to a device: the service, what will happen, and what is said afterwards."""

    service: Callable[[Actor, Device], Device]
    title: str
    button: str
    consequence: str
    done: str
    states: tuple[DeviceState, ...] = (DeviceState.ACTIVE, DeviceState.QUARANTINED)
    danger: bool = False


ACTS = {
    "quarantine": Act(
        devices.quarantine,
        "Quarantine {device}?",
        "Quarantine",
        "It gets no more work until you restore it. It keeps its keys; what it has already sent counts.",
        "{device} is in quarantine: it gets no work until you restore it.",
        (DeviceState.ACTIVE,),
    ),
    "restore": Act(
        devices.restore,
        "Restore {device}?",
        "Restore",
        "It takes part again from the next round on.",
        "{device} takes part again from the next round on.",
        (DeviceState.QUARANTINED,),
    ),
    "renew": Act(
        devices.renew,
        "Let {device} get a fresh key?",
        "End its keys",
        "Its present keys end at once. {renewal}",
        "The keys of {device} have ended. It takes part again once it has a fresh one.",
    ),
    "reset": Act(
        devices.reset,
        "Reset {device}?",
        "Reset",
        "For a machine that was replaced or has lost its folder ~/.fedportal. Its keys end at once, and whoever "
        "registers as {device} next, with an enrolment key of yours, becomes this device.",
        "{device} may register again, with another key pair. Make it a line to paste.",
        danger=True,
    ),
    "retire": Act(
        devices.retire,
        "Retire {device}?",
        "Retire",
        "Its service is over: it takes part in nothing any more and its keys end. This cannot be undone, and its name "
        "is not given again. What it has given to models stays.",
        "{device} is retired.",
        danger=True,
    ),
    "revoke": Act(
        devices.revoke,
        "Revoke {device}?",
        "Revoke",
        "For a machine that is lost or not to be trusted: it is locked out within a second. This cannot be undone, and "
        "its name is not given again. What it has already sent counts.",
        "{device} is revoked and locked out.",
        danger=True,
    ),
}


@page()
def index(request: Any) -> HttpResponse:
    """The devices, filtered."""
    organization = own_organization(request)
    asked = {name: request.GET.get(name, "").strip() for name in FILTERS}
    rows = one_page(request, fleet.listed(request.actor, **asked))
    for row in rows:
        _tell_more(row)
    context = {
        "rows": rows,
        "asked": asked,
        "filtered": any(asked.values()),
        "query": urlencode({name: value for name, value in asked.items() if value} | {"": ""}).removesuffix("="),
        "groups": fleet.labels(organization),
        "states": list(DeviceState),
        "may_manage": may(request, "organization.manage_devices", organization),
        "may_enroll": may(request, "organization.enroll_devices", organization),
    }
    return render(request, "federations/devices.html", context)


@page("GET", "POST")
def new(request: Any) -> HttpResponse:
    """How to make a machine a device; POST makes the enrolment key and shows the line to paste, this once."""
    organization = own_organization(request)
    permissions.require(request.actor, "organization.enroll_devices", organization)
    said = (
        request.POST
        if request.method == "POST"
        else {**DEFAULTS, "identifier": _free_name(request.actor, organization)}
    )
    context: dict[str, Any] = {"said": said, "groups": fleet.labels(organization)}
    if request.method == "POST":
        try:
            context |= _line_for(request.actor, said)
        except FedportalError as error:
            context["error"] = error
    status = context["error"].status if "error" in context else 200
    return render(request, "federations/device_new.html", context, status=status)


@page()
def arrivals(request: Any, key: str) -> HttpResponse:
    """The devices that have registered with an enrolment key."""
    found = selectors.find_key(request.actor, key)
    return render(request, "federations/device_arrivals.html", _arrivals(found))


@page()
def one(request: Any, device: str) -> HttpResponse:
    """One device: what it is, its keys, what it did lately, and what one may do with it."""
    found = selectors.find(request.actor, fleet.listed(request.actor), device, "device", field="identifier")
    _tell_more(found)
    manages = may(request, "organization.manage_devices", found.organization)
    keys = [(key, _state_of_key(key)) for key in fleet.keys_of(found)]
    context = {
        "device": found,
        "keys": keys,
        "capabilities": _capabilities(found),
        "parts": above.parts_of(found),
        "may_manage": manages,
        "acts": [(name, act) for name, act in ACTS.items() if manages and found.state in act.states],
        "ended": found.state in (DeviceState.REVOKED, DeviceState.RETIRED),
    }
    return render(request, "federations/device.html", context)


@page("GET", "POST")
def act(request: Any, device: str, act: str) -> HttpResponse:
    """Quarantine, restore, renew, reset, retire or revoke a device."""
    found = selectors.find_device(request.actor, device)
    if act not in ACTS:
        raise FedportalError("not_found", what="page")
    wanted, back = ACTS[act], f"/devices/{found.public_id}"
    if request.method == "GET":
        permissions.require(request.actor, "organization.manage_devices", found.organization)
        words = {"device": found.identifier, "renewal": _renewal(found)}
        title, consequence = wanted.title.format(**words), wanted.consequence.format(**words)
        return confirm(request, title=title, consequence=consequence, button=wanted.button, back=back)
    wanted.service(request.actor, found)
    messages.success(request, wanted.done.format(device=found.identifier))
    return redirect(back)


@page("POST")
def groups_of_one(request: Any, device: str) -> HttpResponse:
    """Put a device into the groups that were typed, separated by commas."""
    found = selectors.find_device(request.actor, device)
    names = [name.strip() for name in request.POST.get("groups", "").split(",") if name.strip()]
    devices.set_groups(request.actor, found, names)
    messages.success(request, f"{found.identifier} is in {', '.join(names) or 'no group'}.")
    return redirect(f"/devices/{found.public_id}")


@page("POST")
def groups_of_several(request: Any) -> HttpResponse:
    """Put the chosen devices into a group, or take them out of it."""
    organization = own_organization(request)
    chosen = list(selectors.devices(request.actor).filter(public_id__in=request.POST.getlist("device")))
    name, takes = request.POST.get("group", "").strip(), request.POST.get("act") == "take"
    wish = {"take": name} if takes else {"add": name}
    count = device_groups.assign(request.actor, organization, chosen, **wish)
    counted = "1 device is" if count == 1 else f"{count} devices are"
    messages.success(request, f"{counted} {'no longer ' if takes else ''}in {name}.")
    return redirect("/devices")


@page("GET", "POST")
def groups(request: Any) -> HttpResponse:
    """The groups with the number of their devices; POST renames one."""
    organization = own_organization(request)
    permissions.require(request.actor, "organization.manage_devices", organization)
    if request.method == "POST":
        label = fleet.find_label(organization, request.POST.get("group", ""))
        before = label.name
        device_groups.rename(request.actor, label, request.POST.get("name", ""))
        messages.success(request, f"{before} is called {label.name} now.")
        return redirect("/devices/groups/names")
    return render(request, "federations/device_groups.html", {"rows": one_page(request, fleet.labels(organization))})


@page("GET", "POST")
def group_remove(request: Any) -> HttpResponse:
    """Take a group away, of all devices."""
    organization = own_organization(request)
    permissions.require(request.actor, "organization.manage_devices", organization)
    label = fleet.find_label(organization, request.GET.get("group", ""))
    if request.method == "GET":
        counted = "1 device is" if label.count == 1 else f"{label.count} devices are"
        consequence = f"{counted} in it and will not be. Runs that ask for this group no longer ask your devices."
        title = f"Remove the group {label.name}?"
        return confirm(request, title=title, consequence=consequence, button="Remove", back="/devices/groups/names")
    device_groups.remove(request.actor, label)
    messages.success(request, f"The group {label.name} is removed.")
    return redirect("/devices/groups/names")


def line(key: str, said: Any) -> str:
    """The one line that makes a machine with python3 a device, run in a shell there."""
    url = settings.FEDPORTAL_PUBLIC_URL
    wheel = f"{url}/sdk/fedportal_sdk-{VERSION}-py3-none-any.whl"
    steps = (
        "python3 -m venv fedportal",
        f"fedportal/bin/pip install --quiet {shlex.quote(wheel)}",
        f"FEDPORTAL_URL={shlex.quote(url)} FEDPORTAL_API_KEY={key} {_command(said)}",
    )
    return " && ".join(steps)


def _command(said: Any) -> str:
    """What runs on the machine, from the folder in which the SDK was installed."""
    words = ["fedportal/bin/fedportal", "device", "run", "--data", said["data"], "--target", said["target"]]
    for name in ("identifier", "group", "least_records"):
        if said.get(name):
            words += [f"--{name.replace('_', '-')}", said[name]]
    return f"{shlex.join(words)} --forever"


def _line_for(actor: Actor, form: Any) -> dict[str, Any]:
    """The line for what the form says, with its fresh key. Raises `field_invalid`, `forbidden`."""
    names = ("identifier", "data", "target", "group", "least_records", "days", "device_limit")
    said = {name: form.get(name, "").strip() for name in names}
    for name in ("data", "target"):
        if not said[name] or not said[name].isprintable() or len(said[name]) > 500 or said[name].startswith("-"):
            raise FedportalError("field_invalid", field=name, reason="it is needed, in plain text.")
    numbers = {name: _whole(name, said[name]) for name in ("days", "device_limit")}
    if said["least_records"]:
        said["least_records"] = str(_whole("least_records", said["least_records"]))
    devices.check_wish(said["identifier"], said["group"])
    if said["identifier"] and numbers["device_limit"] > 1:
        reason = "several machines cannot have one name; leave it empty, and each takes its host's name."
        raise FedportalError("field_invalid", field="identifier", reason=reason)
    key, text = devices.invite(actor, name=f"to register {said['identifier'] or 'devices'}", **numbers)
    unit = _command(said).replace("%", "%%").replace("$", "$$")  # systemd reads these by itself
    return {"line": line(text, said), "command": unit, "url": settings.FEDPORTAL_PUBLIC_URL, **_arrivals(key)}


def _arrivals(key: ApiKey) -> dict[str, Any]:
    arrived = list(fleet.arrived_with(key)[:MOST_ARRIVALS])
    for device in arrived:
        device.present = selectors.is_present(device)
    over = bool(key.revoked_at) or (key.expires_at is not None and key.expires_at <= clock.now())
    complete = key.device_limit is not None and fleet.arrived_with(key).count() >= key.device_limit
    return {"key": key, "arrived": arrived, "waiting": not over and not complete, "over": over}


def _free_name(actor: Actor, organization: Organization) -> str:
    """A name that no device of the organization has, and that tells it from other organizations' devices."""
    plain = unicodedata.normalize("NFKD", organization.name).encode("ascii", "ignore").decode().lower()
    stem = re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "device"
    taken = set(selectors.devices(actor).values_list("identifier", flat=True))
    return next(name for name in (f"{stem}-{number:03d}" for number in range(1, 10_000)) if name not in taken)


def _tell_more(device: Device) -> None:
    """What a page shows of a device beside its columns."""
    device.present = selectors.is_present(device)
    device.is_old = fleet.is_older(device.sdk_version)
    device.key_ends_at = fleet.key_ends_at(device)
    device.key_is_overdue = fleet.has_overdue_key(device)


def _capabilities(device: Device) -> list[tuple[str, str]]:
    """What the device said of its machine, in words and with units; what it calls by other names stays as it is."""
    return [
        (CAPABILITIES.get(name, name.replace("_", " ").capitalize()), _amount(name, value))
        for name, value in sorted(device.capabilities.items(), key=lambda one: (one[0] not in CAPABILITIES, one[0]))
    ]


def _amount(name: str, value: Any) -> str:
    if name == "memory_mb" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value / 1024:.1f} GiB" if value >= 1024 else f"{value} MiB"
    return "none" if name == "gpus" and value == 0 else str(value)


def _state_of_key(key: Any) -> str:
    if key.revoked_at:
        return "ended"
    if key.expires_at and key.expires_at <= clock.now():
        return "expired"
    return "in use" if key.first_used_at else "not used yet"


def _renewal(device: Device) -> str:
    """What becomes of a device whose keys end."""
    key = device.enrolled_with
    if key is not None and not key.revoked_at and (key.expires_at is None or key.expires_at > clock.now()):
        return (
            "If it runs and still has its enrolment key, it registers again by itself within a minute and gets a fresh "
            "one. Otherwise give it a line to paste."
        )
    return (
        "Its enrolment key has ended, so it cannot get a fresh one by itself: make a line to paste, and run it on the "
        "same machine. It stays the same device."
    )


def _whole(field: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise FedportalError("field_invalid", field=field, reason="it is not a whole number.")
    return int(text)
