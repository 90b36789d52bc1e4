"""What a session of secure aggregation is held under: who takes part, its terms, and the portal's key."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federations.models import DeviceTask
from fedportal.common import clock, sealing
from fedwire.masking import groups, statements
from fedwire.masking.terms import MOST_DEVICES, Terms, least_threshold, told
from fedwire.states import AssignmentState
from training import lifecycle, progress, wording
from training.models import Assignment, Round, Update
from training.privacy import charges, unmasking
from training.privacy.protection import DISTRIBUTED, Protection
from training.services import local, part_news


def size(found: Round) -> int:
    """The most devices of one sum."""
    return min(Protection.of(found.run.config).group, MOST_DEVICES)


def drawn(found: Round, ready: Sequence[Update]) -> list[Update]:
    """Those that take part. Of more devices than one sum holds it is as many as can be divided into groups, of those
    that can draw one; or as many as one sum holds, drawn. The others are not needed in this round."""
    if len(ready) <= size(found):
        return list(ready)
    able = list({said: update for update in ready if (said := update.answer.get("commitment"))}.values())
    most = groups.most(len(able), size(found), Protection.of(found.run.config).least_devices)
    if most > size(found):
        chosen = secrets.SystemRandom().sample(able, most)
    else:
        chosen = secrets.SystemRandom().sample(list(ready), size(found))
    _dismiss(found, {update.pk for update in ready} - {update.pk for update in chosen})
    return chosen


def _dismiss(found: Round, pks: set[int]) -> None:
    """These updates are not needed."""
    left = Update.objects.filter(pk__in=pks)
    parts = list(left.order_by("pk").values_list("assignment_id", flat=True))
    rows = Assignment.objects.filter(pk__in=parts)
    lifecycle.move(rows, AssignmentState.EXPIRED, reason=wording.NOT_NEEDED, changed_at=clock.now())
    left.delete()
    progress.tell_all(found.run, part_news.cards(found, parts, wording.NOT_NEEDED))


def announced(found: Round, owners: Sequence[str], beacon: str = "") -> Terms:
    """The terms, signed, of a new session among devices of these organizations; `beacon`: what their group was drawn
    with."""
    run, protection = found.run, Protection.of(found.run.config)
    threshold = least_threshold(owners)
    noise = 0.0
    if protection.mechanism == DISTRIBUTED:
        noise = charges.share(protection.noise, owners, threshold, protection.least_devices)
    terms = Terms(
        session=secrets.token_hex(16),
        federation=run.federation.public_id,
        run=run.public_id,
        round=found.number,
        task=_told(found),
        base_model=found.base_blob,
        parameters=local.travels(run).parameters,
        bits=protection.bits,
        clip=protection.clip,
        most_weight=protection.most_weight,
        devices=max(len(owners), 1),
        threshold=threshold,
        least_devices=protection.least_devices,
        least_organizations=protection.least_organizations,
        noise=noise,
        beacon=beacon,
    )
    return unmasking.announced(terms, key())


def _told(found: Round) -> str:
    """The digest of what the round's devices were told to train with, by the task of any of them: one that was told
    something else refuses the session."""
    asked = Assignment.objects.filter(round=found, state=AssignmentState.SUBMITTED).values("task")
    return told(DeviceTask.objects.filter(pk__in=asked).order_by("pk").values_list("content", flat=True)[0])


def key() -> Ed25519PrivateKey:
    """What the portal signs sessions with."""
    return sealing.signing_key(statements.PROTOCOL)


def public() -> str:
    """The half of it by which devices know the portal, hexadecimal."""
    return key().public_key().public_bytes_raw().hex()
