"""Updates whose files were damaged on the portal: found when a round cannot be computed, and put aside.

The part of such an update came to nothing, its row goes, and so does the file, for the device may send the very same
bytes again and they would be taken to be there. An asynchronous round goes on with the answers that are left.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fedportal.common import blobs, clock
from fedwire.states import AssignmentState, RoundKind
from training import lifecycle, progress, wording
from training.models import Assignment, Round, Update
from training.services import lease, shards
from training.wording import Party

log = logging.getLogger(__name__)

WHY = "the file of its update was lost or damaged on the portal"
PARTY = ("device__public_id", "device__identifier", "organization__public_id", "organization__name")


def of(claimed: Round, *, missing: bool) -> list[Update]:
    """The updates of a claimed round whose files are not what they should be; with `missing` also those that are not
    there or cannot be read. None where the model cannot be read either: then it is not for the updates.

    Reads all files of the round.
    """
    if claimed.kind != RoundKind.TRAIN or not _is_good(claimed.base_blob):
        return []
    # Those of a secure sum have no files.
    updates = Update.objects.filter(counted_in=claimed).exclude(blob="").select_related("assignment").order_by("pk")
    return [one for one in updates if blobs.is_damaged(one.blob) or (missing and not _is_good(one.blob))]


def put_aside(claimed: Round, damaged: Sequence[Update]) -> tuple[list[progress.News], str]:
    """Let these updates count nowhere and their parts have come to nothing; what is told of it, and a sentence for it.

    Call it inside a unit. Raises Lost when the claim is not the last one any more.
    """
    parts = Assignment.objects.filter(pk__in=[one.assignment_id for one in damaged]).order_by("pk")
    lifecycle.move(parts, AssignmentState.EXPIRED, reason=WHY, changed_at=clock.now())
    if not lease.mine(claimed.pk, claimed.fence).update(lease_until=lease.until()):
        raise lifecycle.Lost
    for one in damaged:
        log.error("the file %s of %s is damaged", blobs.path(one.blob), one)
        blobs.remove(one.blob)
    Update.objects.filter(pk__in=[one.pk for one in damaged]).delete()
    shards.forget(claimed)
    rows = list(parts.values_list("round__number", "round__attempt", *PARTY))
    return [_told(number, attempt, Party(*party), claimed.asynchronous) for number, attempt, *party in rows], _why(
        [f"{identifier} of {name}" for _, _, _, identifier, _, name in rows]
    )


def _told(number: int, attempt: int, party: Party, asynchronous: bool) -> progress.News:
    card = wording.participant(party, AssignmentState.EXPIRED, reason=WHY)
    return "assignment.changed", wording.changed(number, attempt, card, asynchronous=asynchronous)


def _why(names: Sequence[str]) -> str:
    said = "the file of the update of {} was" if len(names) == 1 else "the files of the updates of {} were"
    return f"{said.format(wording.listed(names))} lost or damaged on the portal"


def _is_good(sha: str) -> bool:
    try:
        return blobs.verify(sha)
    except OSError:
        return False
