"""Organizations, people, federations, invitations, devices, their tasks, audit and outgoing mail."""

from federations.models.audit import AuditChain, AuditEntry, AuditRefused
from federations.models.device_tasks import DeviceTask
from federations.models.devices import Device, DeviceGroup, DeviceKey
from federations.models.federations import Federation, Member
from federations.models.invitations import Invitation
from federations.models.organizations import ROLE_CHOICES, ApiKey, Membership, Organization, Person, Role
from federations.models.outbox import Letter
from federations.models.tries import Tries

__all__ = [
    "ROLE_CHOICES",
    "ApiKey",
    "AuditChain",
    "AuditEntry",
    "AuditRefused",
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
    "Tries",
]
