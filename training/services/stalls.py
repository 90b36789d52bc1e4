"""Rounds that wait for devices while nobody works: people are told, once for each round however often it is tried."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Exists, OuterRef, Q, QuerySet

from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.states import AssignmentState, RoundKind, RoundState, RunState
from training.models import Assignment, Round
from training.services import cohorts, needs, notices, plan

# A round that has too few devices for longer is worth a letter.
STALL = timedelta(minutes=1)


def untold() -> list[int]:
    """The open rounds of which people should be told now."""
    return sorted(_stalled(_untold()))


def tell(round_pk: int) -> None:
    """Tell that the round waits, unless that was told, or is over, meanwhile."""
    with unit():
        found = (
            _untold().select_related("run__model", "run__federation", "run__organization").filter(pk=round_pk).first()
        )
        if found is None or not _stalled(_untold().filter(pk=round_pk)):
            return
        if not Round.objects.filter(pk=round_pk, stall_told_at=None).update(stall_told_at=clock.now()):
            return
        parts = Assignment.objects.filter(round=found)
        here = parts.filter(state__in=plan.counting(found.kind)).values_list("organization_id", flat=True)
        names = list(cohorts.missing(found.run, here))
        asked = parts.filter(state=AssignmentState.OFFERED).order_by("pk")
        names += [
            f"{device} of {owner}" for device, owner in asked.values_list("device__identifier", "organization__name")
        ]
        notices.waiting(found.run, found, names)


def _untold() -> QuerySet[Round]:
    """Rounds that have been open for too long and of which nothing was told."""
    told = Round.objects.filter(run=OuterRef("run"), number=OuterRef("number"), stall_told_at__isnull=False)
    old = Round.objects.filter(state=RoundState.OPEN, run__state=RunState.RUNNING, opened_at__lt=clock.now() - STALL)
    return old.exclude(kind=RoundKind.EVALUATE).filter(~Exists(told))


def _stalled(rounds: QuerySet[Round]) -> set[int]:
    """Those that are short of devices, or whose remaining devices have not come for their work."""
    working = Assignment.objects.filter(
        Q(round=OuterRef("pk")) | Q(round__run=OuterRef("run"), round__asynchronous=True),
        state=AssignmentState.TRAINING,
    )
    asked = Assignment.objects.filter(round=OuterRef("pk"), state=AssignmentState.OFFERED)
    short = {look.found.pk for look in needs.looks(rounds) if look.missing}
    return short | set(rounds.filter(Exists(asked), ~Exists(working)).values_list("pk", flat=True))
