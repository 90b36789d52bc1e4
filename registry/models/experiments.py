"""Two versions of a model side by side on an organization's devices, and what each device saw of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from federations.models import Device, DeviceGroup, Federation, Organization, Person
from fedportal.common import clock, ids
from fedwire.states import ExperimentState
from registry.delivery.health import Limits
from registry.delivery.placement import WHOLE
from registry.models.models import Model, ModelVersion


class Experiment(models.Model):
    """The treatment version is compared with the control version on the devices of one organization.

    `share` of the devices, in hundredths of a percent, are treated. What is compared, for how many observations in each
    arm it is planned and what is too bad is decided before it starts, and stays.
    """

    class Metric(models.TextChoices):
        ACCURACY = "accuracy", "accuracy"
        ERROR_RATE = "error_rate", "rate of errors"

    ARMS: ClassVar = [("control", "control"), ("treatment", "treatment")]

    public_id = models.CharField(max_length=32, unique=True, default=ids.exp_id, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")  # whose devices these are
    model = models.ForeignKey(Model, models.CASCADE, related_name="experiments")
    name = models.CharField(max_length=60)
    # To whose members it is open; whose experiment this one joined. Those that run it together are compared together.
    federation = models.ForeignKey(Federation, models.SET_NULL, null=True, blank=True, related_name="+")
    lead = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="followers")
    control = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    treatment = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    share = models.PositiveIntegerField(default=WHOLE // 2)
    # "" : all devices. When the label is taken away, nobody new joins.
    group_name = models.CharField(max_length=60, blank=True)
    group = models.ForeignKey(DeviceGroup, models.SET_NULL, null=True, blank=True, related_name="+")
    metric = models.CharField(max_length=12, choices=Metric.choices, default=Metric.ACCURACY)
    planned = models.PositiveIntegerField(default=1_000)
    # Limits, as those of a rollout, for each arm; empty: that is not looked at.
    window_seconds = models.PositiveIntegerField(default=600)
    least = models.PositiveIntegerField(default=50)
    error_rate = models.FloatField(null=True, blank=True)
    latency_ms = models.FloatField(null=True, blank=True)
    accuracy = models.FloatField(null=True, blank=True)
    auto_stop = models.BooleanField(default=True)  # an arm that is unwell stops it
    state = models.CharField(max_length=12, choices=[(s, s) for s in ExperimentState], default=ExperimentState.DRAFT)
    # The arm that was found better, once, and when. A difference that was found stays found.
    winner = models.CharField(max_length=9, choices=ARMS, blank=True)
    found_at = models.DateTimeField(null=True, blank=True)
    # When it was stopped; the last report with which a limit was crossed; when every device was back.
    stopped_at = models.DateTimeField(null=True, blank=True)
    crossed_at = models.DateTimeField(null=True, blank=True)
    restored_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    promoted_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "model"],
                condition=Q(state=ExperimentState.RUNNING),
                name="one_experiment_at_a_time",
            ),
            models.UniqueConstraint(fields=["lead", "organization"], name="joined_once"),
            models.CheckConstraint(condition=~Q(control=F("treatment")), name="two_versions"),
        ]

    def __str__(self) -> str:
        return f"{self.name} at {self.organization}"

    @property
    def limits(self) -> Limits:
        """What is too bad for an arm."""
        window = timedelta(seconds=self.window_seconds)
        return Limits(window, self.least, self.error_rate, self.latency_ms, self.accuracy)

    @property
    def going_back(self) -> bool:
        """Whether its devices are to return to what they had."""
        return self.state == ExperimentState.STOPPED

    def version_of(self, arm: str) -> ModelVersion:
        """The version of this arm."""
        return self.treatment if arm == "treatment" else self.control


class Participant(models.Model):
    """A device in its arm, for good, and what it reported of the arm's version while the experiment ran."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    experiment = models.ForeignKey(Experiment, models.CASCADE, related_name="participants")
    device = models.ForeignKey(Device, models.CASCADE, related_name="+")
    arm = models.CharField(max_length=9, choices=Experiment.ARMS)
    joined_at = models.DateTimeField(default=clock.now)
    count = models.PositiveBigIntegerField(default=0)
    errors = models.PositiveBigIntegerField(default=0)
    judged = models.PositiveBigIntegerField(default=0)
    right = models.PositiveBigIntegerField(default=0)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["experiment", "device"], name="one_arm_for_a_device")]

    def __str__(self) -> str:
        return f"{self.device} in {self.arm}"
