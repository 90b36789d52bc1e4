"""Devices that come after a run has checked its devices: each looks at itself before it is asked for anything else.

Its check is a part of the run's check round, which is over, with a deadline of its own; what follows is the same as for
those that were there. Until then it is not available, see `cohorts.available`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.db.models import Exists, OuterRef

from fedportal.common import clock
from fedwire.states import RoundKind, RoundState, RunState
from training import checks, progress
from training.models import Round, Run
from training.services import asking, cohorts, plan


def waited_for(device_pks: Sequence[int]) -> list[int]:
    """The running runs for which some of these devices, which wait, have yet to look at themselves."""
    over = Round.objects.filter(run=OuterRef("pk"), kind=RoundKind.CHECK, state=RoundState.DONE)
    found = Run.objects.filter(Exists(over), state=RunState.RUNNING).defer("given", "standardisation").order_by("pk")
    return [run.pk for run in found if cohorts.unchecked(run, device_pks)]


def check(run: Run, among: Iterable[int] | None = None) -> None:
    """Ask the devices (of those in `among`) that are there and had no check for one, once the run's check is over.

    Call it inside a unit that holds the run.
    """
    over = checks.over(run) if run.state == RunState.RUNNING else None
    devices = cohorts.unchecked(run, among) if over is not None else []
    if over is None or not devices:
        return
    asking.ask(run, over, devices, clock.now() + timedelta(seconds=plan.seconds_for(run, RoundKind.CHECK, 0)))
    progress.tell_all(run, [("check.asked", {"participant": card}) for card in asking.cards(devices)])
