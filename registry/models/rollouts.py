"""Versions on their way to an organization's devices: rollouts, what each device holds, and how it fares there."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.db.models import Q

from federations.models import Device, DeviceGroup, DeviceTask, Organization, Person
from fedportal.common import clock, ids
from fedwire.states import InstallationState, RolloutState
from registry.delivery.health import Limits
from registry.delivery.placement import WHOLE
from registry.models.experiments import Experiment
from registry.models.models import Model, ModelVersion

ALIVE = (RolloutState.PENDING, RolloutState.ACTIVE, RolloutState.PAUSED)


class Rollout(models.Model):
    """A version goes to a share of the devices of one organization: of its own fleet, whoever owns the model.

    Shares are hundredths of a percent. `steps` is a schedule [[share, seconds], …]: at least so long, and while it is
    well, each share is kept before the next one. What is too bad is decided when the rollout starts.
    """

    public_id = models.CharField(max_length=32, unique=True, default=ids.rol_id, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")  # whose devices these are
    model = models.ForeignKey(Model, models.CASCADE, related_name="rollouts")
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    previous_version = models.ForeignKey(ModelVersion, models.PROTECT, null=True, blank=True, related_name="+")
    # "" : all devices. When the label is taken away, nobody new joins.
    group_name = models.CharField(max_length=60, blank=True)
    group = models.ForeignKey(DeviceGroup, models.SET_NULL, null=True, blank=True, related_name="+")
    share = models.PositiveIntegerField()
    target = models.PositiveIntegerField(default=WHOLE)
    increment = models.PositiveIntegerField(default=1_000)  # what "advance" adds where there is no schedule
    steps = models.JSONField(default=list, blank=True)
    stepped_at = models.DateTimeField(default=clock.now)  # when the present share began
    state = models.CharField(max_length=12, choices=[(s, s) for s in RolloutState], default=RolloutState.PENDING)
    is_rollback = models.BooleanField(default=False)  # it was started to go back to an earlier version
    # Whose better version it gives to all. What devices had before that experiment is what they go back to.
    experiment = models.OneToOneField(Experiment, models.SET_NULL, null=True, blank=True, related_name="rollout")
    # Limits; empty: that is not looked at.
    window_seconds = models.PositiveIntegerField(default=600)
    least = models.PositiveIntegerField(default=50)
    error_rate = models.FloatField(null=True, blank=True)
    latency_ms = models.FloatField(null=True, blank=True)
    accuracy = models.FloatField(null=True, blank=True)
    auto_rollback = models.BooleanField(default=True)
    # The last report with which a limit was crossed; when it was decided to go back; when every device was back.
    crossed_at = models.DateTimeField(null=True, blank=True)
    rolled_back_at = models.DateTimeField(null=True, blank=True)
    restored_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "model"], condition=Q(state__in=ALIVE), name="one_rollout_at_a_time"
            )
        ]

    def __str__(self) -> str:
        return f"{self.version} at {self.organization}"

    @property
    def limits(self) -> Limits:
        """What is too bad for this version."""
        window = timedelta(seconds=self.window_seconds)
        return Limits(window, self.least, self.error_rate, self.latency_ms, self.accuracy)

    @property
    def going_back(self) -> bool:
        """Whether its devices are to return to what they had."""
        return self.state == RolloutState.ROLLED_BACK


class Installation(models.Model):
    """What one device holds of one model, and what it is to hold; None: nothing."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    device = models.ForeignKey(Device, models.CASCADE, related_name="installations")
    model = models.ForeignKey(Model, models.CASCADE, related_name="installations")
    # The rollout or the experiment that last decided about it; also when it went back.
    rollout = models.ForeignKey(Rollout, models.CASCADE, null=True, blank=True, related_name="installations")
    experiment = models.ForeignKey(Experiment, models.CASCADE, null=True, blank=True, related_name="installations")
    wanted = models.ForeignKey(ModelVersion, models.PROTECT, null=True, blank=True, related_name="+")
    installed = models.ForeignKey(ModelVersion, models.PROTECT, null=True, blank=True, related_name="+")
    previous = models.ForeignKey(ModelVersion, models.PROTECT, null=True, blank=True, related_name="+")
    state = models.CharField(
        max_length=12, choices=[(s, s) for s in InstallationState], default=InstallationState.PENDING
    )
    task = models.ForeignKey(DeviceTask, models.SET_NULL, null=True, blank=True, related_name="+")
    error = models.CharField(max_length=300, blank=True)
    changed_at = models.DateTimeField(default=clock.now)
    installed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["device", "model"], name="one_installation_each"),
            models.CheckConstraint(
                condition=Q(rollout=None, experiment__isnull=False) | Q(rollout__isnull=False, experiment=None),
                name="decided_by_one",
            ),
        ]
        indexes = [
            models.Index(fields=["rollout", "state"], name="installations_by_state"),
            models.Index(fields=["experiment", "state"], name="installations_of_arms"),
        ]

    def __str__(self) -> str:
        return f"{self.model} on {self.device} ({self.state})"


class HealthReport(models.Model):
    """A batch of what a device saw of a version; the same batch again counts once. Pruned when it is old."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    device = models.ForeignKey(Device, models.CASCADE, related_name="+")
    # The rollout or running experiment whose version it was made with; None when that is not what either sent there.
    rollout = models.ForeignKey(Rollout, models.CASCADE, null=True, blank=True, related_name="reports")
    experiment = models.ForeignKey(Experiment, models.CASCADE, null=True, blank=True, related_name="reports")
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="+")
    batch = models.CharField(max_length=64)  # the device's own id for it
    at = models.DateTimeField(default=clock.now)  # when it came: devices' clocks are their own
    count = models.PositiveIntegerField()
    errors = models.PositiveIntegerField(default=0)
    latencies = models.JSONField(default=list, blank=True)
    judged = models.PositiveIntegerField(default=0)
    right = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["device", "batch"], name="one_report_per_batch")]
        indexes = [
            models.Index(fields=["rollout", "at"], name="recent_reports"),
            models.Index(fields=["experiment", "at"], name="recent_reports_of_arms"),
            models.Index(fields=["at"], name="old_reports"),
        ]

    def __str__(self) -> str:
        return f"{self.count} predictions of {self.version} on {self.device}"
