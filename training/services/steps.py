"""What every step of a session of secure aggregation does: it goes on, asks its devices, and leaves out who is gone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet

from federations.services import device_tasks
from federations.services.device_tasks import NewTask
from fedportal.common import blobs, clock
from fedwire.masking import statements
from fedwire.states import AssignmentState, SumState, TaskKind
from training import lifecycle, progress, wording
from training.models import Assignment, MaskedSum, Seat, Update
from training.services import cohorts, masked_bell, seats

# A device has so many more seconds for a step as it takes to send its vector at this rate, bytes a second (2 Mbit/s):
# the slowest line on which a clinic would let a device take part, and 7 minutes for a vector of 100 MB.
LEAST_RATE = 250_000


def move(total: MaskedSum, to: SumState, size: int = 0, **values: Any) -> None:
    """The session goes to its next state, and its devices have time anew, for a step in which each sends `size` bytes.
    Raises Lost when somebody else moved it."""
    deadline = until(size)
    lifecycle.move_one(MaskedSum.objects.filter(pk=total.pk, state=total.state), to, deadline=deadline, **values)
    total.state, total.deadline = to, deadline
    for name, value in values.items():
        setattr(total, name, value)
    progress.tell(total.round.run, "round.masking", seats.told(total))


def ask(
    total: MaskedSum, asked: Mapping[int, Mapping[str, Any]], document: Mapping[str, Any] | None = None, size: int = 0
) -> None:
    """Offer the devices of these seats the task of the present step; the others have none any more."""
    found, run = total.round, total.round.run
    base = blobs.put(statements.spelled(document)) if document is not None else ""
    rows = list(total.seats.filter(pk__in=list(asked)).select_related("device").order_by("pk"))
    common = {
        "run": run.public_id,
        "model": run.model.public_id,
        "model_name": run.model.name,
        "round": found.number,
        "attempt": found.attempt,
        "manifest": [],
        "architecture": None,
        "training": {},
    }
    offered = device_tasks.offer(
        [
            NewTask(
                device=seat.device,
                kind=TaskKind.SECAGG,
                subject=str(total.pk),
                deadline=total.deadline,
                common=common,
                content={"masking": {"phase": str(total.state), "session": total.session, **asked[seat.pk]}},
                base_blob=base,
                update_bytes=size,
            )
            for seat in rows
        ]
    )
    total.seats.exclude(pk__in=list(asked)).update(task=None)
    for seat, task in zip(rows, offered, strict=True):
        Seat.objects.filter(pk=seat.pk).update(task=task.pk)
    # Nobody may come at all: then the deadline decides, which no answer rings for.
    masked_bell.ring_for(found.pk, (total.deadline - clock.now()).total_seconds())


def leave_out(total: MaskedSum, outside: QuerySet[Seat]) -> None:
    """The updates of these seats, as far as they count, are not in the round's result: their parts say why. Call it
    inside a unit."""
    found, news = total.round, []
    counted = Update.objects.filter(counted_in=found)
    left = outside.filter(device__in=counted.values("device"))
    for seat in left.select_related("device__organization").order_by("pk"):
        reason = f"not in the sum: {seat.reason}"[:300]
        Assignment.objects.filter(round=found, device=seat.device).update(reason=reason)
        card = wording.participant(cohorts.party_of(seat.device), AssignmentState.SUBMITTED, reason=reason)
        news.append(("assignment.changed", wording.changed(found.number, found.attempt, card)))
    progress.tell_all(found.run, news)
    counted.filter(device__in=outside.values("device")).delete()


def until(size: int = 0) -> datetime:
    """The deadline of a step that begins now, in which each device sends a file of `size` bytes."""
    return clock.now() + timedelta(seconds=settings.FEDPORTAL_MASKING_SECONDS + size / LEAST_RATE)
