"""The audit log: one hash chain per organization and one for the portal, from the first row."""

from __future__ import annotations

from django.db import models

from federations.models.organizations import Organization


class AuditEntry(models.Model):
    """One act. `hash` covers every column and the hash before it; rows are never changed or deleted."""

    chain = models.CharField(max_length=32)  # an organization's public id, or "portal"
    organization = models.ForeignKey(Organization, models.PROTECT, null=True, blank=True, related_name="audit_entries")
    sequence = models.PositiveBigIntegerField()
    at = models.DateTimeField()
    actor = models.CharField(max_length=64)  # usr_…, key_…, dev_… or "portal"
    action = models.CharField(max_length=64)  # "federation.founded", "device.revoked", …
    subject = models.CharField(max_length=64, blank=True)  # the public id of what was acted on
    details = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64, unique=True)

    class Meta:
        ordering = ["chain", "sequence"]
        verbose_name_plural = "audit entries"
        constraints = [models.UniqueConstraint(fields=["chain", "sequence"], name="one_entry_per_number")]

    def __str__(self) -> str:
        return f"{self.chain} #{self.sequence} {self.action}"
