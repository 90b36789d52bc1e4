"""Labels on devices: put on and taken off many devices at once, renamed, removed."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import IntegrityError, transaction

from federations import permissions
from federations.models import Device, DeviceGroup, Organization
from federations.permissions import Actor
from federations.services import audit, devices
from fedportal.common import live
from fedportal.common.transactions import after_commit, unit
from fedwire.errors import FedportalError


def assign(actor: Actor, organization: Organization, chosen: Sequence[Device], *, add: str = "", take: str = "") -> int:
    """Put the label `add` on these devices of the organization, and take the label `take` off them; how many there are.

    A new name makes a new label. Raises `forbidden`, `field_invalid`, `invalid_name`, and `not_found` for an
    unknown label to take off; then nothing has changed.
    """
    permissions.require(actor, "organization.manage_devices", organization)
    if not chosen or any(device.organization_id != organization.pk for device in chosen):
        raise FedportalError("field_invalid", field="device", reason="choose one or more of your devices.")
    if not (add or take):
        raise FedportalError("field_invalid", field="group", reason="name a group.")
    name = devices.group_name(add, "group") if add else ""
    pks = [device.pk for device in chosen]
    with unit():
        if name:
            label = DeviceGroup.objects.get_or_create(organization=organization, name=name)[0]
            _check_room(chosen, label)
            label.devices.add(*pks)
        if take:
            taken = DeviceGroup.objects.filter(organization=organization, name=take).first()
            if taken is None:
                raise FedportalError("not_found", what="group")
            taken.devices.remove(*pks)
        audit.record(
            organization,
            actor,
            "devices.grouped",
            organization.public_id,
            devices=sorted(device.public_id for device in chosen),
            added=name,
            taken=take,
        )
        after_commit(lambda: live.ring_devices(pks))
    return len(pks)


def rename(actor: Actor, label: DeviceGroup, name: str) -> DeviceGroup:
    """Give the label another name. Raises `forbidden`, `not_found`, `invalid_name`, `name_taken`."""
    permissions.require(actor, "organization.manage_devices", label.organization)
    wanted = devices.group_name(name, "name")
    with unit():
        label = _locked(label)
        before = label.name
        if wanted == before:
            return label
        label.name = wanted
        try:
            with transaction.atomic():
                label.save(update_fields=["name"])
        except IntegrityError as error:
            raise FedportalError("name_taken", what="group", name=wanted) from error
        audit.record(
            label.organization, actor, "group.renamed", label.organization.public_id, before=before, after=wanted
        )
        _ring(label)
    return label


def remove(actor: Actor, label: DeviceGroup) -> None:
    """Take the label off all devices, and away. Raises `forbidden`, and `not_found` when somebody else just did."""
    permissions.require(actor, "organization.manage_devices", label.organization)
    with unit():
        label = _locked(label)
        _ring(label)
        count = label.devices.count()
        label.delete()
        # The log comes last, as with all that is done to labels, so that nobody waits in a circle.
        audit.record(
            label.organization, actor, "group.removed", label.organization.public_id, group=label.name, devices=count
        )


def _locked(label: DeviceGroup) -> DeviceGroup:
    """The label as it is now; nobody else changes it until the unit ends. Raises `not_found` when it is gone."""
    rows = DeviceGroup.objects.select_related("organization").select_for_update(of=("self",))
    found = rows.filter(pk=label.pk).first()
    if found is None:
        raise FedportalError("not_found", what="group")
    return found


def _check_room(chosen: Sequence[Device], label: DeviceGroup) -> None:
    full = [
        device.identifier
        for device in Device.objects.filter(pk__in=[one.pk for one in chosen]).prefetch_related("groups")
        if len({group.pk for group in device.groups.all()} | {label.pk}) > devices.MAX_GROUPS
    ]
    if full:
        reason = f"{full[0]} has {devices.MAX_GROUPS} groups already."
        raise FedportalError("field_invalid", field="group", reason=reason)


def _ring(label: DeviceGroup) -> None:
    pks = list(label.devices.values_list("pk", flat=True))
    after_commit(lambda: live.ring_devices(pks))
