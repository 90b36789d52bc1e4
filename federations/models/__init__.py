"""Organizations, people, federations, invitations, devices, their tasks, audit and outgoing mail."""

from federations.models.agreements import Acceptance, Agreement
from federations.models.audit import AuditChain, AuditEntry, AuditRefused
from federations.models.device_tasks import DeviceTask
from federations.models.devices import Device, DeviceGroup, DeviceKey
from federations.models.federations import Federation, Member
from federations.models.heartbeats import Heartbeat
from federations.models.invitations import Invitation
from federations.models.notifications import Choice, Delivery, News, Webhook
from federations.models.organizations import ROLE_CHOICES, ApiKey, Membership, Organization, Person, Role
from federations.models.outbox import Letter
from federations.models.policies import Policy
from federations.models.roots import RootEntry
from federations.models.tries import Tries

__all__ = [
    "ROLE_CHOICES",
    "Acceptance",
    "Agreement",
    "ApiKey",
    "AuditChain",
    "AuditEntry",
    "AuditRefused",
    "Choice",
    "Delivery",
    "Device",
    "DeviceGroup",
    "DeviceKey",
    "DeviceTask",
    "Federation",
    "Heartbeat",
    "Invitation",
    "Letter",
    "Member",
    "Membership",
    "News",
    "Organization",
    "Person",
    "Policy",
    "Role",
    "RootEntry",
    "Tries",
    "Webhook",
]
