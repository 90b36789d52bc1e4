"""The sweeper's pass over runs: whatever a lost bell, a killed process or a vanished device left undone is done here.

Every gap between two commits of a round's walk has its line: an open round that is complete or overdue, a claim that
was not renewed, a run whose next round was not opened, a device that left while it was asked, a round that is short of
devices which are there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet

from federations import permissions
from federations.models import DeviceKey, Member, Person
from federations.services import audit
from fedportal.common import clock
from fedportal.common.jobs import ring
from fedportal.common.transactions import unit
from fedwire.states import AssignmentState, DeviceState, MemberState, RoundKind, RoundState, RunState, TaskState
from training import lifecycle, progress, tasks
from training.lifecycle import ALIVE_ROUNDS, ALIVE_RUNS, UNFINISHED
from training.models import Assignment, Round, Run
from training.services import (
    cohorts,
    finishing,
    latecomers,
    leftovers,
    needs,
    opening,
    part_news,
    pulse,
    quorum,
    shards,
    stalls,
    sums,
)
from training.services.terms import CUT, GRACE

log = logging.getLogger(__name__)

GONE = "the device or its organization is not in the federation any more"
SILENT = "the device did not come for its task"
OVERDUE = "no answer until its deadline"
# The parts that outlive their round: of asynchronous ones, and the checks of devices that came later.
OUTLIVING = Q(round__asynchronous=True) | Q(round__kind=RoundKind.CHECK, round__state=RoundState.DONE)
# The parts whose answers would count.
WANTED = Q(round__state=RoundState.OPEN) | OUTLIVING
_first = threading.Event()


def sweep() -> None:
    """One pass. Harmless at any time and in any number of processes."""
    after_start = not _first.is_set()
    _first.set()
    pulse.beat(after_start)
    if after_start and not settings.FEDPORTAL_REDIS_URL:
        void_claims()
    end_the_forsaken()
    call_off_the_forgotten()
    drop_the_gone()
    drop_the_silent()
    drop_the_overdue()
    for run_pk in latecomers.waited_for():
        _carefully(latecomers.check, run_pk)
    for round_pk in opening.short_of_devices():
        _carefully(opening.fill, round_pk)
    begin_graces()
    for round_pk in stalls.untold():
        _carefully(stalls.tell, round_pk)
    for round_pk in due():
        ring(tasks.settle_round, round_pk)
    for round_pk in sums.masking_rounds():
        ring(tasks.settle_round, round_pk)
    for run_pk in without_a_round():
        ring(tasks.advance_run, run_pk)
    for round_pk in shards.free():
        ring(tasks.make_part, round_pk)
    shards.tidy()
    leftovers.sweep()


def void_claims() -> None:
    """Where one process is the whole portal, claims from before its start are nobody's."""
    Round.objects.filter(state=RoundState.AGGREGATING).update(lease_until=_just_past())
    shards.void_claims()


def requeue_by_staff(by: Person, found: Round) -> None:
    """Have a worker look at this round again: its claim, if it has one, is void. Raises `forbidden`."""
    permissions.require_staff(by)
    with unit():
        Round.objects.filter(pk=found.pk, state=RoundState.AGGREGATING).update(lease_until=_just_past())
        run = found.run
        audit.record(run.organization, by, "round.requeued", run.public_id, number=found.number, attempt=found.attempt)
        ring(tasks.settle_round, found.pk)


def go_on_by_staff(by: Person, run: Run) -> None:
    """Have a worker open the run's next round, if that was not done. Raises `forbidden`."""
    permissions.require_staff(by)
    with unit():
        audit.record(run.organization, by, "run.rung_for", run.public_id)
        ring(tasks.advance_run, run.pk)


def end_the_forsaken() -> None:
    """End the runs whose federation was dissolved, or whose starter left it."""
    starter = Member.objects.filter(
        federation_id=OuterRef("federation_id"),
        organization_id=OuterRef("organization_id"),
        state__in=(MemberState.ACTIVE, MemberState.SUSPENDED),
    )
    alive = Run.objects.filter(state__in=(RunState.RUNNING, RunState.PAUSED)).select_related("federation")
    forsaken = alive.filter(Q(federation__dissolved_at__isnull=False) | ~Exists(starter))
    for run in forsaken.select_related("organization").order_by("pk"):
        _carefully(_end, run)


def _end(run: Run) -> None:
    reason = f"{run.organization.name}, which started the run, is not in the federation any more."
    if run.federation.dissolved_at is not None:
        reason = f"The federation {run.federation.name} was dissolved."

    def end() -> None:
        if Run.objects.filter(pk=run.pk, state__in=ALIVE_RUNS).exists():
            finishing.fail(run, reason)

    lifecycle.persist(end)


def call_off_the_forgotten() -> None:
    """Call off the rounds that go on although their run is over."""
    alive = Round.objects.filter(run=OuterRef("pk"), state__in=ALIVE_ROUNDS)
    for run in Run.objects.exclude(state__in=ALIVE_RUNS).filter(Exists(alive)).order_by("pk"):
        _carefully(_call_off, run)


