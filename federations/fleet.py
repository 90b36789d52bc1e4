"""What people see of their organization's devices: the list with its filters, the labels, the keys of one device."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Prefetch, Q, QuerySet

from federations import selectors
from federations.models import ApiKey, Device, DeviceGroup, DeviceKey, Organization
from federations.permissions import Actor
from fedportal.common import clock
from fedwire.errors import FedportalError
from fedwire.version import VERSION

# The SDK changes a key at two thirds of its life; one that is older than this was not changed when it should have been.
OVERDUE = 5 / 6


def listed(actor: Actor, *, text: str = "", group: str = "", state: str = "", present: str = "") -> QuerySet[Device]:
    """The devices of the actor's organization by identifier, with groups, living keys and enrolment key at hand.

    `text` is a part of the identifier, platform or SDK version, or an id; `present` is "yes", "no" or "".
    """
    found = selectors.devices(actor, group=group, states=[state] if state else [])
    found = found.select_related("organization", "enrolled_with").prefetch_related(_living_keys())
    if text:
        words = Q(identifier__icontains=text) | Q(platform__icontains=text) | Q(sdk_version__icontains=text)
        found = found.filter(words | Q(public_id=text))
    if present:
        here = Q(last_seen_at__gte=seen_since())
        found = found.filter(here) if present == "yes" else found.exclude(here)
    return found


def labels(organization: Organization) -> QuerySet[DeviceGroup]:
    """The organization's labels, each with `count`, the number of its devices."""
    return DeviceGroup.objects.filter(organization=organization).annotate(count=Count("devices")).order_by("name")


def find_label(organization: Organization, name: str) -> DeviceGroup:
    """The label of this name. Raises `not_found`."""
    found = labels(organization).filter(name=name).first()
    if found is None:
        raise FedportalError("not_found", what="group")
    return found


def keys_of(device: Device, most: int = 10) -> Sequence[DeviceKey]:
    """The device's keys, the newest first."""
    return list(DeviceKey.objects.filter(device=device).order_by("-pk")[:most])


def arrived_with(key: ApiKey) -> QuerySet[Device]:
    """The devices that registered with this enrolment key, the first one first."""
    return Device.objects.filter(enrolled_with=key).select_related("organization").order_by("pk")


def seen_since() -> datetime:
    """Whoever was heard of since then counts as present."""
    return clock.now() - timedelta(seconds=settings.FEDPORTAL_PRESENCE_SECONDS)


def key_ends_at(device: Device) -> datetime | None:
    """When the newest key of a device from `listed` ends; None when it does not, or when there is none."""
    living: list[DeviceKey] = device.living_keys
    return living[0].expires_at if living else None


def key_is_overdue(key: DeviceKey) -> bool:
    """Whether the key ends soon, or has ended, and the device has not changed it when it should have."""
    if key.expires_at is None or key.revoked_at is not None:
        return False
    return clock.now() >= key.created_at + OVERDUE * (key.expires_at - key.created_at)


def has_overdue_key(device: Device) -> bool:
    """`key_is_overdue` of the newest key of a device from `listed`."""
    return bool(device.living_keys) and key_is_overdue(device.living_keys[0])


def is_older(sdk_version: str) -> bool:
    """Whether this is the version of an SDK from before the portal's own."""
    return bool(sdk_version) and _numbers(sdk_version) < _numbers(VERSION)


def _living_keys() -> Prefetch:
    return Prefetch("keys", DeviceKey.objects.filter(revoked_at=None).order_by("-pk"), to_attr="living_keys")


def _numbers(version: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in version.split("+")[0].split(".")]
