"""Opening rounds: what a run does next is decided here, and devices are asked.

`advance` may be called at any time by anybody; it looks at the rows and does what is due. So a process that dies
between closing a round and opening the next leaves nothing that the next call does not mend.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db.models import Exists, OuterRef, QuerySet

from federations.models import Device, Member
from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.architectures import Architecture
from fedwire.states import MemberState, RoundKind, RoundState, RunState
from registry.models import ModelVersion
from training import checks, part_cards, progress
from training.models import Assignment, Round, Run
from training.services import (
    affording,
    asking,
    budgets,
    buffering,
    cohorts,
    finishing,
    latecomers,
    needs,
    plan,
    starters,
)
from training.services.needs import Look
from training.services.plan import Need, Step
from training.services.terms import Terms

# An event shows so many of the devices that are asked; pages ask for the others.
MOST_CARDS = 200
LAST = (
    *("pk", "number", "attempt", "kind", "state", "asynchronous", "base_blob", "result_blob"),
    *("opened_at", "closed_at", "reason"),
)


def advance(run_pk: int) -> int | None:
    """Do what a running run does next: open a round, or end the run. Nothing when a round is going on.

    The primary key of the round it opened, if that is complete already because there is nobody to ask.
    """
    latecomers.check(run_pk)
    with unit():
        run = locked(run_pk)
        if not may_go_on(Run.objects.filter(pk=run.pk)).exists():
            return None
        last = run.rounds.order_by("-number", "-attempt").values(*LAST).first()
        if not plan.finished(run, last):
            if last is not None and (reason := _why_over(run, last)):
                finishing.fail(run, reason)
                return None
            step = plan.next_step(run, last)
            return _open(run, step, last) if step is not None else None
    finishing.complete(run_pk)
    return None


def _why_over(run: Run, last: Mapping[str, Any]) -> str:
    """Why the run does not go on after its latest round; "" when it does."""
    if last["state"] == RoundState.FAILED:
        return starters.why_over(run) or affording.why_over(run)
    return checks.why_not(run) if last["kind"] == RoundKind.CHECK and last["state"] == RoundState.DONE else ""


def may_go_on(runs: QuerySet[Run]) -> QuerySet[Run]:
    """Those of the runs that open further rounds: running ones, but not while their starter is suspended."""
    suspended = Member.objects.filter(
        federation_id=OuterRef("federation_id"),
        organization_id=OuterRef("organization_id"),
        state=MemberState.SUSPENDED,
    )
    return runs.filter(~Exists(suspended), state=RunState.RUNNING, organization__suspended_at__isnull=True)


def locked(run_pk: int) -> Run:
    """The run with what belongs to it, its row locked until the unit ends."""
    rows = Run.objects.select_related("model", "base_version", "federation")
    return rows.select_for_update(of=("self",), no_key=True).get(pk=run_pk)


def welcome(device_pks: Sequence[int]) -> None:
    """These devices came to wait: let them into the open rounds that have too few."""
    if not Run.objects.filter(state=RunState.RUNNING).exists():
        return
    cohorts.came_to_wait(device_pks)
    for run_pk in latecomers.waited_for(device_pks):
        latecomers.check(run_pk, device_pks)
    for round_pk in short_of_devices():
        fill(round_pk, device_pks)


def short_of_devices() -> list[int]:
    """The open rounds of running runs that may be filled: fewer devices take part than the round needs or asks."""
    open_rounds = Round.objects.filter(state=RoundState.OPEN, run__state=RunState.RUNNING, deadline__gt=clock.now())
    return [look.found.pk for look in needs.looks(open_rounds) if look.has_room]


def fill(round_pk: int, among: Iterable[int] | None = None) -> None:
    """Let available devices (of those in `among`) into an open round that has too few; a device joins once.

    Whoever is missing decides who is let in: the next of the draw, devices of an organization that lacks some, or, in a
    round that asks everybody and has too few, all. Nobody joins a round that has enough answers, or whose deadline has
    passed: it is about to be closed.
    """
    with unit():
        found = Round.objects.select_for_update(no_key=True).filter(pk=round_pk, state=RoundState.OPEN).first()
        if found is None or found.deadline <= clock.now():
            return
        run = locked(found.run_id)
        found.run = run
        look = Look(found, needs.of_round(found), needs.standing(found))
        if run.state != RunState.RUNNING or found.kind == RoundKind.EVALUATE or not look.has_room:
            return
        have, taken = _taking_part(found, look)
        devices = cohorts.available(run, among, taken=taken, have=have)
        if found.kind != RoundKind.CHECK:
            devices = cohorts.drawn(run, found, _wanted(look, devices), have, look.at_work)
        devices = _affording(run, found, devices)
        if not devices:
            return
        asking.ask(run, found, devices)
        have.update(device.organization_id for device in devices)
        waiting = _waiting(run, found, have)
        progress.tell_all(
            run, [("round.joined", {"participant": card, "waiting": waiting}) for card in asking.cards(devices)]
        )


def _taking_part(found: Round, look: Look) -> tuple[Counter[int], QuerySet[Assignment]]:
    """How many devices of each organization take part, and the parts whose devices are not asked: those of the round,
    also if they came to nothing, and those of devices that are busy."""
    own = found.assignments.all()
    if found.asynchronous:
        return Counter(buffering.busy(found.run).values()), own | buffering.occupied(found.run)
    return Counter(look.standing.having(look.need.kind)), own


def _wanted(look: Look, devices: Sequence[Device]) -> list[Device]:
    """Those of the devices that may help: where only quotas are short, those of the organizations that lack some."""
    if look.need.buffer:
        return list(devices)
    have = look.standing.counting(look.need.kind)
    if have < max(look.need.least, look.found.target or 0):
        return list(devices)
    lacking = look.standing.lacking(look.need)
    return [device for device in devices if device.organization_id in lacking]


def _open(run: Run, step: Step, last: dict[str, Any] | None) -> int | None:
    now = clock.now()
    took = (last["closed_at"] - last["opened_at"]).total_seconds() if last and last["closed_at"] else 0.0
    terms, checking = Terms.of(run.plan), step.kind == RoundKind.CHECK
    asynchronous = step.kind == RoundKind.TRAIN and (terms.asynchronous or buffering.is_left_over(run, last))
    busy = buffering.busy(run) if asynchronous else {}
    have = Counter(busy.values())
    available = cohorts.available(run, taken=buffering.occupied(run) if asynchronous else None, have=have)
    need = needs.of(run, step.kind, asynchronous)
    opened = Round.objects.create(
        organization_id=run.organization_id,
        run=run,
        number=step.number,
        attempt=step.attempt,
        kind=step.kind,
        asynchronous=asynchronous,
        base_blob=step.base_blob,
        opened_at=now,
        deadline=now + timedelta(seconds=plan.seconds_for(run, step.kind, took)),
        target=None if checking else terms.target(need.buffer or run.min_participants, len(available) + len(busy)),
    )
    at_work = needs.standing(opened).unfinished if asynchronous else None
    devices = available if checking else cohorts.drawn(run, opened, available, have, at_work)
    devices = _affording(run, opened, devices)
    asking.ask(run, opened, devices)
    have.update(device.organization_id for device in devices)
    news = {
        "number": opened.number,
        "attempt": opened.attempt,
        "kind": str(opened.kind),
        "opened_at": now.isoformat(),
        "deadline": opened.deadline.isoformat(),
        "count": len(devices),
        "participants": asking.cards(devices[:MOST_CARDS]),
        "waiting": _waiting(run, opened, have),
        **(_asynchronous(run, opened, need) if asynchronous else {}),
    }
    progress.tell(run, "round.opened", news)
    if asynchronous:  # the buffer may be full already
        return opened.pk if needs.standing(opened).complete(need) else None
    return opened.pk if step.kind == RoundKind.EVALUATE and not devices else None


def _affording(run: Run, opened: Round, devices: list[Device]) -> list[Device]:
    """Those of the devices whose organizations have budget for the round, which is theirs from here on."""
    refused = budgets.reserve(run, opened, (device.organization_id for device in devices))
    return [device for device in devices if device.organization_id not in refused]


def _asynchronous(run: Run, opened: Round, need: Need) -> dict[str, Any]:
    """What `round.opened` says of an asynchronous round: also who is still at work, and whose answers wait."""
    parts = buffering.parts(run.pk, {"pk": opened.pk, "asynchronous": True})
    return {
        "asynchronous": True,
        "buffer": need.buffer,
        "asked": opened.assignments.count(),
        "count": parts.count(),
        "participants": part_cards.cards(part_cards.parts_of(parts, MOST_CARDS), opened.number),
    }


def _waiting(run: Run, opened: Round, have: Mapping[int, int]) -> dict[str, Any] | None:
    """For whom the round waits in which so many devices of each organization take part."""
    shortage = needs.shortage(run, opened.kind, have, opened.asynchronous)
    return shortage.told(opened.deadline) if shortage is not None else None


def columns_of(version: ModelVersion) -> int:
    """How many input columns the version's architecture has; 0 without one."""
    return Architecture.parse(version.architecture).inputs if version.architecture else 0