def _call_off(run: Run) -> None:
    lifecycle.persist(lambda: finishing.call_off_rounds(run, "the run is over"))


def drop_the_gone() -> None:
    """Wait no longer for devices that may not take part any more, or whose task was closed elsewhere.

    A device whose key ran out fetches another by itself; one whose keys were all revoked needs a person.
    """
    key = DeviceKey.objects.filter(device_id=OuterRef("device_id"), revoked_at__isnull=True)
    member = Member.objects.filter(
        federation_id=OuterRef("round__run__federation_id"),
        organization_id=OuterRef("organization_id"),
        state=MemberState.ACTIVE,
    )
    closed = Q(task__isnull=True) | Q(task__state__in=(TaskState.CANCELLED, TaskState.EXPIRED))
    out = ~Q(device__state=DeviceState.ACTIVE) | Q(organization__suspended_at__isnull=False)
    asked = Assignment.objects.filter(WANTED, state__in=UNFINISHED)
    _drop(asked.filter(out | ~Exists(member) | ~Exists(key) | closed), GONE)


def drop_the_silent() -> None:
    """Wait no longer for devices that have not come for their task and that nobody has heard of for long."""
    offered = Assignment.objects.filter(WANTED, state=AssignmentState.OFFERED)
    since = cohorts.seen_since(clock.now())
    _drop(offered.filter(device__last_seen_at__lt=since, offered_at__lt=since), SILENT)


def drop_the_overdue() -> None:
    """Wait no longer for tasks that outlive their round and whose own time is over; others end with their round."""
    if pulse.is_steady():
        asked = Assignment.objects.filter(OUTLIVING, state__in=UNFINISHED)
        _drop(asked.filter(task__deadline__lte=clock.now()), OVERDUE, cancelled=False)


def _drop(parts: QuerySet[Assignment], reason: str, *, cancelled: bool = True) -> None:
    for round_pk in list(parts.order_by("round_id").values_list("round_id", flat=True).distinct()):
        _carefully(_drop_from, round_pk, parts.filter(round_id=round_pk), reason, cancelled)


def _drop_from(round_pk: int, parts: QuerySet[Assignment], reason: str, cancelled: bool) -> None:
    with unit():
        found = Round.objects.select_related("run").get(pk=round_pk)
        dropped = finishing.close_parts(parts, reason, cancelled=cancelled)
        progress.tell_all(found.run, part_news.cards(found, dropped, reason))


def due() -> Iterable[int]:
    """Rounds that wait for a worker: overdue, complete, or claimed by one that has gone silent."""
    now = clock.now()
    open_rounds = Round.objects.filter(state=RoundState.OPEN).order_by("pk")
    yield from open_rounds.filter(deadline__lte=now).values_list("pk", flat=True)
    for found in _closing(open_rounds.filter(deadline__gt=now)):
        if needs.standing(found).complete(needs.of_round(found)):
            yield found.pk
    yield from _unclaimed(now)


def _closing(open_rounds: QuerySet[Round]) -> QuerySet[Round]:
    """Those of the rounds that may close before their deadline: nobody is asked any more, or nobody is waited for."""
    unfinished = Assignment.objects.filter(round=OuterRef("pk"), state__in=UNFINISHED)
    impatient = Q(run__plan__stragglers__in=(CUT, GRACE)) | Q(asynchronous=True)
    return open_rounds.filter(~Exists(unfinished) | impatient).select_related("run").defer("run__given")


def begin_graces() -> None:
    """Let the grace of rounds begin whose quorum was met without an answer: an organization left."""
    graceful = Round.objects.filter(state=RoundState.OPEN, enough_at=None, run__plan__stragglers=GRACE)
    for found in graceful.select_related("run").order_by("pk"):
        _carefully(_look, found)


def _look(found: Round) -> None:
    with unit():
        quorum.look(found)


def _unclaimed(now: datetime) -> Iterable[int]:
    claimed = Round.objects.filter(state=RoundState.AGGREGATING)
    return claimed.filter(lease_until__lt=now).order_by("pk").values_list("pk", flat=True)


def without_a_round() -> list[int]:
    """Running runs that have no round going on: their next one was not opened."""
    alive = Round.objects.filter(run=OuterRef("pk"), state__in=ALIVE_ROUNDS)
    idle = opening.may_go_on(Run.objects.filter(~Exists(alive)))
    return list(idle.order_by("pk").values_list("pk", flat=True))


def _carefully(act: Callable[..., object], *args: Any) -> None:
    """Do it for one run or round; what fails there must not hold up the others."""
    try:
        act(*args)
    except Exception:
        log.exception("%s%r failed; the next pass tries again", act.__qualname__, args)


def _just_past() -> datetime:
    return clock.now() - timedelta(seconds=1)
