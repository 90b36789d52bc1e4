"""What leakage audits came to."""

from __future__ import annotations

from django.db import models

from federations.models import Organization, Person
from fedportal.common import clock
from training.models.runs import Run


class LeakageAudit(models.Model):
    """One audit of a run, made where its rows are and reported here; `report` holds figures, see `training.api.audits`.

    `own`: of an organization's own rows, which only that organization sees; otherwise of rows that everybody may see.
    """

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")  # whose audit it is
    run = models.ForeignKey(Run, models.CASCADE, related_name="leakage_audits")
    by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")
    own = models.BooleanField()
    report = models.JSONField()
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["run", "own"], name="audits_of_a_run")]

    def __str__(self) -> str:
        return f"leakage audit of {self.run_id} by {self.organization_id}"
