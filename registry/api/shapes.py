"""What the registry's addresses read and answer, as JSON."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from fedportal.common.api import Named, Text, Truth, Whole
from fedwire import routes
from registry import formats, selectors
from registry.models import Model, ModelVersion, StagedUpload

DESCRIBED = "kind, sizes, and where they are named `columns` (the inputs by name) and `labels` (the classes by name)."

# --- what comes in ---------------------------------------------------------------------------------------------------


class NewModel(serializers.Serializer[Any]):
    """POST /models."""

    name = Text()
    description = Text(required=False, allow_blank=True)
    framework = Text(required=False)
    use_case = Text(required=False)
    org_id = Text(required=False)
    architecture = serializers.DictField(required=False, allow_null=True, help_text=DESCRIBED)


class ModelChange(serializers.Serializer[Any]):
    """PATCH /models/{model}."""

    description = Text(required=False, allow_blank=True)
    framework = Text(required=False)
    use_case = Text(required=False)


class NewUpload(serializers.Serializer[Any]):
    """POST /models/{model}/uploads."""

    size = Whole()
    sha256 = Text()


class NewVersion(serializers.Serializer[Any]):
    """POST /models/{model}/versions: either `upload`, or `initial` with a `seed`."""

    version = Text(required=False, allow_null=True)
    upload = Text(required=False)
    initial = Truth(required=False)
    seed = Whole(required=False)
    architecture = serializers.DictField(required=False, allow_null=True)
    notes = Text(required=False, allow_blank=True, trim_whitespace=False)


class NewShare(serializers.Serializer[Any]):
    """POST /federations/{federation}/models."""

    model_id = Text()


# --- what goes out ---------------------------------------------------------------------------------------------------


class ModelShape(serializers.Serializer[Model]):
    """A model. `owned`: whether it is the caller's organization's own."""

    id = serializers.CharField(source="public_id")
    alias = serializers.IntegerField(help_text="A whole number that means this model too; it never changes.")
    name = serializers.CharField()
    description = serializers.CharField()
    framework = serializers.CharField()
    use_case = serializers.CharField()
    architecture = serializers.JSONField(allow_null=True, help_text=DESCRIBED)
    org_id = serializers.CharField(source="organization.public_id")
    organization = Named()
    owned = serializers.SerializerMethodField()
    latest_version = serializers.CharField(allow_null=True)
    federations = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_owned(self, model: Model) -> bool:
        organization = self.context["actor"].organization
        return organization is not None and model.organization_id == organization.pk

    def get_federations(self, model: Model) -> list[dict[str, str]]:
        shares = getattr(model, "visible_shares", [])
        return [{"id": share.federation.public_id, "name": share.federation.name} for share in shares]


class VersionShape(serializers.Serializer[ModelVersion]):
    """A version in a list."""

    id = serializers.CharField(source="public_id")
    version = serializers.CharField()
    model_id = serializers.CharField(source="model.public_id")
    origin = serializers.ChoiceField(ModelVersion.Origin.choices)
    sentence = serializers.SerializerMethodField()
    parent = serializers.CharField(source="parent.version", default=None, allow_null=True)
    size = serializers.IntegerField()
    sha256 = serializers.CharField(source="blob")
    digest = serializers.CharField(help_text="SHA-256 over the tensor bytes only.")
    architecture = serializers.JSONField(allow_null=True)
    metrics = serializers.JSONField()
    notes = serializers.CharField()
    formats = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_sentence(self, version: ModelVersion) -> str:
        return selectors.sentence(version)

    def get_formats(self, version: ModelVersion) -> list[str]:
        return formats.possible(version.architecture)


class VersionDetailShape(VersionShape):
    """A version with its tensors and where it comes from."""

    parameters = serializers.SerializerMethodField()
    manifest = serializers.JSONField()
    lineage = serializers.SerializerMethodField()
    label = serializers.SerializerMethodField(help_text="What the run that made it protected; null without a run.")

    def get_parameters(self, version: ModelVersion) -> int:
        return selectors.parameters(version)

    def get_label(self, version: ModelVersion) -> dict[str, Any] | None:
        return version.lineage.get("label")

    def get_lineage(self, version: ModelVersion) -> dict[str, Any]:
        return selectors.lineage(version)


class UploadShape(serializers.Serializer[StagedUpload]):
    """Where to send the file."""

    id = serializers.CharField(source="public_id")
    url = serializers.SerializerMethodField()
    size = serializers.IntegerField()
    complete = serializers.BooleanField()

    def get_url(self, upload: StagedUpload) -> str:
        return routes.UPLOAD.format(upload=upload.public_id)


class ModelList(serializers.Serializer[Any]):
    models = ModelShape(many=True)
    total = serializers.IntegerField()


class VersionList(serializers.Serializer[Any]):
    versions = VersionShape(many=True)
    total = serializers.IntegerField()


class ShareShape(serializers.Serializer[Any]):
    model_id = serializers.CharField()
    federation_id = serializers.CharField()
