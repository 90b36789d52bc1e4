"""Tries that are counted: sign-ins, invitation links."""

from __future__ import annotations

from django.db import models


class Tries(models.Model):
    """When somebody last tried something, so that guessing can be slowed down. Addresses are kept as hashes."""

    subject = models.CharField(max_length=64, unique=True)  # SHA-256 of what is counted and for whom
    times = models.JSONField(default=list)  # Unix seconds, oldest first
    keep_until = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name_plural = "tries"
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{len(self.times)} tries of {self.subject[:8]}…"
