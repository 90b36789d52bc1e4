"""Whether a run still has those with whom it began.

Starters are the devices that did their part in the run's first round; until it is closed, those that were asked. When a
round could not be closed and more than half of them are gone, trying again makes no sense.
"""

from __future__ import annotations

from django.db.models import F

from federations.models import Device
from fedportal.common import clock
from fedwire.states import AssignmentState, RoundKind, RoundState
from training import wording
from training.models import Assignment, Round, Run
from training.services import cohorts
from training.wording import listed

DECLINED = "declined"
# Silent for so many deadlines is gone.
SILENT_ROUNDS = 3


def why_over(run: Run) -> str:
    """The sentence that says why the run cannot go on; "" when it can."""
    began = _starters(run)
    gone = _gone(run, began)
    if not began or 2 * len(gone) <= len(began):
        return ""
    grown = _grown(run, [pk for pk, why in gone.items() if why == DECLINED])
    if 2 * grown > len(gone):
        return wording.grew(f"on {grown} device{'' if grown == 1 else 's'}", run.config)
    of = f"{len(gone)} of the {len(began)} devices that began" if len(began) > 1 else "The only device that began"
    are = "are" if len(gone) > 1 else "is"
    named = listed([f"{began[pk]} ({why})" for pk, why in gone.items()])
    return f"{of} {are} gone: {named}."


def _starters(run: Run) -> dict[int, str]:
    """Device → its name, for those with whom the run began."""
    parts = Assignment.objects.filter(round__run=run).exclude(round__kind=RoundKind.CHECK)
    done = run.rounds.filter(state=RoundState.DONE).exclude(kind=RoundKind.CHECK)
    closed = done.order_by("number").values_list("pk", flat=True).first()
    if closed is not None:
        began = parts.filter(round_id=closed, state__in=(AssignmentState.SUBMITTED, AssignmentState.DECLINED))
    else:
        began = parts.filter(round__number=parts.order_by("round__number").values("round__number")[:1])
    rows = began.order_by("device__organization__name", "device__identifier")
    return {
        pk: f"{identifier} of {organization}"
        for pk, identifier, organization in rows.values_list(
            "device_id", "device__identifier", "device__organization__name"
        )
    }


def _gone(run: Run, began: dict[int, str]) -> dict[int, str]:
    """Device → why it is gone."""
    gone = dict.fromkeys(began, "")
    for pk in cohorts.of_members(run).filter(pk__in=list(began)).values_list("pk", flat=True):
        del gone[pk]
    gone = {pk: _departed(pk) for pk in gone}
    here = [pk for pk in began if pk not in gone]
    barred = cohorts.of_barred(run, here)  # whoever was not asked cannot have been silent
    here = [pk for pk in here if pk not in barred]
    latest = _latest_states(run, here)
    for pk in here:
        states = latest.get(pk, [])
        if states and states[0] == AssignmentState.DECLINED:
            gone[pk] = DECLINED
        elif len(states) == SILENT_ROUNDS and all(state == AssignmentState.EXPIRED for state in states):
            gone[pk] = f"silent for {SILENT_ROUNDS} deadlines"
    return {pk: gone[pk] for pk in began if pk in gone}


def _grown(run: Run, device_pks: list[int]) -> int:
    """Of how many of these devices the numbers grew without end."""
    parts = Assignment.objects.filter(round__run=run, device_id__in=device_pks, state=AssignmentState.DECLINED)
    return parts.filter(reason=wording.NOT_FINITE).order_by().values("device_id").distinct().count()


def _departed(device_pk: int) -> str:
    state = Device.objects.values_list("state", flat=True).get(pk=device_pk)
    return str(state) if state != "active" else "not in the federation or the group any more"


def _latest_states(run: Run, device_pks: list[int]) -> dict[int, list[str]]:
    """How each device fared in the last rounds that waited until their deadline, newest first; "" for well enough.

    A round that did not ask it counts as silence if nobody hears of the device: it was not there to be asked. Who is
    there was not drawn; and a round that had enough answers did not hear the others out.
    """
    ended = _ended(run)
    parts = Assignment.objects.filter(round_id__in=ended, device_id__in=device_pks)
    rows = parts.values_list("device_id", "round_id", "state", "reason")
    states = {
        (device_pk, round_pk): "" if reason == wording.NOT_NEEDED else state
        for device_pk, round_pk, state, reason in rows
    }
    there = Device.objects.filter(pk__in=device_pks, last_seen_at__gte=cohorts.seen_since(clock.now()))
    here = set(there.values_list("pk", flat=True))
    return {
        device_pk: [states.get((device_pk, one), "" if device_pk in here else AssignmentState.EXPIRED) for one in ended]
        for device_pk in device_pks
    }


def _ended(run: Run) -> list[int]:
    """The last rounds that waited until their deadline, newest first."""
    rounds = Round.objects.filter(run=run, state__in=(RoundState.DONE, RoundState.FAILED), closed_at__gte=F("deadline"))
    asked = rounds.exclude(kind__in=(RoundKind.STATISTICS, RoundKind.CHECK)).order_by("-number", "-attempt")
    return list(asked.values_list("pk", flat=True)[:SILENT_ROUNDS])
