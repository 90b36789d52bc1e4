"""Sessions of secure aggregation: what is kept of them while they go on, and afterwards for the record."""

from __future__ import annotations

from django.db import models

from federations.models import Device, DeviceTask, Organization
from fedportal.common import clock
from fedwire.states import SumState
from training.models.rounds import Round


class MaskedSum(models.Model):
    """The session in which the devices of a round's attempt, or a group of them, add up their updates under masks.

    Kept for the record are who took part and the digests. Of masked vectors and sums only the names of files are here,
    and these are erased with the files; see `training.services.sums`.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")  # the run's
    round = models.ForeignKey(Round, models.CASCADE, related_name="masked_sums")
    group = models.PositiveSmallIntegerField(default=1)  # its number among those of the round
    session = models.CharField(max_length=32, unique=True)  # 16 random bytes, hexadecimal
    state = models.CharField(max_length=12, choices=[(s, s) for s in SumState], default=SumState.ADVERTISE)
    reason = models.TextField(blank=True)  # why it failed
    deadline = models.DateTimeField()  # of the present step
    drawing = models.JSONField(null=True)  # of the first of several groups: the list they were drawn from, the numbers
    terms = models.JSONField()  # with their signature; empty while groups are drawn
    sharers = models.JSONField(default=list)  # ids of the devices that shared their keys, in the order of the roster
    survivors = models.JSONField(default=list)  # of those whose vectors are in the sum; written once
    total_blob = models.CharField(max_length=64, blank=True)  # the sum, masked, while it is needed
    mean_blob = models.CharField(max_length=64, blank=True)  # the mean update, while the model is made of it
    weights = models.PositiveBigIntegerField(null=True, blank=True)  # the sum of the devices' weights
    certified = models.BooleanField(default=False)  # every sharer's key, by its organization, when the session ended
    liars = models.JSONField(default=list)  # ids of devices whose shares contradict the others
    leftover = models.JSONField(default=list)  # blobs that are to be removed: nobody needs them any more
    transcript = models.CharField(max_length=64, blank=True)  # digest of terms, roster, sharers, survivors and sum
    created_at = models.DateTimeField(default=clock.now)
    closed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["round_id", "group"]
        constraints = [models.UniqueConstraint(fields=["round", "group"], name="one_sum_of_each_group")]

    def __str__(self) -> str:
        return f"sum of round {self.round_id}, group {self.group} ({self.state})"


class Seat(models.Model):
    """A device in a session. What it said of the present step is here; shares are sealed, and erased with the sum."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")  # the device's
    total = models.ForeignKey(MaskedSum, models.CASCADE, related_name="seats")
    device = models.ForeignKey(Device, models.PROTECT, related_name="+")
    task = models.OneToOneField(DeviceTask, models.SET_NULL, null=True, related_name="+")  # of the present step
    said = models.CharField(max_length=12, blank=True)  # the last step that it took
    reason = models.CharField(max_length=300, blank=True)  # why it is not in the sum
    commitment = models.CharField(max_length=64, blank=True)  # to what it draws its group with
    number = models.CharField(max_length=64, blank=True)  # what it drew its group with
    advert = models.JSONField(null=True)  # with its signature
    certificate = models.JSONField(null=True)  # of its organization, as it came: other devices check it
    shared = models.JSONField(null=True)  # device → what it is to keep, sealed by this one
    vector = models.CharField(max_length=64, blank=True)  # blob of its masked vector
    agreement = models.CharField(max_length=128, blank=True)  # its signature under the survivors
    given = models.TextField(blank=True)  # the shares that it gives, sealed by the portal

    class Meta:
        ordering = ["total_id", "id"]
        constraints = [models.UniqueConstraint(fields=["total", "device"], name="one_seat_each")]

    def __str__(self) -> str:
        return f"{self.device} in {self.total}"
