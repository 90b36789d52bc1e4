"""Devices that come after a run has checked its devices: each looks at itself before it is asked for anything else.

Its check is a part of the run's check round, which is over, with a deadline of its own; what follows is the same as for
those that were there. Until then it is not available, see `cohorts.available`. Whoever lets the time pass is asked
again when it is next heard of, those too that were there at the beginning; where the run just reports what fails, it
takes part as others that fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.db.models import Exists, OuterRef, QuerySet

from fedportal.common import clock
from fedportal.common.transactions import unit
from fedwire.states import RoundKind, RoundState, RunState
from training import checks, progress
from training.models import Round, Run
from training.services import asking, cohorts, plan

# What belongs to a run that is asked for.
ASKED = ("model", "base_version", "federation")


def waited_for(device_pks: Sequence[int] | None = None) -> list[int]:
    """The running runs for which some devices (of these) that are there have yet to look at themselves."""
    return [run.pk for run in _checked() if cohorts.unchecked(run, device_pks)]


def check(run_pk: int, among: Iterable[int] | None = None) -> None:
    """Ask the devices (of those in `among`) that are there and answered no check for one, once the run's check is over.

    It makes a unit of its own, for parts are locked before runs, and those that were not answered are offered again.
    """
    if not _checked().filter(pk=run_pk).exists():
        return
    with unit():
        list(checks.unanswered(run_pk).select_for_update(no_key=True, of=("self",)).order_by("pk").values_list("pk"))
        run = Run.objects.select_for_update(no_key=True, of=("self",)).select_related(*ASKED).get(pk=run_pk)
        over = checks.over(run) if run.state == RunState.RUNNING else None
        devices = cohorts.unchecked(run, among) if over is not None else []
        if over is None or not devices:
            return
        again = set(checks.unanswered(run_pk).filter(device__in=devices).values_list("device__public_id", flat=True))
        asking.ask(run, over, devices, clock.now() + timedelta(seconds=plan.seconds_for(run, RoundKind.CHECK, 0)))
        cards = asking.cards(devices)
        progress.tell_all(
            run, [("check.asked", {"participant": card, "again": card["device"]["id"] in again}) for card in cards]
        )


def _checked() -> QuerySet[Run]:
    """The running runs whose check of their devices is over."""
    over = Round.objects.filter(run=OuterRef("pk"), kind=RoundKind.CHECK, state=RoundState.DONE)
    found = Run.objects.filter(Exists(over), state=RunState.RUNNING)
    return found.defer("given", "standardisation").order_by("pk")
