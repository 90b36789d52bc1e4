"""Outgoing mail: written in the transaction that causes it, sent afterwards, tried again until it left."""

from __future__ import annotations

from django.db import models

from federations.models.organizations import Organization
from fedportal.common import clock


class Letter(models.Model):
    """One letter to one address. Its bodies are blanked once it is sent, because links are secrets.

    A letter with a `topic` tells news; until `held_until` further news of the same topic are put into it.
    """

    organization = models.ForeignKey(Organization, models.CASCADE, null=True, blank=True, related_name="+")
    to = models.EmailField()
    subject = models.CharField(max_length=200)
    text = models.TextField()
    html = models.TextField(blank=True)
    topic = models.CharField(max_length=120, blank=True, db_index=True)
    held_until = models.DateTimeField(null=True, blank=True)
    news = models.JSONField(default=dict, blank=True)  # lines and count, and to whom of what; see `letters.no_news`
    unsubscribe = models.CharField(max_length=500, blank=True)  # a link, for mail programs
    created_at = models.DateTimeField(default=clock.now, editable=False)
    sent_at = models.DateTimeField(null=True, blank=True, db_index=True)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=clock.now)
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.subject} → {self.to}"
