"""What each organization's rows were used for under differential privacy: one ledger for all runs everywhere."""

from __future__ import annotations

from django.db import models

from federations.models import Organization
from fedportal.common import clock
from training.models.inference import InferencePlan
from training.models.rounds import Round
from training.models.runs import Run

RESERVED, CHARGED, REFUNDED = "reserved", "charged", "refunded"


class Ledger(models.Model):
    """All that was reserved or charged of an organization, added up; whoever opens a round holds its row.

    It belongs to the organization and to nothing else: it outlives memberships, names, federations and runs.
    """

    organization = models.OneToOneField(Organization, models.PROTECT, related_name="ledger")
    # How many rounds of which noise: see `training.privacy.ledgers`. Whole numbers, so that a refund leaves no trace.
    counts = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["organization_id"]

    def __str__(self) -> str:
        return f"privacy ledger of {self.organization}"


class Spending(models.Model):
    """What one round, or one plan of inference, costs one organization: reserved with its opening, then charged or
    refunded, never removed."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    run = models.ForeignKey(Run, models.PROTECT, null=True, blank=True, related_name="spendings")
    round = models.ForeignKey(Round, models.PROTECT, null=True, blank=True, related_name="spendings")
    plan = models.ForeignKey(InferencePlan, models.PROTECT, null=True, blank=True, related_name="spendings")
    state = models.CharField(max_length=8, choices=[(s, s) for s in (RESERVED, CHARGED, REFUNDED)], default=RESERVED)
    unit = models.CharField(max_length=8)  # whose presence it is about: "device" or "record"
    noise = models.FloatField()  # σ over the clip
    rate = models.FloatField(default=1.0)  # with what probability a unit took part
    rounds = models.PositiveIntegerField(default=1)
    delta = models.FloatField()  # for which the run states its ε
    at = models.DateTimeField(default=clock.now)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["round", "organization"], name="one_spending_each"),
            models.UniqueConstraint(fields=["plan", "organization"], name="one_spending_of_a_plan"),
            models.CheckConstraint(
                condition=models.Q(run__isnull=False, round__isnull=False, plan__isnull=True)
                | models.Q(run__isnull=True, round__isnull=True, plan__isnull=False),
                name="spent_on_a_round_or_a_plan",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "id"], name="spendings_in_order"),
            models.Index(fields=["run"], condition=models.Q(state="reserved"), name="reserved_spendings"),
        ]

    def __str__(self) -> str:
        return f"{self.round or self.plan} of {self.organization} ({self.state})"
