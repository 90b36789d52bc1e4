"""Runs and their numbered events."""

from __future__ import annotations

from django.db import models

from federations.models import Federation, Organization, Person
from fedportal.common import clock, ids
from fedwire.states import RunState
from registry.models import Model, ModelVersion


class Run(models.Model):
    """One training of one model in one federation; what `config` holds is decided in `training.services.configs`."""

    public_id = models.CharField(max_length=32, unique=True, default=ids.run_id, editable=False)
    name = models.CharField(max_length=100, blank=True)  # what whoever started it calls it; "" for none
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="runs")  # who started it
    federation = models.ForeignKey(Federation, models.PROTECT, related_name="runs")
    model = models.ForeignKey(Model, models.PROTECT, related_name="runs")
    base_version = models.ForeignKey(ModelVersion, models.PROTECT, related_name="+")
    result_version = models.ForeignKey(ModelVersion, models.SET_NULL, null=True, blank=True, related_name="+")
    strategy = models.CharField(max_length=40, default="fedavg")
    # seed, standardise, evaluate, best, codec (its plan; None: plain), most_update_bytes, local (what stays on the
    # devices; None: nothing), privacy (see `training.privacy.protection`; None: nothing), "parameters" of the strategy
    config = models.JSONField(default=dict)
    # Whom a round asks and when it closes, see `training.services.terms`; {}: everybody, and when all have answered
    plan = models.JSONField(default=dict, blank=True)
    group = models.CharField(max_length=60, blank=True)  # only devices with this label; empty: all
    total_rounds = models.PositiveIntegerField()
    current_round = models.PositiveIntegerField(default=0)  # training rounds closed
    min_participants = models.PositiveIntegerField(default=1)
    round_seconds = models.PositiveIntegerField(default=600)
    state = models.CharField(max_length=12, choices=[(s, s) for s in RunState], default=RunState.PENDING)
    reason = models.TextField(blank=True)  # why it failed or was stopped
    # {"mean": […], "std": […], "samples": n} once round 0 has pooled the organizations' statistics
    standardisation = models.JSONField(null=True, blank=True)
    # The training round whose model did best so far on the held-out rows of the organizations that measured it and the
    # best before it; 0 is the base. `best_value` is what it was chosen by (config["best"]), `best_loss` its loss.
    best_round = models.PositiveIntegerField(null=True, blank=True)
    best_loss = models.FloatField(null=True, blank=True)
    best_value = models.FloatField(null=True, blank=True)
    # What each organization gave in the closed rounds; see `training.services.giving`.
    given = models.JSONField(default=dict)
    sequence = models.PositiveBigIntegerField(default=0)  # number of the last event
    started_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        # What `federations.permissions` grants beside Django's own `view_run`.
        permissions = [("control_run", "Can pause, resume and stop the run")]

    def __str__(self) -> str:
        return f"{self.model} in {self.federation} ({self.state})"


class RunEvent(models.Model):
    """Something that happened in a run, numbered without gaps from 1; browsers follow the numbers."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    run = models.ForeignKey(Run, models.CASCADE, related_name="events")
    sequence = models.PositiveBigIntegerField()
    at = models.DateTimeField(default=clock.now)
    kind = models.CharField(max_length=40)  # "round.opened", "assignment.changed", "run.paused", …
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["run_id", "sequence"]
        constraints = [models.UniqueConstraint(fields=["run", "sequence"], name="one_event_per_number")]

    def __str__(self) -> str:
        return f"#{self.sequence} {self.kind}"


class Pulse(models.Model):
    """When the sweeper last passed: a gap is downtime, by which open deadlines are extended. One row, id 1."""

    beat_at = models.DateTimeField()
    # The last gap: when it ended and how long it was. Right after it, devices had no chance yet to show themselves.
    back_at = models.DateTimeField(null=True, blank=True)
    down_seconds = models.FloatField(default=0)

    def __str__(self) -> str:
        return f"last beat at {self.beat_at:%Y-%m-%d %H:%M:%S}"
