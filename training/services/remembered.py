"""What a run remembers from round to round beside its model: the server step's state, and whose answers counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.db.models import Max, QuerySet

from federations.models import Device
from fedportal.common import blobs
from fedwire.states import RoundKind, RoundState
from training.aggregation import strategies
from training.aggregation.variates import Cohort
from training.models import Round, Run, Update


def state_before(run: Run, number: int) -> str:
    """The blob of what the server step remembers when round `number` begins; "" before the first."""
    done = Round.objects.filter(run=run, number=number - 1, state=RoundState.DONE)
    return done.values_list("state_blob", flat=True).first() or ""


def clip_before(run: Run, number: int) -> float | None:
    """The clip that the rounds before `number` have led to, where it follows the updates' norms; None before them."""
    done = Round.objects.filter(run=run, number=number - 1, state=RoundState.DONE)
    return done.values_list("clip", flat=True).first()


def cohort(closing: Round) -> Cohort:
    """How many devices had answered a training round that counted before this one, and how many will have with it."""
    earlier = _counted(closing.run).filter(round__number__lt=closing.number)
    known = set(earlier.values_list("device_id", flat=True))
    now = set(Update.objects.filter(counted_in=closing).values_list("device_id", flat=True))
    return Cohort(len(known), len(known | now))


def counted_rounds(run: Run, devices: Sequence[Device]) -> Mapping[int, int]:
    """For each of the devices (by primary key) that has one, the last training round in which its answer counted."""
    rows = _counted(run).filter(device__in=devices).order_by().values_list("device_id")
    return dict(rows.annotate(Max("round__number")))


def bytes_down(closing: Round) -> int:
    """What each device downloads for the round."""
    if closing.kind == RoundKind.STATISTICS:
        return 0
    sends = closing.kind == RoundKind.TRAIN and strategies.find(closing.run.strategy).sends_state
    state = state_before(closing.run, closing.number) if sends else ""
    return blobs.size(closing.base_blob) + (blobs.size(state) if state else 0)


def _counted(run: Run) -> QuerySet[Update]:
    """The answers to training rounds that gave a model."""
    return Update.objects.filter(round__run=run, round__kind=RoundKind.TRAIN, round__state=RoundState.DONE)
