"""What a session of secure aggregation is held under: who takes part, its terms, and the portal's key."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedportal.common import clock, sealing
from fedwire.masking import statements
from fedwire.masking.terms import MOST_DEVICES, Terms, least_threshold
from fedwire.states import AssignmentState
from training import lifecycle, progress, wording
from training.models import Assignment, Round, Update
from training.privacy import charges
from training.privacy.protection import DISTRIBUTED, Protection
from training.services import local, part_news


def drawn(found: Round, ready: list[Update]) -> list[Update]:
    """As many of those that are ready as a session may have, drawn; the others are not needed in this round."""
    most = min(Protection.of(found.run.config).group, MOST_DEVICES)
    if len(ready) <= most:
        return ready
    drawn = secrets.SystemRandom().sample(ready, most)
    left = [update for update in ready if update not in drawn]
    parts = Assignment.objects.filter(pk__in=[update.assignment_id for update in left])
    lifecycle.move(parts, AssignmentState.EXPIRED, reason=wording.NOT_NEEDED, changed_at=clock.now())
    Update.objects.filter(pk__in=[update.pk for update in left]).delete()
    progress.tell_all(found.run, part_news.cards(found, [update.assignment_id for update in left], wording.NOT_NEEDED))
    return drawn


def announced(found: Round, owners: Sequence[str]) -> Terms:
    """The terms, not yet signed, of a new session among devices of these organizations."""
    run, protection = found.run, Protection.of(found.run.config)
    threshold = least_threshold(owners)
    noise = 0.0
    if protection.mechanism == DISTRIBUTED:
        noise = charges.share(protection.noise, owners, threshold, protection.least_devices)
    return Terms(
        session=secrets.token_hex(16),
        federation=run.federation.public_id,
        run=run.public_id,
        round=found.number,
        task=statements.digest({"run": run.public_id, "round": found.number, "attempt": found.attempt}),
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
    )


def key() -> Ed25519PrivateKey:
    """What the portal signs sessions with."""
    return sealing.signing_key(statements.PROTOCOL)
