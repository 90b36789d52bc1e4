"""Which devices are there for a run, and who is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet

from federations.models import Device, DeviceKey, Member, Organization
from fedportal.common import clock
from fedwire.states import AssignmentState, DeviceState, MemberState, RunState
from training.models import Assignment, Pulse, Run
from training.wording import Party

# A number that every JSON reader keeps exact.
SEED_BITS = 53


def available(run: Run, among: Iterable[int] | None = None) -> list[Device]:
    """The devices that can take part now, in a fixed order, with their organizations.

    Active devices of active members, in the run's group, with a usable key, heard of within
    FEDPORTAL_PRESENCE_SECONDS, and, if they declined a part of this run, heard of since. `among`: only these.
    """
    now = clock.now()
    declined = Assignment.objects.filter(
        device=OuterRef("pk"),
        round__run=run,
        state=AssignmentState.DECLINED,
        changed_at__gt=OuterRef("last_seen_at"),
    )
    usable = DeviceKey.objects.filter(
        Q(expires_at__isnull=True) | Q(expires_at__gt=now), device=OuterRef("pk"), revoked_at__isnull=True
    )
    devices = of_members(run).filter(Exists(usable), ~Exists(declined), last_seen_at__gte=seen_since(now))
    if among is not None:
        devices = devices.filter(pk__in=list(among))
    columns = ("public_id", "identifier", "last_seen_at", "organization__public_id", "organization__name")
    ordered = devices.order_by("organization__name", "identifier").select_related("organization")
    return list(ordered.only(*columns))


def of_members(run: Run) -> QuerySet[Device]:
    """Every device that may take part when it is there."""
    member = Member.objects.filter(
        federation_id=run.federation_id, organization=OuterRef("organization_id"), state=MemberState.ACTIVE
    )
    devices = Device.objects.filter(Exists(member), state=DeviceState.ACTIVE, organization__suspended_at__isnull=True)
    return devices.filter(groups__name=run.group) if run.group else devices


def without_any(run: Run, present: Iterable[int]) -> list[str]:
    """The names of the active members beside those whose primary keys are `present`."""
    members = Organization.objects.filter(
        federation_members__federation_id=run.federation_id, federation_members__state=MemberState.ACTIVE
    )
    return list(members.exclude(pk__in=set(present)).order_by("name").values_list("name", flat=True))


def came_to_wait(device_pks: Iterable[int]) -> None:
    """These devices wait for work. Those that declined lately are thereby heard of again, and asked again."""
    declined = Assignment.objects.filter(
        device=OuterRef("pk"),
        state=AssignmentState.DECLINED,
        round__run__state=RunState.RUNNING,
        changed_at__gt=OuterRef("last_seen_at"),
    )
    Device.objects.filter(Exists(declined), pk__in=list(device_pks)).update(last_seen_at=clock.now())


def party_of(device: Device) -> Party:
    """The device as it is shown."""
    organization = device.organization
    return Party(device.public_id, device.identifier, organization.public_id, organization.name)


def seed_for(run_seed: int, number: int, party: Party) -> int:
    """The seed of a device's work in a round: the same for another attempt, and in any portal with the same names."""
    text = f"{run_seed}\n{number}\n{party.organization}\n{party.identifier}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> (64 - SEED_BITS)


def seen_since(now: datetime) -> datetime:
    """Since when a device must have been seen. Right after a downtime this reaches back to before it: whoever was
    there then is taken to be there still, until it had the time to show that it is not."""
    presence = timedelta(seconds=settings.FEDPORTAL_PRESENCE_SECONDS)
    pulse = Pulse.objects.filter(back_at__gt=now - presence).values_list("down_seconds", flat=True).first()
    return now - presence - timedelta(seconds=pulse or 0)
