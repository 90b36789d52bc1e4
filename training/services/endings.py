"""How sessions of secure aggregation end: done with their round, given up, or called off; and what is erased then.

A session that has ended leaves no open task, and no vector, sum, mean, share or document of it. That is so because all
of it is done in the unit that ends the session, by whoever holds its row: nobody asks its devices, or names a file of
it, without holding that row and finding the session alive.
"""

from __future__ import annotations

from collections.abc import Iterable

from federations.models import DeviceTask
from federations.services import device_tasks
from federations.services import roots as root_lists
from fedportal.common import clock
from fedwire.errors import FedportalError
from fedwire.masking import roots, statements
from fedwire.states import SumState, TaskKind
from training import lifecycle
from training.lifecycle import Lost
from training.models import MaskedSum, Round, Seat
from training.services import seats
from training.services.leftovers import erase_later
from training.services.seats import UNFINISHED

# The states in which a session goes on.
ALIVE = (
    SumState.REVEAL,
    *(SumState.ADVERTISE, SumState.SHARE, SumState.MASK),
    *(SumState.FOLD, SumState.AGREE, SumState.UNMASK),
)


def held(rounds: Iterable[int]) -> list[MaskedSum]:
    """The sessions of these rounds that go on, their unfinished tasks and their rows locked until the unit ends.

    Rows are locked in one order everywhere: tasks, sessions, parts, round, run. Raises Lost when devices were asked for
    a further step before this unit got hold of the sessions: then their tasks are not locked.
    """
    pks = list(rounds)
    of_seats = Seat.objects.filter(total__round__in=pks).values("task")
    tasks = DeviceTask.objects.filter(state__in=UNFINISHED, pk__in=of_seats)
    locked = set(tasks.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
    rows = MaskedSum.objects.select_for_update(no_key=True).filter(round__in=pks, state__in=ALIVE)
    found = list(rows.defer("drawing").order_by("pk"))
    if not locked.issuperset(tasks.order_by().values_list("pk", flat=True)):
        raise Lost
    return found


def close(found: Round) -> list[str]:
    """The round is about to be done: its sessions are, and what must not outlive them is erased. Call it inside the
    unit. Raises Lost when one of them has gone another way.

    The names of devices that gave wrong shares.
    """
    liars: list[str] = []
    for total in held([found.pk]):
        record = {"terms": total.terms, "sharers": total.sharers, "survivors": total.survivors, "sum": total.total_blob}
        transcript = statements.digest({**record, "roster": seats.roster_of(total).digest})
        row = MaskedSum.objects.filter(pk=total.pk)
        certified = _is_certified(total)
        lifecycle.move_one(row, SumState.DONE, transcript=transcript, certified=certified, closed_at=clock.now())
        _forget(total)
        liars += total.liars
    named = Seat.objects.filter(total__round=found, device__public_id__in=liars)
    names = named.order_by("organization__name", "device__identifier")
    return [f"{device} of {owner}" for device, owner in names.values_list("device__identifier", "organization__name")]


def _is_certified(total: MaskedSum) -> bool:
    """Whether organizations that the federation lists certified the key of every device that shared one."""
    federation, sharers = total.round.run.federation, set(total.sharers)
    members = roots.listed(federation.public_id, root_lists.entries(federation))
    rows = total.seats.filter(device__public_id__in=sharers, certificate__isnull=False)
    shown = {name: roots.Certificate(**found) for name, found in rows.values_list("device__public_id", "certificate")}
    adverts = [advert for advert in seats.roster_of(total).adverts if advert.device in sharers]
    try:
        roots.check_certified(members, adverts, shown, total.created_at.timestamp())
    except FedportalError:
        return False
    return True


def abandon(rounds: Iterable[int], reason: str) -> None:
    """The sessions of these rounds end without a sum, and nothing of them is used again. Call it inside a unit, before
    the rounds are moved. Raises what `held` raises: undo the unit and do it anew."""
    for total in held(rounds):
        end(total, reason)


def end(total: MaskedSum, reason: str) -> None:
    """This session, which is `held`, ends without a sum."""
    device_tasks.cancel(total.seats.exclude(task=None).order_by("task").values_list("task_id", flat=True))
    lifecycle.move_one(MaskedSum.objects.filter(pk=total.pk), SumState.FAILED, reason=reason, closed_at=clock.now())
    _forget(total)


def _forget(total: MaskedSum) -> None:
    """Erase the sum, the mean, every vector and share, and what was sent to all of its devices."""
    devices = Seat.objects.filter(total__round=total.round_id).values("device")
    tasks = DeviceTask.objects.filter(device__in=devices, kind=TaskKind.SECAGG, subject=str(total.pk))
    files = {sha for row in tasks.values_list("base_blob", "upload_sha256") for sha in row}
    files |= {total.total_blob, total.mean_blob, *total.seats.values_list("vector", flat=True)}
    erase_later(total, files)
    total.seats.update(given="", shared=None, vector="")
    MaskedSum.objects.filter(pk=total.pk).update(total_blob="", mean_blob="")
    # What others had sealed for a device stands in its task too, which is otherwise the same for all.
    delivered = tasks.filter(content__masking__phase=SumState.MASK)
    if (content := delivered.values_list("content", flat=True).first()) is not None:
        masking = {"phase": str(SumState.MASK), "session": total.session}
        delivered.update(content={**content, "masking": masking})
    tasks.update(base_blob="")
