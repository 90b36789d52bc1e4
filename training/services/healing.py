"""The sweeper's pass over runs: whatever a lost bell, a killed process or a vanished device left undone is done here.

Every gap between two commits of a round's walk has its line: an open round that is complete or overdue, a claim that
was not renewed, a run whose next round was not opened, a device that left while it was asked, a round that is short of
devices which are there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from federations.models import Member
from federations.services import device_tasks
from fedportal.common import clock
from fedportal.common.jobs import ring
from fedportal.common.transactions import unit
from fedwire.states import AssignmentState, DeviceState, MemberState, RoundState, RunState, TaskState
from training import progress, tasks
from training.lifecycle import ALIVE_ROUNDS, UNFINISHED
from training.models import Assignment, Pulse, Round, Run
from training.services import cohorts, finishing, opening, rounds

# A pause between two passes that is longer than so many intervals was a downtime (a machine that slept).
MISSED_BEATS = 3
GONE = "the device or its organization is not in the federation any more"
SILENT = "the device did not come for its task"
_first = threading.Event()


def sweep() -> None:
    """One pass. Harmless at any time and in any number of processes."""
    after_start = not _first.is_set()
    _first.set()
    beat(after_start)
    if after_start and not settings.FEDPORTAL_REDIS_URL:
        void_claims()
    drop_the_gone()
    drop_the_silent()
    for round_pk in opening.short_of_devices():
        opening.fill(round_pk)
    for round_pk in due():
        ring(tasks.settle_round, round_pk)
    for run_pk in without_a_round():
        ring(tasks.advance_run, run_pk)


def beat(after_start: bool) -> timedelta:
    """Note that the portal lives, and give back to open rounds and tasks the time in which it did not.

    After a start that is all the time since the last beat, rather too much than too little.
    """
    now = clock.now()
    last = Pulse.objects.filter(pk=1).values_list("beat_at", flat=True).first()
    if last is None:
        Pulse.objects.get_or_create(pk=1, defaults={"beat_at": now})
        return timedelta()
    interval = timedelta(seconds=settings.FEDPORTAL_SWEEP_SECONDS)
    gap = now - last
    down = gap if after_start else gap - interval if gap > MISSED_BEATS * interval else timedelta()
    with unit():
        pulse = Pulse.objects.filter(pk=1, beat_at=last)
        if down <= timedelta():
            pulse.update(beat_at=now)
            return timedelta()
        if not pulse.update(beat_at=now, back_at=now, down_seconds=down.total_seconds()):
            return timedelta()  # another process noticed the same gap and has given the time back
        device_tasks.extend_deadlines(down)
        Round.objects.filter(state=RoundState.OPEN).update(deadline=F("deadline") + down)
    return down


def void_claims() -> None:
    """Where one process is the whole portal, claims from before its start are nobody's."""
    Round.objects.filter(state=RoundState.AGGREGATING).update(lease_until=_just_past())


def requeue(found: Round) -> None:
    """Have a worker look at this round again: its claim, if it has one, is void."""
    with unit():
        Round.objects.filter(pk=found.pk, state=RoundState.AGGREGATING).update(lease_until=_just_past())
        ring(tasks.settle_round, found.pk)


def drop_the_gone() -> None:
    """Wait no longer for devices that may not take part any more, or whose task was closed elsewhere."""
    member = Member.objects.filter(
        federation_id=OuterRef("round__run__federation_id"),
        organization_id=OuterRef("organization_id"),
        state=MemberState.ACTIVE,
    )
    closed = Q(task__isnull=True) | Q(task__state__in=(TaskState.CANCELLED, TaskState.EXPIRED))
    gone = Assignment.objects.filter(round__state=RoundState.OPEN, state__in=UNFINISHED).filter(
        ~Q(device__state=DeviceState.ACTIVE) | Q(organization__suspended_at__isnull=False) | ~Exists(member) | closed
    )
    _drop(gone, GONE)


def drop_the_silent() -> None:
    """Wait no longer for devices that have not come for their task and that nobody has heard of for long."""
    offered = Assignment.objects.filter(round__state=RoundState.OPEN, state=AssignmentState.OFFERED)
    since = cohorts.seen_since(clock.now())
    _drop(offered.filter(device__last_seen_at__lt=since, offered_at__lt=since), SILENT)


def _drop(parts: QuerySet[Assignment], reason: str) -> None:
    for round_pk in list(parts.order_by("round_id").values_list("round_id", flat=True).distinct()):
        with unit():
            found = Round.objects.select_related("run").get(pk=round_pk)
            dropped = finishing.close_parts(parts.filter(round_id=round_pk), reason, cancelled=True)
            news = rounds.cards(found, Assignment.objects.filter(pk__in=dropped), reason)
            progress.tell_all(found.run, news)


def due() -> Iterable[int]:
    """Rounds that wait for a worker: overdue, complete, or claimed by one that has gone silent."""
    now = clock.now()
    open_rounds = Round.objects.filter(state=RoundState.OPEN).order_by("pk")
    yield from open_rounds.filter(deadline__lte=now).values_list("pk", flat=True)
    unfinished = Assignment.objects.filter(round=OuterRef("pk"), state__in=UNFINISHED)
    for pk, kind, need in open_rounds.filter(~Exists(unfinished), deadline__gt=now).values_list(
        "pk", "kind", "run__min_participants"
    ):
        if rounds.standing(pk).complete(kind, need):
            yield pk
    yield from _unclaimed(now)


def _unclaimed(now: datetime) -> Iterable[int]:
    claimed = Round.objects.filter(state=RoundState.AGGREGATING)
    return claimed.filter(lease_until__lt=now).order_by("pk").values_list("pk", flat=True)


def without_a_round() -> list[int]:
    """Running runs that have no round going on: their next one was not opened."""
    alive = Round.objects.filter(run=OuterRef("pk"), state__in=ALIVE_ROUNDS)
    idle = Run.objects.filter(~Exists(alive), state=RunState.RUNNING)
    return list(idle.order_by("pk").values_list("pk", flat=True))


def _just_past() -> datetime:
    return clock.now() - timedelta(seconds=1)
