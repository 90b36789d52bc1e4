"""Devices: who they are, which keys they hold, which groups they are in."""

from __future__ import annotations

from django.db import models

from federations.models.organizations import ApiKey, Organization
from fedportal.common import clock, ids
from fedwire.states import DeviceState


class DeviceGroup(models.Model):
    """A label on devices, such as `production`."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="device_groups")
    name = models.CharField(max_length=60)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="group_name_per_organization")]

    def __str__(self) -> str:
        return self.name


class Device(models.Model):
    """A machine that trains. Its Ed25519 public key is its identity; the private half never leaves it."""

    public_id = models.CharField(max_length=32, unique=True, default=ids.dev_id, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="devices")
    identifier = models.CharField(max_length=100)
    public_key = models.CharField(max_length=64)  # 32 bytes, hexadecimal; empty after an admin's reset
    certificate = models.TextField(blank=True)  # room for the organization's signature over the key
    state = models.CharField(max_length=12, choices=[(s, s) for s in DeviceState], default=DeviceState.ACTIVE)
    groups = models.ManyToManyField(DeviceGroup, blank=True, related_name="devices")
    platform = models.CharField(max_length=60, blank=True)
    os_version = models.CharField(max_length=100, blank=True)
    sdk_version = models.CharField(max_length=40, blank=True)
    capabilities = models.JSONField(default=dict, blank=True)
    enrolled_with = models.ForeignKey(ApiKey, models.SET_NULL, null=True, blank=True, related_name="devices")
    registered_at = models.DateTimeField(default=clock.now, editable=False)
    last_seen_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        ordering = ["organization_id", "identifier"]
        constraints = [models.UniqueConstraint(fields=["organization", "identifier"], name="one_device_each")]

    def __str__(self) -> str:
        return self.identifier


class DeviceKey(models.Model):
    """A key of a device. A fresh one ends the others when it is first used."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    device = models.ForeignKey(Device, models.CASCADE, related_name="keys")
    lookup = models.CharField(max_length=8, unique=True, editable=False)
    secret_hash = models.CharField(max_length=64, editable=False)
    nonce = models.CharField(max_length=32, null=True, blank=True, editable=False)  # of the registration that made it
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    first_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at"]
        # A registration that was captured on its way is worth nothing the second time.
        constraints = [models.UniqueConstraint(fields=["device", "nonce"], name="one_key_per_nonce")]

    def __str__(self) -> str:
        return f"edg_{self.lookup}… of {self.device}"
