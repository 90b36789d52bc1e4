"""Versions: pushed by an owner, or published by a run. A version never changes once it is there."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.conf import settings

from federations import permissions
from federations.models import Person
from federations.permissions import Actor
from federations.services import audit
from fedportal.common import blobs
from fedportal.common.transactions import unit
from fedportal.door.hooks import Stored
from fedwire.architectures import Architecture
from fedwire.errors import FedportalError
from fedwire.tensors import Manifest, check_same
from registry import files, versioning
from registry.files import StoredModel
from registry.models import Model, ModelVersion, StagedUpload
from registry.versioning import Bump, Version

_SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_NOTES = 10_000


def begin_upload(actor: Actor, model: Model, size: int, sha256: str) -> StagedUpload:
    """Announce a model file of `size` bytes and this digest; it is then sent through the door and pushed.

    Announcing the same file again gives the same upload, so that a broken one continues. Raises `forbidden`,
    `field_invalid`, `body_too_large` or `storage_full`.
    """
    permissions.require(actor, "model.push", model)
    if type(size) is not int or size < 10:
        raise FedportalError("field_invalid", field="size", reason="it is not the length of a model file in bytes.")
    if size > settings.FEDPORTAL_MAX_MODEL_BYTES:
        raise FedportalError("body_too_large", limit=settings.FEDPORTAL_MAX_MODEL_BYTES)
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise FedportalError("field_invalid", field="sha256", reason="it is not a SHA-256 in hexadecimal.")
    blobs.ensure_room(size)
    with unit():
        upload, _ = StagedUpload.objects.get_or_create(
            organization=model.organization,
            model=model,
            person=actor.person,
            size=size,
            sha256=sha256,
            pushed_as=None,
        )
    return upload


def receive(upload: StagedUpload, stored: Stored) -> None:
    """The file of `upload` is there. If it cannot be a model it is removed: `not_safetensors` or `tensor_…`."""
    path = blobs.staging(upload.public_id)
    try:
        files.read(path)
    except FedportalError:
        path.unlink(missing_ok=True)
        raise
    StagedUpload.objects.filter(pk=upload.pk, sha256=stored.sha256).update(complete=True)


def push(
    actor: Actor,
    model: Model,
    upload: StagedUpload,
    version: str | None = None,
    architecture: dict[str, Any] | None = None,
    notes: str = "",
) -> ModelVersion:
    """Make the uploaded file a version: `version`, or 1.0.0 for the first and the next minor one after that.

    A repetition with the same upload, even at the same moment, gives the same version. Raises `forbidden`,
    `version_invalid`, `version_taken`, `upload_incomplete`, `architecture_invalid`, and `not_safetensors`, `tensor_…`
    or `not_finite` for a file that is not the model's; such a file is removed.
    """
    permissions.require(actor, "model.push", model)
    if (before := _pushed_as(upload)) is not None:
        return before
    wanted = versioning.parse(version) if version else None
    described = Architecture.parse(architecture) if architecture is not None else _architecture(model)
    _check_notes(notes)
    try:
        _check_free(model, wanted)
        stored = _taken_in(upload, described)
        pushed = _add(model, stored, wanted, described, actor, notes=notes, upload=upload)
    except FedportalError:
        # The number may be taken, and the file gone, because another request pushed this upload meanwhile.
        if (meanwhile := _pushed_as(upload)) is not None:
            return meanwhile
        raise
    blobs.staging(upload.public_id).unlink(missing_ok=True)
    return pushed


def initial(actor: Actor, model: Model, seed: int = 0, version: str | None = None, notes: str = "") -> ModelVersion:
    """A version with the first weights of the model's described architecture, drawn from `seed`.

    Raises `forbidden`, `architecture_invalid` when the model has none, `version_invalid`, `version_taken`,
    `field_invalid`.
    """
    permissions.require(actor, "model.push", model)
    wanted = versioning.parse(version) if version else None
    if type(seed) is not int or not 0 <= seed < 1 << 63:
        raise FedportalError("field_invalid", field="seed", reason="it is not a whole number from 0 to 2⁶³.")
    described = _architecture(model)
    if described is None:
        raise FedportalError("architecture_invalid", reason="the model was created without one")
    _check_notes(notes)
    _check_free(model, wanted)
    stored = files.store_arrays(described.manifest(), described.initial(seed))
    return _add(model, stored, wanted, described, actor, notes=notes, lineage={"seed": seed})


def publish(
    model: Model,
    *,
    blob: str,
    parent: ModelVersion | None,
    source: str,
    bump: Bump = "major",
    lineage: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    created_by: Person | None = None,
    notes: str = "",
    digest: str | None = None,
) -> ModelVersion:
    """Make a stored, canonical model file the next version, trained from `parent`; with the same `source` only once.

    `digest` (over the tensor bytes) is computed when it is not given, which reads the file: then call this outside a
    unit. Raises `tensor_…` when the file does not hold the parent's tensors, FileNotFoundError without a file.
    """
    if (found := ModelVersion.objects.filter(source=source).first()) is not None:
        return found
    manifest = files.manifest_of(blob)
    if parent is not None:
        expected = Manifest.from_json(parent.manifest)
        check_same(manifest.tensors, expected.tensors)
        manifest = expected  # which tensors are buffers is the parent's to say
    stored = StoredModel(manifest, blob, blobs.size(blob), digest or files.digest_of(blob))
    with unit():
        _lock(model)
        if (found := ModelVersion.objects.filter(source=source).first()) is not None:
            return found
        last = latest(model)
        number = _number(last).bumped(bump) if last is not None else versioning.FIRST
        published = _created(
            model,
            stored,
            number,
            origin=ModelVersion.Origin.TRAINED,
            architecture=parent.architecture if parent is not None else model.architecture,
            parent=parent,
            lineage=lineage or {},
            metrics=metrics or {},
            source=source,
            notes=notes,
            created_by=created_by,
        )
        _record(published, created_by or "portal", "version.published")
    return published


def latest(model: Model) -> ModelVersion | None:
    """The highest version; None before the first."""
    return ModelVersion.objects.filter(model=model).order_by("-major", "-minor", "-patch").first()


def _add(
    model: Model,
    stored: StoredModel,
    wanted: Version | None,
    described: Architecture | None,
    actor: Actor,
    *,
    notes: str,
    lineage: dict[str, Any] | None = None,
    upload: StagedUpload | None = None,
) -> ModelVersion:
    with unit():
        _lock(model)
        if upload is not None and (meanwhile := _pushed_as(upload)) is not None:
            return meanwhile
        _check_free(model, wanted)
        before = latest(model)
        pushed = _created(
            model,
            stored,
            wanted or (_number(before).bumped("minor") if before is not None else versioning.FIRST),
            origin=ModelVersion.Origin.PUSHED,
            architecture=described.spec() if described is not None else None,
            lineage=lineage or {},
            notes=notes,
            created_by=actor.person,
        )
        if upload is not None:
            if not StagedUpload.objects.filter(pk=upload.pk, pushed_as=None).update(pushed_as=pushed):
                raise FedportalError("not_found", what="upload")
            if model.architecture is None and described is not None:
                Model.objects.filter(pk=model.pk).update(architecture=described.spec())
        _record(pushed, actor, "version.pushed")
    return pushed


def _created(model: Model, stored: StoredModel, number: Version, **fields: Any) -> ModelVersion:
    return ModelVersion.objects.create(
        organization_id=model.organization_id,
        model=model,
        version=str(number),
        **number._asdict(),
        blob=stored.blob,
        size=stored.size,
        digest=stored.digest,
        manifest=stored.manifest.to_json(),
        **fields,
    )


def _record(version: ModelVersion, author: Actor | Person | str, action: str) -> None:
    audit.record(
        version.model.organization,
        author,
        action,
        version.public_id,
        model=version.model.public_id,
        version=version.version,
        digest=version.digest,
    )


def _taken_in(upload: StagedUpload, described: Architecture | None) -> StoredModel:
    """The uploaded file as a canonical blob. A file that cannot be the model is removed together with its upload.

    It is taken in under a name of its own, so that of two requests neither takes the file from under the other.
    """
    path, own = _file_of(upload), blobs.scratch()
    try:
        own.hardlink_to(path)
        return files.store(own, described)
    except FileNotFoundError:
        raise _incomplete(upload) from None
    except FedportalError as error:
        if error.code != "storage_full":
            path.unlink(missing_ok=True)
            StagedUpload.objects.filter(pk=upload.pk, pushed_as=None).delete()
        raise
    finally:
        own.unlink(missing_ok=True)


def _file_of(upload: StagedUpload) -> Path:
    """Where the file waits; one that is gone is linked back if the store has it."""
    path = blobs.staging(upload.public_id)
    if upload.complete and not path.exists() and blobs.exists(upload.sha256):
        with suppress(FileExistsError):
            path.hardlink_to(blobs.path(upload.sha256))
    if not upload.complete or not path.exists():
        raise _incomplete(upload)
    return path


def _incomplete(upload: StagedUpload) -> FedportalError:
    """Note that the file is not there, so that it can be sent again; the error that says so."""
    path = blobs.staging(upload.public_id)
    there = path.stat().st_size if path.exists() else 0
    StagedUpload.objects.filter(pk=upload.pk, pushed_as=None).update(complete=False)
    return FedportalError("upload_incomplete", stored=there, expected=upload.size)


def _pushed_as(upload: StagedUpload) -> ModelVersion | None:
    """The version that became of the upload by now, whatever was read of it earlier."""
    now = StagedUpload.objects.select_related("pushed_as__model", "pushed_as__parent").filter(pk=upload.pk).first()
    return now.pushed_as if now is not None else None


def _lock(model: Model) -> None:
    """Let nobody else number versions of this model until the unit ends."""
    Model.objects.select_for_update(no_key=True).get(pk=model.pk)


def _architecture(model: Model) -> Architecture | None:
    return Architecture.parse(model.architecture) if model.architecture is not None else None


def _number(version: ModelVersion) -> Version:
    return Version(version.major, version.minor, version.patch)


def _check_free(model: Model, wanted: Version | None) -> None:
    if wanted is not None and ModelVersion.objects.filter(model=model, version=str(wanted)).exists():
        raise FedportalError("version_taken", version=str(wanted))


def _check_notes(notes: str) -> None:
    if not isinstance(notes, str) or len(notes) > MAX_NOTES or "\0" in notes:
        raise FedportalError("field_invalid", field="notes", reason=f"it is not text of up to {MAX_NOTES} characters.")
