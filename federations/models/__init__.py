"""Organizations, people, federations, invitations, devices, their tasks, audit and outgoing mail."""

from federations.models.audit import AuditEntry
from federations.models.device_tasks import DeviceTask
from federations.models.devices import Device, DeviceGroup, DeviceKey
from federations.models.federations import Federation, Member
from federations.models.invitations import Invitation
from federations.models.organizations import ApiKey, Membership, Organization, Person, Role
from federations.models.outbox import Letter

__all__ = [
    "ApiKey",
    "AuditEntry",
    "Device",
    "DeviceGroup",
    "DeviceKey",
    "DeviceTask",
    "Federation",
    "Invitation",
    "Letter",
    "Member",
    "Membership",
    "Organization",
    "Person",
    "Role",
]
