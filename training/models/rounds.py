"""Rounds, assignments and updates."""

from __future__ import annotations

from django.db import models

from federations.models import Device, DeviceTask, Organization
from fedportal.common import clock
from fedwire.states import AssignmentState, RoundKind, RoundState
from training.models.runs import Run


class Round(models.Model):
    """One exchange with a cohort. Number -1 checks the devices, 0 pools statistics, 1 … n train, n+1 evaluates the last
    model."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")  # the run's
    run = models.ForeignKey(Run, models.CASCADE, related_name="rounds")
    number = models.IntegerField()
    attempt = models.PositiveIntegerField(default=1)
    # Of a training round: its model is made of whatever answers are in, and who is slower answers a later round.
    asynchronous = models.BooleanField(default=False)
    kind = models.CharField(max_length=12, choices=[(k, k) for k in RoundKind], default=RoundKind.TRAIN)
    state = models.CharField(max_length=12, choices=[(s, s) for s in RoundState], default=RoundState.OPEN)
    reason = models.TextField(blank=True)
    opened_at = models.DateTimeField(default=clock.now)
    deadline = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    target = models.PositiveIntegerField(null=True, blank=True)  # how many devices it asks; None: everybody
    enough_at = models.DateTimeField(null=True, blank=True)  # when its quorum was met and the grace for others began
    stall_told_at = models.DateTimeField(null=True, blank=True)  # when people were told that it waits for devices
    lease_until = models.DateTimeField(null=True, blank=True)
    fence = models.PositiveIntegerField(default=0)  # grows with every claim; only the last claimant may close
    base_blob = models.CharField(max_length=64)  # sha256 of the model file the devices start from
    result_blob = models.CharField(max_length=64, blank=True)
    # sha256 of what the strategy's server step remembers after this round; empty when it remembers nothing
    state_blob = models.CharField(max_length=64, blank=True)
    digest = models.CharField(max_length=64, blank=True)  # of the result, over the tensor bytes
    # Of the *base* model: {"overall": ratios, "organizations": {id: ratios}}, {} when nobody measured it.
    # With "fairness" and "slices" where there are any; see `training.aggregation.metrics`.
    metrics = models.JSONField(default=dict, blank=True)
    # How old the models were that its answers began from, in rounds: {"0": how many, "1": …}; {} before it is claimed.
    staleness = models.JSONField(default=dict, blank=True)
    staleness_exponent = models.FloatField(default=0.0)  # by which they are discounted, fixed by the claim
    clip = models.FloatField(null=True, blank=True)  # of the next round, where it follows the norms of updates
    drift = models.FloatField(null=True, blank=True)  # how far the result is from the base: ‖w - w₀‖ / ‖w₀‖
    bytes_up = models.BigIntegerField(default=0)
    bytes_down = models.BigIntegerField(default=0)
    # What the updates that closed the round would have taken as float32; 0 where none were sent.
    bytes_plain = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["run_id", "number", "attempt"]
        constraints = [models.UniqueConstraint(fields=["run", "number", "attempt"], name="one_round_per_attempt")]
        indexes = [models.Index(fields=["state", "deadline"], name="overdue_rounds")]

    def __str__(self) -> str:
        return f"round {self.number}.{self.attempt} of {self.run_id} ({self.state})"


class Assignment(models.Model):
    """A device's part in a round."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")  # the device's
    round = models.ForeignKey(Round, models.CASCADE, related_name="assignments")
    device = models.ForeignKey(Device, models.PROTECT, related_name="assignments", db_index=False)
    task = models.OneToOneField(DeviceTask, models.SET_NULL, null=True, related_name="+")
    state = models.CharField(max_length=12, choices=[(s, s) for s in AssignmentState], default=AssignmentState.OFFERED)
    reason = models.CharField(max_length=300, blank=True)
    # {"code", "sentence", "at"} of the last upload or answer that was refused; it may be followed by a better one
    refusal = models.JSONField(null=True, blank=True)
    offered_at = models.DateTimeField(default=clock.now)
    changed_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["round_id", "id"]
        constraints = [models.UniqueConstraint(fields=["round", "device"], name="one_assignment_each")]
        # Whether a device has declined is asked whenever a round opens, among all the parts it ever had.
        # The unfinished parts of a run are few, and lie in as many rounds as its slowest device is behind.
        indexes = [
            models.Index(fields=["device", "state"], name="parts_of_a_device"),
            models.Index(fields=["state", "round"], name="parts_in_a_state"),
        ]

    def __str__(self) -> str:
        return f"{self.device} in {self.round} ({self.state})"


class Update(models.Model):
    """What a device sent for a round: exactly one, acknowledged, never changed.

    `round` is the round whose model it began from, `counted_in` the one whose answer it is: the same in synchronous
    rounds, in asynchronous ones whichever takes it out of the buffer, None until then.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")  # the device's
    round = models.ForeignKey(Round, models.CASCADE, related_name="updates")
    device = models.ForeignKey(Device, models.PROTECT, related_name="+")
    assignment = models.OneToOneField(Assignment, models.CASCADE, related_name="update")
    blob = models.CharField(max_length=64, blank=True)  # sha256 of the update file; empty without one
    size = models.BigIntegerField(default=0)
    samples = models.PositiveBigIntegerField()
    norm = models.FloatField(null=True, blank=True)  # L2, measured at the door
    answer = models.JSONField(default=dict)  # evaluation, statistics, metrics, seconds
    # {"score", "flagged", "reason"} once its round was aggregated, where updates are compared
    anomaly = models.JSONField(null=True, blank=True)
    flagged = models.BooleanField(null=True)  # of `anomaly`, to be found by
    counted_in = models.ForeignKey(Round, models.CASCADE, null=True, related_name="counted")
    staleness = models.PositiveIntegerField(default=0)  # models made between the two rounds
    received_at = models.DateTimeField(default=clock.now)

    class Meta:
        ordering = ["round_id", "id"]
        constraints = [models.UniqueConstraint(fields=["round", "device"], name="one_update_each")]
        indexes = [
            models.Index(fields=["round"], condition=models.Q(flagged=True), name="flagged_updates"),
            models.Index(fields=["round"], condition=models.Q(counted_in__isnull=True), name="buffered_updates"),
        ]

    def __str__(self) -> str:
        return f"update of {self.device} for {self.round}"
