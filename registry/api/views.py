"""The registry's addresses: parse, call one service, render."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from federations import permissions
from federations.api.parts import TOTAL
from federations.models import Federation
from federations.permissions import Actor
from federations.selectors import find
from fedportal.common.api import Door, limit_offset
from fedwire.errors import FedportalError
from registry import selectors
from registry.api import shapes
from registry.models import Model, ModelVersion, StagedUpload
from registry.services import models, versions

PAGE = [
    OpenApiParameter("limit", OpenApiTypes.INT, description="At most this many (50, at most 200)."),
    OpenApiParameter("offset", OpenApiTypes.INT, description="Leave out this many."),
]
FILTERS = [OpenApiParameter(name, OpenApiTypes.STR) for name in ("org_id", "framework", "use_case", "name")]


class Models(Door):
    """/models"""

    @extend_schema(operation_id="models_list", parameters=[*FILTERS, *PAGE], responses=shapes.ModelList)
    def get(self, request: Request) -> Response:
        """The models you may see, your own first."""
        query = request.query_params
        _check_organization(self.actor, query.get("org_id"))
        found = selectors.models_for(
            self.actor,
            framework=query.get("framework", ""),
            use_case=query.get("use_case", ""),
            name=query.get("name", ""),
        )
        rows: list[Model]
        rows, total = limit_offset(request, selectors.with_shares(self.actor, found))
        return Response({"models": _models(self.actor, rows), "total": total})

    @extend_schema(request=shapes.NewModel, responses={201: shapes.ModelShape})
    def post(self, request: Request) -> Response:
        """Register a model. With `architecture` it can be given initial weights, and the built-in trainers train it."""
        said = self.body(shapes.NewModel)
        _check_organization(self.actor, said.pop("org_id", None) or request.query_params.get("org_id"))
        model = models.create(self.actor, **said)
        return Response(_model(self.actor, model), status=201)


class OneModel(Door):
    """/models/{model}"""

    @extend_schema(responses=shapes.ModelShape)
    def get(self, request: Request, model: str) -> Response:
        """A model, by id or name."""
        return Response(_model(self.actor, selectors.find_model(self.actor, model)))

    @extend_schema(request=shapes.ModelChange, responses=shapes.ModelShape)
    def patch(self, request: Request, model: str) -> Response:
        """Change the description, framework or use case."""
        found = selectors.find_model(self.actor, model)
        return Response(_model(self.actor, models.describe(self.actor, found, **self.body(shapes.ModelChange))))


class Uploads(Door):
    """/models/{model}/uploads"""

    @extend_schema(request=shapes.NewUpload, responses={201: shapes.UploadShape})
    def post(self, request: Request, model: str) -> Response:
        """Announce a model file; then PUT it to `url` and make it a version."""
        said = self.body(shapes.NewUpload)
        found = selectors.find_model(self.actor, model)
        upload = versions.begin_upload(self.actor, found, said["size"], said["sha256"])
        return Response(shapes.UploadShape(upload).data, status=201)


class Versions(Door):
    """/models/{model}/versions"""

    @extend_schema(operation_id="versions_list", parameters=PAGE, responses=shapes.VersionList)
    def get(self, request: Request, model: str) -> Response:
        """The versions, newest first."""
        found = selectors.find_model(self.actor, model)
        rows: list[ModelVersion]
        rows, total = limit_offset(request, selectors.versions_of(found).defer("manifest"))
        return Response(
            {"versions": shapes.VersionShape(selectors.told(self.actor, rows), many=True).data, "total": total}
        )

    @extend_schema(request=shapes.NewVersion, responses={201: shapes.VersionDetailShape})
    def post(self, request: Request, model: str) -> Response:
        """Make a version of an uploaded file, or of the initial weights of the described architecture."""
        said = self.body(shapes.NewVersion)
        found = selectors.find_model(self.actor, model)
        number, notes = said.get("version"), said.get("notes", "")
        if said.get("initial"):
            made = versions.initial(self.actor, found, said.get("seed", 0), number, notes)
        elif "upload" in said:
            upload = _upload(self.actor, found, said["upload"])
            made = versions.push(self.actor, found, upload, number, said.get("architecture"), notes)
        else:
            raise FedportalError("field_invalid", field="upload", reason="send `upload`, or `initial` as true.")
        return Response(_version(self.actor, made), status=201)


class OneVersion(Door):
    """/models/{model}/versions/{version}"""

    @extend_schema(responses=shapes.VersionDetailShape)
    def get(self, request: Request, model: str, version: str) -> Response:
        """A version by its number, or `latest`, with its tensors and lineage."""
        found = selectors.find_version(selectors.find_model(self.actor, model), version)
        return Response(_version(self.actor, found))


class FederationModels(Door):
    """/federations/{federation}/models"""

    @extend_schema(parameters=PAGE, responses=shapes.ModelShape(many=True))
    def get(self, request: Request, federation: str) -> Response:
        """The models shared with the federation, as active members see them."""
        shared = selectors.shared_with(self.actor, _federation(self.actor, federation))
        rows: list[Model]
        rows, total = limit_offset(request, selectors.with_shares(self.actor, shared))
        return Response(_models(self.actor, rows), headers={TOTAL: str(total)})

    @extend_schema(request=shapes.NewShare, responses={201: shapes.ShareShape})
    def post(self, request: Request, federation: str) -> Response:
        """Share a model with the federation."""
        found = _federation(self.actor, federation)
        model = selectors.find_model(self.actor, self.body(shapes.NewShare)["model_id"])
        models.share(self.actor, model, found)
        return Response({"model_id": model.public_id, "federation_id": found.public_id}, status=201)


class OneShare(Door):
    """/federations/{federation}/models/{model}"""

    @extend_schema(responses={204: None})
    def delete(self, request: Request, federation: str, model: str) -> Response:
        """Take a model out of the federation."""
        found = _federation(self.actor, federation)
        models.unshare(self.actor, selectors.find_model(self.actor, model), found)
        return Response(status=204)


def _federation(actor: Actor, reference: str) -> Federation:
    federation: Federation = find(actor, Federation.objects.all(), reference, "federation")
    return federation


def _upload(actor: Actor, model: Model, reference: str) -> StagedUpload:
    found: QuerySet[StagedUpload] = StagedUpload.objects.filter(
        public_id=reference, model=model, person=actor.person, organization=actor.organization
    )
    upload = found.select_related("pushed_as", "pushed_as__model", "pushed_as__parent").first()
    if upload is None:
        # Only who may push learns anything about uploads.
        permissions.require(actor, "model.push", model)
        raise FedportalError("not_found", what="upload")
    return upload


def _model(actor: Actor, model: Model) -> Any:
    rows = selectors.with_shares(actor, selectors.with_latest(Model.objects.filter(pk=model.pk)))
    return _models(actor, list(rows.select_related("organization")))[0]


def _version(actor: Actor, version: ModelVersion) -> Any:
    return shapes.VersionDetailShape(selectors.told(actor, [version])[0]).data


def _models(actor: Actor, rows: list[Model]) -> Any:
    return shapes.ModelShape(rows, many=True, context={"actor": actor}).data


def _check_organization(actor: Actor, org_id: str | None) -> None:
    """What a client claims about its organization is not believed, but it must not contradict."""
    if org_id and (actor.organization is None or org_id != actor.organization.public_id):
        raise FedportalError("organization_mismatch", org_id=org_id)
