"""A federation's list of members by their own keys: what organizations and the owner signed, in its order."""

from __future__ import annotations

from django.db import models

from federations.models.federations import Federation
from federations.models.organizations import Organization, Person
from fedportal.common import clock
from fedwire.masking.roots import OPERATIONS


class RootEntry(models.Model):
    """A line of the list, or (`seq` empty) what an organization signed and the owner has not yet.

    The portal keeps it and cannot make one up: all is signed with keys that it does not have.
    """

    federation = models.ForeignKey(Federation, models.CASCADE, related_name="root_entries")
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="root_entries")
    seq = models.PositiveIntegerField(null=True, blank=True)
    prev = models.CharField(max_length=64, blank=True)
    op = models.CharField(max_length=8, choices=[(op, op) for op in OPERATIONS])
    key = models.CharField(max_length=64, blank=True)
    by_organization = models.CharField(max_length=128, blank=True)
    by_owner = models.CharField(max_length=128, blank=True)
    made_at = models.DateTimeField(default=clock.now, editable=False)
    made_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")

    class Meta:
        verbose_name_plural = "root entries"
        ordering = ["federation_id", "seq", "id"]
        constraints = [models.UniqueConstraint(fields=["federation", "seq"], name="one_root_entry_per_place")]

    def __str__(self) -> str:
        return f"{self.op} {self.organization} in {self.federation}"
