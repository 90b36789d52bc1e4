"""Files on their way in, and other forms of a version on their way out."""

from __future__ import annotations

from django.db import models

from federations.models import Organization, Person
from fedportal.common import clock, ids
from registry.models.models import Model, ModelVersion


class StagedUpload(models.Model):
    """A file being pushed: announced with its length and digest, filled through the door, then made a version."""

    public_id = models.CharField(max_length=32, unique=True, default=ids.upl_id, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    model = models.ForeignKey(Model, models.CASCADE, related_name="uploads")
    person = models.ForeignKey(Person, models.CASCADE, related_name="+")
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)
    complete = models.BooleanField(default=False)
    # What became of it; a repeated push answers with the same version.
    pushed_as = models.ForeignKey(ModelVersion, models.CASCADE, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.public_id} for {self.model}"


class Artifact(models.Model):
    """A version in another format, made by a worker on demand."""

    class State(models.TextChoices):
        PENDING = "pending"
        READY = "ready"
        FAILED = "failed"

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    version = models.ForeignKey(ModelVersion, models.CASCADE, related_name="artifacts")
    format = models.CharField(max_length=20)  # see fedwire.formats
    state = models.CharField(max_length=8, choices=State.choices, default=State.PENDING)
    blob = models.CharField(max_length=64, blank=True)
    size = models.BigIntegerField(default=0)
    reason = models.CharField(max_length=300, blank=True)
    claimed_at = models.DateTimeField(null=True, blank=True)  # when a worker began; an old claim is void
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["version", "format"], name="one_artifact_each")]

    def __str__(self) -> str:
        return f"{self.version} as {self.format}"
