"""What a version has to pass before it goes to devices, what came of it, and who let one through all the same."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from federations.models import Organization, Person
from fedportal.common import clock
from registry.delivery.gates import Limits
from registry.models.models import Model, ModelVersion


class GatePolicy(models.Model):
    """The limits of a model's versions, set by the organization that owns it; empty: that is not looked at.

    Each change makes the next revision. Reports and overrides are of one revision and say nothing of another.
    """

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")  # the model's owner
    model = models.OneToOneField(Model, models.CASCADE, related_name="gate")
    revision = models.PositiveIntegerField(default=0)
    metric = models.CharField(max_length=20, default="accuracy")
    quality = models.FloatField(null=True, blank=True)
    gap = models.FloatField(null=True, blank=True)
    drift = models.FloatField(null=True, blank=True)
    cosine = models.FloatField(null=True, blank=True)
    size = models.BigIntegerField(null=True, blank=True)
    latency = models.FloatField(null=True, blank=True)
    changed_at = models.DateTimeField(default=clock.now)
    changed_by = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"gate of {self.model}, revision {self.revision}"

    @property
    def limits(self) -> Limits:
        """What a version has to keep to."""
        return Limits(self.metric, self.quality, self.gap, self.drift, self.cosine, self.size, self.latency)


class GateReport(models.Model):
    """A version held against one revision of the limits. `checks`: name, figure, limit, outcome, reason each."""

    class State(models.TextChoices):
        PENDING = "pending"
        PASSED = "passed"
        FAILED = "failed"
        UNKNOWN = "unknown"

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")  # the model's owner
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="gate_reports")
    revision = models.PositiveIntegerField()
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    checks = models.JSONField(default=list, blank=True)
    # The version that was rolled out then; drift is the distance from it.
    against = models.ForeignKey(ModelVersion, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    claimed_at = models.DateTimeField(null=True, blank=True)  # when somebody began to judge; an old claim is void
    judged_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["version", "revision"], name="one_gate_report_each")]

    def __str__(self) -> str:
        return f"{self.version} at revision {self.revision}: {self.state}"


class GateOverride(models.Model):
    """Leave for one version to go to devices although it did not pass one revision of the limits."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")  # the model's owner
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="gate_overrides")
    revision = models.PositiveIntegerField()
    reason = models.CharField(max_length=500)
    at = models.DateTimeField(default=clock.now, editable=False)
    by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    withdrawn_by = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True, related_name="+")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["version", "revision"], condition=Q(withdrawn_at=None), name="one_gate_override_each"
            )
        ]

    def __str__(self) -> str:
        return f"{self.version} at revision {self.revision}, let through"
