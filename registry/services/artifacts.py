"""A version in other forms, made by a worker when somebody asks for the first time.

The row is the truth: pending rows are rung again by the sweeper until a worker has made the form or said why it cannot.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet

from federations.permissions import Actor
from federations.services import audit
from federations.services.audit import Author
from fedportal.common import blobs, clock, faults
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.formats import ENDINGS, SAFETENSORS
from registry import formats
from registry.converting import ConversionFailed
from registry.models import Artifact, ModelVersion

log = logging.getLogger(__name__)

# A worker that has not finished in this time was killed, or is slow; another may begin.
CLAIM = timedelta(minutes=5)
# A conversion that failed is tried again when somebody asks after this time.
RETRY_AFTER = timedelta(minutes=1)


def wanted(actor: Actor, version: ModelVersion, form: str) -> Artifact:
    """The artifact of this form, ordered if it is not there; see its state.

    The actor is one who may pull the model. Raises `format_unavailable` and `format_needs_architecture`.
    """
    available = formats.possible(version.architecture)
    if form not in ENDINGS or form == SAFETENSORS:
        raise FedportalError("format_unavailable", format=form, available=", ".join(available))
    if form not in available:
        raise FedportalError("format_needs_architecture", format=form, available=", ".join(available))
    ready = Artifact.objects.filter(version=version, format=form, state=Artifact.State.READY).first()
    if ready is not None and blobs.exists(ready.blob):
        return ready
    with unit():
        artifact, fresh = Artifact.objects.select_for_update(no_key=True).get_or_create(
            version=version, format=form, defaults={"organization_id": version.organization_id}
        )
        again = not fresh and _is_due_again(artifact)
        if again:
            artifact.state, artifact.reason, artifact.claimed_at = Artifact.State.PENDING, "", None
            artifact.blob, artifact.size = "", 0
            artifact.save(update_fields=["state", "reason", "claimed_at", "blob", "size"])
        if fresh or again:
            _note(actor, artifact, "version.form_ordered")
    return artifact


def make(artifact_pk: int) -> bool:
    """Make the artifact if it is pending and nobody else is at it; whether this call did. Runs in a worker.

    A worker that is killed leaves a row that still waits. One that is only slow may finish beside its successor: the
    same form of the same version has the same bytes, so whoever comes first ends the work.
    """
    claim = clock.now()
    mine = Artifact.objects.filter(_free(claim), pk=artifact_pk, state=Artifact.State.PENDING).update(claimed_at=claim)
    if not mine:
        return False
    artifact = Artifact.objects.select_related("version__model", "version__organization").get(pk=artifact_pk)
    waiting = Artifact.objects.filter(pk=artifact_pk, state=Artifact.State.PENDING)
    try:
        blob, size = _converted(artifact)
    except (ConversionFailed, FedportalError, OSError) as error:
        log.warning("%s could not be made: %s", artifact, error)
        _end(waiting.filter(claimed_at=claim), artifact, state=Artifact.State.FAILED, reason=str(error)[:300])
        return True
    except Exception as error:  # else it would be tried for ever, and nobody would read why
        log.exception("%s could not be made", artifact)
        reason = f"something went wrong, and the portal's log says more ({type(error).__name__})"
        _end(waiting.filter(claimed_at=claim), artifact, state=Artifact.State.FAILED, reason=reason)
        return True
    faults.point("form_written")
    _end(waiting, artifact, state=Artifact.State.READY, blob=blob, size=size, reason="")
    return True


def _end(rows: QuerySet[Artifact], artifact: Artifact, **result: Any) -> None:
    """Write the result, once."""
    with unit():
        if rows.update(**result):
            for name, value in result.items():
                setattr(artifact, name, value)
            if artifact.blob:
                _note(audit.PORTAL, artifact, "version.form_made", sha256=artifact.blob)
            else:
                _note(audit.PORTAL, artifact, "version.form_failed", reason=artifact.reason)


def _note(actor: Author, artifact: Artifact, action: str, **details: Any) -> None:
    version = artifact.version
    about = {"model": version.model.public_id, "version": version.version, "format": artifact.format}
    audit.record(version.organization, actor, action, version.public_id, **about, **details)


def unfinished() -> list[int]:
    """The pending artifacts that nobody is at."""
    waiting = Artifact.objects.filter(_free(clock.now()), state=Artifact.State.PENDING)
    return list(waiting.values_list("pk", flat=True))


def _free(now: datetime) -> Q:
    return Q(claimed_at__isnull=True) | Q(claimed_at__lt=now - CLAIM)


def _converted(artifact: Artifact) -> tuple[str, int]:
    """The blob of the converted file and its length."""
    version = artifact.version
    blobs.ensure_room(2 * version.size)  # the file, and what it is checked with
    scratch = blobs.scratch()
    try:
        formats.write(artifact.format, blobs.path(version.blob), version.architecture, scratch)
        faults.point("mid_conversion")
        sha, size = blobs.name_of(scratch), scratch.stat().st_size
        blobs.adopt(scratch, sha)
    finally:
        scratch.unlink(missing_ok=True)
    return sha, size


def _is_due_again(artifact: Artifact) -> bool:
    """Whether the last try is a while ago and failed, or its file is gone, as after a restore without such files."""
    if artifact.state == Artifact.State.READY:
        return not blobs.exists(artifact.blob)
    tried = artifact.claimed_at
    return artifact.state == Artifact.State.FAILED and tried is not None and tried < clock.now() - RETRY_AFTER
