"""What an organization allows others to do with its devices and data."""

from __future__ import annotations

from django.db import models

from federations.models.organizations import Organization
from fedportal.common import clock


class Policy(models.Model):
    """An organization's limits; they bind every run its devices are asked to join. No row: the defaults below."""

    organization = models.OneToOneField(Organization, models.CASCADE, related_name="policy")
    # ε that all runs together may spend, and the δ at which it is counted; empty: no limit, and the portal's usual δ.
    privacy_epsilon = models.FloatField(null=True, blank=True)
    privacy_delta = models.FloatField(null=True, blank=True)
    # The disclosure floor: the fewest rows a device trains on, and the fewest of its devices that take part together.
    least_records = models.PositiveIntegerField(default=0)
    least_devices = models.PositiveIntegerField(default=0)
    allowed_strategies = models.JSONField(default=list, blank=True)  # names; empty: all
    residency = models.CharField(max_length=60, blank=True)  # a label such as "EU", shown to the federation
    device_key_days = models.PositiveIntegerField(null=True, blank=True)  # empty: keys of devices do not expire
    auto_rollback = models.BooleanField(default=True)
    rollback_error_rate = models.FloatField(
        default=0.05
    )  # share of failed predictions beyond which a rollout goes back
    changed_at = models.DateTimeField(default=clock.now)

    class Meta:
        verbose_name_plural = "policies"
        ordering = ["organization_id"]

    def __str__(self) -> str:
        return f"policy of {self.organization}"
