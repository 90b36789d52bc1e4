"""Groups of a cohort that is more than one sum holds, drawn by its devices: `fedwire.masking.groups`.

The session begins as one of all, in which each device shows the number to which it committed itself with its training
answer. When all have, it becomes the first of the groups, and the others get sessions of their own, with their seats.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from fedportal.common import clock
from fedwire.masking import groups, statements
from fedwire.masking.groups import DRAWS, Drawing, Lot
from fedwire.masking.statements import refused
from fedwire.states import SumState
from training import progress
from training.models import MaskedSum, Round, Seat, Update
from training.privacy.protection import Protection
from training.services import conditions, seats, steps


def begin(found: Round, updates: Sequence[Update]) -> None:
    """Ask the devices of these updates, in the order of their ids, for what they draw with. Call it inside a unit."""
    total = MaskedSum.objects.create(
        organization_id=found.organization_id,
        round=found,
        session=secrets.token_hex(16),
        state=SumState.REVEAL,
        deadline=steps.until(),
        terms={},
    )
    Seat.objects.bulk_create(
        Seat(
            organization=update.organization,
            total=total,
            device=update.device,
            commitment=update.answer["commitment"],
        )
        for update in updates
    )
    _ask(total, list(total.seats.select_related("device", "organization").order_by("pk")), draw=0)
    progress.tell(found.run, "round.masking", seats.told(total))


def to_groups(total: MaskedSum, there: Sequence[Seat]) -> None:
    """Divide the cohort when all of it have shown their numbers; those that have draw again when some have not.

    Raises `masking_refused` when they have drawn often enough, or when a group could not make a sum.
    """
    drawing = Drawing.of(total.drawing["list"])
    if len(there) < len(drawing.lots):
        _again(total, there, drawing)
        return
    numbers = [seat.number for seat in there]
    drawn = groups.seed(drawing, numbers)
    by_device = {seat.device.public_id: seat for seat in there}
    divided = [[by_device[lot.device] for lot in group] for group in groups.divided(drawing, drawn)]
    _check(total, divided)
    document = {"numbers": numbers}
    others = [_session(total.round, number) for number in range(2, len(divided) + 1)]
    for one, group in zip([total, *others], divided, strict=True):
        Seat.objects.filter(pk__in=[seat.pk for seat in group]).update(total=one, said="")
        terms = conditions.announced(total.round, [seat.organization.public_id for seat in group], drawn)
        drawing_of: dict[str, Any] = {"drawing": {**total.drawing, "numbers": numbers}} if one is total else {}
        announced = {**terms.fields(), "signature": terms.signature}
        steps.move(one, SumState.ADVERTISE, session=terms.session, terms=announced, **drawing_of)
        asked = {"terms": announced, "server": conditions.public()}
        steps.ask(one, {seat.pk: asked for seat in group}, document)


def _again(total: MaskedSum, there: Sequence[Seat], drawing: Drawing) -> None:
    if drawing.draw + 1 >= DRAWS:
        raise refused(f"the devices drew their groups {DRAWS} times, and each time some did not show what they drew.")
    _check(total, [there])
    steps.leave_out(total, total.seats.exclude(task=None).exclude(pk__in=[seat.pk for seat in there]))
    Seat.objects.filter(pk__in=[seat.pk for seat in there]).update(said="", number="")
    _ask(total, there, drawing.draw + 1)


def _ask(total: MaskedSum, there: Sequence[Seat], draw: int) -> None:
    """Ask for the numbers of a draw."""
    found = total.round
    lots = [Lot(seat.device.public_id, seat.organization.public_id, seat.commitment) for seat in there]
    ordered = tuple(sorted(lots, key=lambda lot: lot.device))
    about = total.session, found.run.public_id, found.number, found.attempt, found.base_blob, conditions.size(found)
    fields = Drawing(*about, draw, ordered).fields()
    total.drawing, total.deadline = {"list": fields}, steps.until()
    MaskedSum.objects.filter(pk=total.pk).update(drawing=total.drawing, deadline=total.deadline)
    signature = statements.sign(conditions.key(), "drawing", fields)
    asked = {seat.pk: {"server": conditions.public()} for seat in there}
    steps.ask(total, asked, {"drawing": fields, "signature": signature})


def _check(total: MaskedSum, divided: Sequence[Sequence[Seat]]) -> None:
    """Raises `masking_refused` when one of the groups could not make a sum."""
    protection = Protection.of(total.round.run.config)
    owners = [[seat.organization.public_id for seat in group] for group in divided]
    groups.check_groups(owners, protection.least_devices, protection.least_organizations)


def _session(found: Round, number: int) -> MaskedSum:
    """A session for one more group, from the state in which it gets its terms."""
    total = MaskedSum.objects.create(
        organization_id=found.organization_id,
        round=found,
        group=number,
        session=secrets.token_hex(16),
        state=SumState.REVEAL,
        deadline=clock.now(),
        terms={},
    )
    total.round = found
    return total
