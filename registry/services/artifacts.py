"""A version in other forms, made by a worker when somebody asks for the first time.

The row is the truth: pending rows are rung again by the sweeper until a worker has made the form or said why it cannot.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import timedelta

from django.db.models import Q

from fedportal.common import blobs, clock
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from registry import formats
from registry.models import Artifact, ModelVersion

log = logging.getLogger(__name__)

# A worker that has not finished in this time was killed; another may begin.
CLAIM = timedelta(minutes=10)
# A conversion that failed is tried again when somebody asks after this time.
RETRY_AFTER = timedelta(minutes=1)


def wanted(version: ModelVersion, form: str) -> Artifact:
    """The artifact of this form, ordered if it is not there; see its state. Raises `format_unavailable`."""
    if form not in formats.ENDINGS or form == formats.SAFETENSORS:
        raise FedportalError("format_unavailable", format=form, available=", ".join(formats.ENDINGS))
    ready = Artifact.objects.filter(version=version, format=form, state=Artifact.State.READY).first()
    if ready is not None:
        return ready
    with unit():
        artifact, _ = Artifact.objects.select_for_update(no_key=True).get_or_create(
            version=version, format=form, defaults={"organization_id": version.organization_id}
        )
        if artifact.state == Artifact.State.FAILED and artifact.claimed_at and _is_old(artifact, RETRY_AFTER):
            artifact.state, artifact.reason, artifact.claimed_at = Artifact.State.PENDING, "", None
            artifact.save(update_fields=["state", "reason", "claimed_at"])
    return artifact


def make(artifact_pk: int) -> bool:
    """Make the artifact if it is pending and nobody else is at it; whether this call did. Runs in a worker."""
    claim = clock.now()
    free = Q(claimed_at__isnull=True) | Q(claimed_at__lt=claim - CLAIM)
    mine = Artifact.objects.filter(free, pk=artifact_pk, state=Artifact.State.PENDING).update(claimed_at=claim)
    if not mine:
        return False
    artifact = Artifact.objects.select_related("version").get(pk=artifact_pk)
    try:
        blob, size = _converted(artifact)
        result = {"state": Artifact.State.READY, "blob": blob, "size": size, "reason": ""}
    except (formats.ConversionFailed, FedportalError, OSError) as error:
        log.warning("%s could not be made: %s", artifact, error)
        result = {"state": Artifact.State.FAILED, "reason": str(error)[:300]}
    Artifact.objects.filter(pk=artifact_pk, claimed_at=claim).update(**result)
    return True


def unfinished() -> list[int]:
    """The pending artifacts that nobody is at."""
    free = Q(claimed_at__isnull=True) | Q(claimed_at__lt=clock.now() - CLAIM)
    return list(Artifact.objects.filter(free, state=Artifact.State.PENDING).values_list("pk", flat=True))


def _converted(artifact: Artifact) -> tuple[str, int]:
    """The blob of the converted file and its length."""
    blobs.ensure_room(artifact.version.size)
    scratch = blobs.scratch()
    try:
        formats.write_state_dict(blobs.path(artifact.version.blob), scratch)
        with open(scratch, "rb") as file:
            sha = hashlib.file_digest(file, "sha256").hexdigest()
        size = scratch.stat().st_size
        blobs.adopt(scratch, sha)
    finally:
        scratch.unlink(missing_ok=True)
    return sha, size


def _is_old(artifact: Artifact, age: timedelta) -> bool:
    return artifact.claimed_at is not None and artifact.claimed_at < clock.now() - age
