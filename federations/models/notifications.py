"""Who wants to hear what: people by email, programs by webhook."""

from __future__ import annotations

from django.db import models

from federations.models.organizations import Organization, Person
from fedportal.common import clock, ids


class Choice(models.Model):
    """Whether a person wants letters of a kind about an organization. No row: the kind's default."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    person = models.ForeignKey(Person, models.CASCADE, related_name="choices")
    kind = models.CharField(max_length=40)
    email = models.BooleanField()

    class Meta:
        verbose_name = "notification choice"
        ordering = ["person_id", "kind"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "person", "kind"], name="one_choice_per_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.person}: {self.kind} {'by email' if self.email else 'not'}"


class News(models.Model):
    """What an organization is told: written in the unit of the act, spread into letters and deliveries after it."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    kind = models.CharField(max_length=40)
    sentence = models.TextField()
    address = models.CharField(max_length=500)
    data = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    spread_at = models.DateTimeField(null=True, blank=True, db_index=True)

    class Meta:
        verbose_name_plural = "news"
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} → {self.organization}"


class Webhook(models.Model):
    """An address of an organization's own that is told what happens.

    Its secret is derived from the portal's pepper, the id and `generation`, so that no copy of it is stored.
    """

    public_id = models.CharField(max_length=32, unique=True, default=ids.whk_id, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="webhooks")
    url = models.URLField(max_length=500)
    kinds = models.JSONField(default=list)  # empty: all
    generation = models.PositiveIntegerField(default=1)  # grows when the secret is renewed
    created_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    disabled_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)  # in a row
    failing_since = models.DateTimeField(null=True, blank=True)  # the first of them

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.url


class Delivery(models.Model):
    """One message to one webhook: written with what it tells, sent after the commit, tried again until it arrives."""

    public_id = models.CharField(max_length=32, unique=True, default=ids.dlv_id, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    webhook = models.ForeignKey(Webhook, models.CASCADE, related_name="deliveries")
    kind = models.CharField(max_length=40)
    payload = models.JSONField()
    created_at = models.DateTimeField(default=clock.now, editable=False, db_index=True)
    tried_since = models.DateTimeField(default=clock.now)  # later than its making when somebody asked for another try
    delivered_at = models.DateTimeField(null=True, blank=True, db_index=True)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=clock.now)
    last_status = models.PositiveIntegerField(null=True, blank=True)
    last_error = models.CharField(max_length=300, blank=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} → {self.webhook}"
