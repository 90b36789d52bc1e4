"""Models, versions and sharing."""

from __future__ import annotations

from django.db import models

from federations.models import Federation, Organization, Person
from fedportal.common import clock, ids


class Model(models.Model):
    """What is trained: a name, an owner, and for the built-in trainers a described architecture."""

    public_id = models.CharField(max_length=32, unique=True, default=ids.mdl_id, editable=False)
    # For clients that know a model by a whole number; given once, at random, and never changed.
    alias = models.PositiveBigIntegerField(unique=True, default=ids.model_alias, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="models")
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    framework = models.CharField(max_length=30, default="pytorch")
    use_case = models.CharField(max_length=60, default="other")
    architecture = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["name", "id"]
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="model_name_per_owner")]
        # What `federations.permissions` grants beside Django's own `view_model`.
        permissions = [
            ("pull_model", "Can pull versions of the model"),
            ("push_model", "Can push versions of the model"),
            ("share_model", "Can share the model"),
            ("train_model", "Can train the model"),
            ("manage_model", "Can change the model"),
        ]

    def __str__(self) -> str:
        return self.name


class ModelVersion(models.Model):
    """One set of weights under a semantic version. Never changed after it is published."""

    class Origin(models.TextChoices):
        PUSHED = "pushed"
        TRAINED = "trained"

    public_id = models.CharField(max_length=32, unique=True, default=ids.ver_id, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    model = models.ForeignKey(Model, models.CASCADE, related_name="versions")
    version = models.CharField(max_length=40)
    major = models.PositiveIntegerField()
    minor = models.PositiveIntegerField()
    patch = models.PositiveIntegerField()
    origin = models.CharField(max_length=8, choices=Origin.choices)
    parent = models.ForeignKey("self", models.SET_NULL, null=True, blank=True, related_name="children")
    blob = models.CharField(max_length=64)  # sha256 of the canonical safetensors file
    size = models.BigIntegerField()
    digest = models.CharField(max_length=64)  # over the tensor bytes only
    manifest = models.JSONField()
    architecture = models.JSONField(null=True, blank=True)
    # run, rounds, strategy, organizations [{id, name, devices, updates, samples}], base and result digests
    lineage = models.JSONField(default=dict, blank=True)
    metrics = models.JSONField(default=dict, blank=True)
    notes = models.TextField(blank=True)
    # Makes publishing from a run idempotent: "run_…/last" exists once.
    source = models.CharField(max_length=80, null=True, blank=True, unique=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["model_id", "-major", "-minor", "-patch"]
        constraints = [models.UniqueConstraint(fields=["model", "version"], name="one_version_each")]

    def __str__(self) -> str:
        return f"{self.model} {self.version}"


class Share(models.Model):
    """A model shown to a federation: its active members see and pull it, the owner keeps the definition."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")  # the model's owner
    model = models.ForeignKey(Model, models.CASCADE, related_name="shares")
    federation = models.ForeignKey(Federation, models.CASCADE, related_name="shares")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    created_by = models.ForeignKey(Person, models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["model", "federation"], name="one_share_each")]

    def __str__(self) -> str:
        return f"{self.model} in {self.federation}"
