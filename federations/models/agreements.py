"""What the members of a federation agree on: the study agreement, and who accepted which version of it."""

from __future__ import annotations

from django.db import models

from federations.models.federations import Federation
from federations.models.organizations import Organization, Person
from fedportal.common import clock, ids


class Agreement(models.Model):
    """A version of a federation's study agreement. It never changes; the highest version is the one that holds."""

    public_id = models.CharField(max_length=32, unique=True, default=ids.agr_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")  # the federation's owner
    federation = models.ForeignKey(Federation, models.CASCADE, related_name="agreements")
    version = models.PositiveIntegerField()
    title = models.CharField(max_length=200)
    text = models.TextField()
    digest = models.CharField(max_length=64, editable=False)  # SHA-256 of title, newline, text
    expires_at = models.DateTimeField(null=True, blank=True)  # empty: it holds until a new version is published
    published_at = models.DateTimeField(default=clock.now, editable=False)
    published_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")
    reminded_at = models.DateTimeField(null=True, blank=True)  # when the members were told that it expires soon
    expiry_told_at = models.DateTimeField(null=True, blank=True)  # when they were told that it has expired

    class Meta:
        ordering = ["federation_id", "-version"]
        constraints = [models.UniqueConstraint(fields=["federation", "version"], name="one_agreement_per_version")]

    def __str__(self) -> str:
        return f"{self.title} (version {self.version})"


class Acceptance(models.Model):
    """An organization accepted a version of an agreement, by one of its people."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="acceptances")
    agreement = models.ForeignKey(Agreement, models.CASCADE, related_name="acceptances")
    person = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")
    accepted_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ["agreement_id", "id"]
        constraints = [models.UniqueConstraint(fields=["agreement", "organization"], name="one_acceptance_each")]

    def __str__(self) -> str:
        return f"{self.organization} accepted {self.agreement}"
