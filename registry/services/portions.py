"""What a rollout asks of thousands of devices, a portion at a time: each is one short unit, so that others can write.

The rollout's row says what is to be; the rows of its devices say how far that is. So whoever comes next goes on where
the last one was killed, and no device is asked twice: an act does the first portion itself, a worker those that follow,
and the sweeper takes up what a worker left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from federations.models import Device
from fedportal.common.transactions import unit
from fedwire.states import RolloutState
from registry.delivery import placement
from registry.models import Installation, Rollout
from registry.models.rollouts import ALIVE
from registry.services import gatekeeping, installations, underway

# Devices in one unit.
PORTION = 500

_doorbells: list[Callable[[int], object]] = []


def ring_with(bell: Callable[[int], object]) -> None:
    """Call `bell(rollout_pk)` inside the unit after which more is left to be done."""
    if bell not in _doorbells:
        _doorbells.append(bell)


def locked(rollout_pk: int) -> Rollout:
    """The rollout as it is now; nobody else changes it until the unit ends."""
    rows = Rollout.objects.select_related("model", "version", "organization")
    return rows.select_for_update(of=("self",), no_key=True).get(pk=rollout_pk)


def begin(rollout: Rollout) -> int:
    """Do the first portion of what the rollout's row says now, and ring for the others; how many devices are to join.

    Call it inside the unit that locked the row and changed it.
    """
    joining: list[int] = []
    more = False
    if rollout.state == RolloutState.ACTIVE:
        joining = _joining(rollout)
        if joining:
            installations.join(rollout, rollout.version, _devices(rollout, joining[:PORTION]))
        more = len(joining) > PORTION
    elif rollout.going_back and not _replaced(rollout):
        if rollout.experiment is not None:
            # What promoted it may still be with devices that have not joined: they go back as well.
            installations.of(rollout.experiment).update(rollout=rollout, experiment=None)
        more = installations.give_back(rollout, PORTION) == PORTION
    if rollout.going_back or rollout.state in (RolloutState.ACTIVE, RolloutState.COMPLETED):
        more = installations.ask_again(rollout, PORTION) == PORTION or more
    installations.note_restored(rollout)
    if more:
        for bell in _doorbells:
            bell(rollout.pk)
    return len(joining)


def go_on(rollout_pk: int) -> None:
    """Do the next portion, if there is one, and ring for those after it."""
    with unit():
        begin(locked(rollout_pk))


def missing(rollout: Rollout) -> int:
    """How many devices are still to join, by its share of the fleet as it is now; none while it is not active."""
    return len(_joining(rollout)) if rollout.state == RolloutState.ACTIVE else 0


def finish(rollout: Rollout) -> None:
    """Let all join that are still to. Call it outside of a unit: each portion has its own."""
    while missing(rollout):
        go_on(rollout.pk)
        rollout.refresh_from_db(fields=["state", "share"])


def _joining(rollout: Rollout) -> list[int]:
    """The keys of the devices that are to join and may: those of the experiment that promotes it, then by place."""
    fleet = underway.fleet(rollout)
    members = Installation.objects.filter(rollout=rollout).order_by()
    promoted = _promoted(rollout)
    inside = fleet.filter(pk__in=members.values("device")).count() + len(promoted)
    if inside >= placement.wanted(fleet.count(), rollout.share) and not promoted:
        return []
    pks = dict(fleet.values_list("public_id", "pk"))
    names = {*members.values_list("device__public_id", flat=True), *promoted.values()}
    by_place = [pks[name] for name in placement.joining(rollout.public_id, pks, rollout.share, names)]
    found = [*promoted, *by_place]
    if gatekeeping.standing(rollout.version).open:
        return found
    return [device.pk for device in gatekeeping.admitted(rollout.version, _devices(rollout, found))]


def _promoted(rollout: Rollout) -> dict[int, str]:
    """Key → id of the devices that still hold what the experiment gave them which promotes the rollout."""
    if rollout.experiment is None:
        return {}
    rows = installations.of(rollout.experiment).order_by("pk")
    return dict(rows.values_list("device_id", "device__public_id"))


def _devices(rollout: Rollout, pks: Sequence[int]) -> list[Device]:
    """As much of them as joining needs."""
    return [Device(pk=pk, organization_id=rollout.organization_id, public_id="") for pk in pks]


def _replaced(rollout: Rollout) -> bool:
    """Whether all its devices are being sent an earlier version instead of what each had."""
    same = Rollout.objects.filter(organization=rollout.organization_id, model=rollout.model_id, pk__gt=rollout.pk)
    later = same.filter(is_rollback=True, state__in=ALIVE).select_related("version__model__organization").first()
    return later is not None and gatekeeping.standing(later.version).open
