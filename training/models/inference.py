"""Federated inference: who consented to it, what was asked of devices, and what came of it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from federations.models import Device, DeviceTask, Federation, Organization, Person
from fedportal.common import clock, ids
from fedwire.inference import DEFAULT_COUNT
from fedwire.states import AskedState, InferenceState
from registry.models import Model, ModelVersion

ALIVE_PLANS = (InferenceState.PLANNED, InferenceState.RUNNING)
UNANSWERED = (AskedState.OFFERED, AskedState.WORKING)


class InferenceConsent(models.Model):
    """That an organization lets a federation's plans run on its devices, and how far. Without a row, or with one that
    was withdrawn, none does.

    `summaries`: which it allows. `least_count`: no plan that shows smaller cells. `least_noise`: none with less; 0:
    also without. `plans_a_month`: in 30 days; those with noise are not counted for who has a privacy budget.
    """

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    federation = models.ForeignKey(Federation, models.CASCADE, related_name="inference_consents")
    summaries = models.JSONField(default=list)
    least_count = models.PositiveIntegerField(default=DEFAULT_COUNT)
    least_noise = models.FloatField(default=0.0)
    plans_a_month = models.PositiveIntegerField(default=10)
    given_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")
    given_at = models.DateTimeField(default=clock.now)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["federation", "organization"], name="one_consent_each")]

    def __str__(self) -> str:
        return f"consent of {self.organization} in {self.federation}"


class InferencePlan(models.Model):
    """A plan: a version of a model, what its devices count, and when that is shown.

    `asked` is `fedwire.inference.Asked` as JSON. `result` holds what was released, and nothing else ever is.
    `left_out`: the name of each member that was not asked, with the reason.
    """

    public_id = models.CharField(max_length=32, unique=True, default=ids.inf_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")  # whose plan it is
    federation = models.ForeignKey(Federation, models.PROTECT, related_name="inference_plans")
    model = models.ForeignKey(Model, models.PROTECT, related_name="+")
    version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    name = models.CharField(max_length=100, blank=True)
    asked = models.JSONField()
    delta = models.FloatField()  # for which its ε is stated; without noise of no use
    least_devices = models.PositiveIntegerField()
    least_organizations = models.PositiveIntegerField()
    seconds = models.PositiveIntegerField()
    state = models.CharField(max_length=12, choices=[(s, s) for s in InferenceState], default=InferenceState.PLANNED)
    reason = models.CharField(max_length=300, blank=True)
    left_out = models.JSONField(default=dict, blank=True)
    result = models.JSONField(null=True, blank=True)
    created_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    deadline = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["deadline"], condition=Q(state="running"), name="running_inferences"),
            models.Index(fields=["federation", "version"], name="inferences_of_a_version"),
        ]

    def __str__(self) -> str:
        return f"{self.public_id} of {self.model} in {self.federation}"


class InferencePart(models.Model):
    """What one device was asked for in a plan. `cells` are there only while the plan runs: they are added up at its
    end, or erased. `seen`: something that the device counted reached the portal, whether it counted or not."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    plan = models.ForeignKey(InferencePlan, models.CASCADE, related_name="parts")
    device = models.ForeignKey(Device, models.CASCADE, related_name="+")
    task = models.OneToOneField(DeviceTask, models.SET_NULL, null=True, related_name="+")
    state = models.CharField(max_length=12, choices=[(s, s) for s in AskedState], default=AskedState.OFFERED)
    cells = models.JSONField(null=True, blank=True)
    seen = models.BooleanField(default=False)
    reason = models.CharField(max_length=300, blank=True)
    changed_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["plan", "device"], name="one_part_in_a_plan")]
        indexes = [models.Index(fields=["plan", "state"], name="parts_of_a_plan")]

    def __str__(self) -> str:
        return f"{self.device} in {self.plan_id} ({self.state})"
