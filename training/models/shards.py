"""Parts of a large round's combination."""

from __future__ import annotations

from django.db import models

from federations.models import Organization
from training.models.rounds import Round


class ShardState(models.TextChoices):
    """waiting → taken → done; and back to waiting when its worker gave up, or its file is gone."""

    WAITING = "waiting"
    TAKEN = "taken"
    DONE = "done"


class Shard(models.Model):
    """The numbers [start, stop) of a round's model, which one worker makes while others make other parts."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")  # the run's
    round = models.ForeignKey(Round, models.CASCADE, related_name="shards")
    first = models.BooleanField()  # of the first pass, in which the updates are looked at as wholes
    start = models.BigIntegerField()
    stop = models.BigIntegerField()
    state = models.CharField(max_length=8, choices=ShardState.choices, default=ShardState.WAITING)
    claim = models.PositiveIntegerField(default=0)  # grows whenever a worker takes it
    lease_until = models.DateTimeField(null=True, blank=True)
    part = models.CharField(max_length=32, blank=True)  # name of the scratch file with what came of it

    class Meta:
        ordering = ["round_id", "-first", "start"]
        constraints = [models.UniqueConstraint(fields=["round", "first", "start"], name="one_shard_each")]

    def __str__(self) -> str:
        return f"numbers {self.start} to {self.stop} of round {self.round_id} ({self.state})"
