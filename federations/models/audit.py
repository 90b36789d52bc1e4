"""The audit log: one hash chain per organization and one for the portal, from the first row."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models

from federations.models.organizations import Organization


class AuditChain(models.Model):
    """The head of a chain: the number and the hash of its last entry. Whoever appends holds this row's lock."""

    name = models.CharField(max_length=32, primary_key=True)  # an organization's public id, or "portal"
    sequence = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} up to #{self.sequence}"


class AuditRefused(TypeError):
    """Somebody tried to change or delete what may only be appended."""


class AuditQuerySet(models.QuerySet["AuditEntry"]):
    """Entries can be read and created, not changed and not deleted."""

    def update(self, **values: Any) -> NoReturn:
        raise AuditRefused("audit entries are never changed")

    def delete(self) -> NoReturn:
        raise AuditRefused("audit entries are never deleted")

    def bulk_update(self, *args: Any, **options: Any) -> NoReturn:
        raise AuditRefused("audit entries are never changed")


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
    previous_hash = models.CharField(max_length=64, blank=True)
    hash = models.CharField(max_length=64, unique=True)

    objects = AuditQuerySet.as_manager()

    class Meta:
        ordering = ["chain", "sequence"]
        verbose_name_plural = "audit entries"
        constraints = [models.UniqueConstraint(fields=["chain", "sequence"], name="one_entry_per_number")]
        # A federation's history gathers what is about it from the chains of all its members.
        indexes = [models.Index(fields=["subject"], name="entries_about")]

    def __str__(self) -> str:
        return f"{self.chain} #{self.sequence} {self.action}"

    def save(self, *args: Any, **options: Any) -> None:
        """Append a new entry. Raises AuditRefused for one that exists."""
        if not self._state.adding:
            raise AuditRefused("audit entries are never changed")
        super().save(*args, **options)

    def delete(self, *args: Any, **options: Any) -> NoReturn:
        """Refused, always."""
        raise AuditRefused("audit entries are never deleted")
