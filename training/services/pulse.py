"""The portal's pulse: the sweeper beats, and a gap between two beats is time in which the portal did not live.

Deadlines are promises of time to devices, so a downtime is given back to them. A clock that was put back takes from
them what they would gain.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import F

from federations.models import Device
from federations.services import device_tasks
from fedportal.common import clock
from fedportal.common.health import Finding, Level
from fedportal.common.transactions import unit
from fedwire.states import RoundState
from training.models import MaskedSum, Pulse, Round

# A gap that is longer than so many intervals was a downtime (a machine that slept).
MISSED_BEATS = 3


def beat(after_start: bool) -> timedelta:
    """Note that the portal lives, and move the deadlines of open rounds and tasks by the time in which it did not.

    After a start that is all the time since the last beat, rather too much than too little. How far they moved;
    negative when the clock was put back.
    """
    now = clock.now()
    last = _last()
    if last is None:
        Pulse.objects.get_or_create(pk=1, defaults={"beat_at": now})
        return timedelta()
    by = _lost(now - last, after_start)
    with unit():
        mine = Pulse.objects.filter(pk=1, beat_at=last)
        if not by:
            mine.update(beat_at=now)
            return by
        back_at, down = (now, by.total_seconds()) if by > timedelta() else (None, 0.0)
        if not mine.update(beat_at=now, back_at=back_at, down_seconds=down):
            return timedelta()  # another process noticed the same gap
        device_tasks.extend_deadlines(by)
        Round.objects.filter(state=RoundState.OPEN).update(deadline=F("deadline") + by)
        MaskedSum.objects.filter(round__state=RoundState.MASKING).update(deadline=F("deadline") + by)
        if by < timedelta():
            _forget_the_future(now)
    return by


def is_steady() -> bool:
    """Whether deadlines may be believed: there is no downtime that the sweeper has yet to give back."""
    last = _last()
    return last is None or clock.now() - last <= _longest_gap()


def health_of_sweeper() -> Finding:
    """Whether the sweeper passes, for the operators' health page."""
    last = _last()
    step = "Start it: `python -m fedportal.sweeper`. The embedded portal has its own; restart it."
    if last is None:
        return Finding(Level.BAD, "The sweeper has never run.", step)
    age = (clock.now() - last).total_seconds()
    figures = {"last pass": f"{age:.0f} s ago", "a pass every": f"{settings.FEDPORTAL_SWEEP_SECONDS:g} s"}
    if age > _longest_gap().total_seconds():
        return Finding(Level.BAD, f"The sweeper has not passed for {age:.0f} seconds.", step, figures)
    return Finding(Level.OK, "The sweeper passes.", "", figures)


def _last() -> datetime | None:
    return Pulse.objects.filter(pk=1).values_list("beat_at", flat=True).first()


def _lost(gap: timedelta, after_start: bool) -> timedelta:
    """The time in which the portal did not live, judged by the gap between two beats."""
    if gap < -_longest_gap():
        return gap
    if after_start:
        return max(gap, timedelta())
    return gap - timedelta(seconds=settings.FEDPORTAL_SWEEP_SECONDS) if gap > _longest_gap() else timedelta()


def _longest_gap() -> timedelta:
    return MISSED_BEATS * timedelta(seconds=settings.FEDPORTAL_SWEEP_SECONDS)


def _forget_the_future(now: datetime) -> None:
    """What was noted by the clock before it was put back is as of now."""
    until = now + timedelta(seconds=settings.FEDPORTAL_LEASE_SECONDS)
    Round.objects.filter(state=RoundState.AGGREGATING, lease_until__gt=until).update(lease_until=until)
    Device.objects.filter(last_seen_at__gt=now).update(last_seen_at=now)
