"""What devices do in a session of secure aggregation: each step is the answer to a task of the kind `secagg`.

Every function is called by `federations.services.device_tasks` inside the unit that moves the device's task. What a
device says is checked by `training.privacy.unmasking` and kept in its seat; the steps follow one another in
`training.services.sums`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from django.db.models import Count

from federations.models import DeviceTask
from federations.services import device_tasks
from federations.services import roots as root_lists
from fedportal.common import clock, faults, sealing
from fedportal.common.transactions import after_commit
from fedwire.errors import FedportalError
from fedwire.masking import groups, roots, streams
from fedwire.masking.roots import Certificate
from fedwire.masking.statements import Advert, refused
from fedwire.masking.terms import Terms
from fedwire.states import SumState, TaskKind, TaskState
from training import progress, wording
from training.models import MaskedSum, Seat
from training.privacy import unmasking
from training.privacy.unmasking import Roster
from training.services import cohorts, masked_bell

CERTIFIED = {field.name for field in fields(Certificate)}
MOST_CERTIFICATE = 2000  # characters
UNFINISHED = (TaskState.OPEN, TaskState.TAKEN)


def connect() -> None:
    """Listen to the tasks of sessions."""
    device_tasks.handle(TaskKind.SECAGG, on_answer=on_answer, on_decline=on_decline)


def on_answer(task: DeviceTask, answer: Mapping[str, Any], stored_sha: str, norm: float | None) -> None:
    """The device took the step that it was asked for. Raises `masking_refused` for what is not as the protocol has it,
    `task_closed` when the session went on meanwhile; then nothing is recorded."""
    total, seat = _seat(task)
    _check_active(total, seat)
    said = answer["masking"]
    try:
        changes = _STEPS[total.state](total, seat, said, stored_sha)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise refused(f"the answer to the step {total.state} is not as the protocol has it.") from error
    Seat.objects.filter(pk=seat.pk).update(said=total.state, **changes)
    _go_on(total)


def on_decline(task: DeviceTask, reason: str) -> None:
    """The device goes no further in this session."""
    try:
        total, seat = _seat(task)
    except FedportalError:
        return
    Seat.objects.filter(pk=seat.pk).update(reason=reason)
    _go_on(total)


def roster_of(total: MaskedSum) -> Roster:
    """Who takes part in the session, as far as they have sent their keys."""
    found = (Advert(**advert) for advert in total.seats.exclude(advert=None).values_list("advert", flat=True))
    # Sorted here: databases collate letters in ways of their own, and the order decides the places of shares.
    adverts = sorted(found, key=lambda advert: advert.device)
    return Roster(Terms(**total.terms), tuple(adverts), tuple(total.sharers))


def _seat(task: DeviceTask) -> tuple[MaskedSum, Seat]:
    """The session, its row locked until the unit ends, and the device's seat in it. Raises `task_closed`."""
    seat = Seat.objects.filter(task=task.pk).select_related("device").defer("shared", "given").first()
    total = seat and MaskedSum.objects.select_for_update(no_key=True).defer("drawing").filter(pk=seat.total_id).first()
    if seat is None or total is None or total.state != task.content["masking"]["phase"]:
        raise FedportalError("task_closed", task=task.public_id, state=str(TaskState.EXPIRED))
    return total, seat


def _check_active(total: MaskedSum, seat: Seat) -> None:
    """Raises `forbidden` when the device or its organization may not take part any more."""
    if not cohorts.of_members(total.round.run).filter(pk=seat.device_id).exists():
        who = "Only active devices of active members may take part."
        raise FedportalError("forbidden", action="take part", who=who)


def _go_on(total: MaskedSum) -> None:
    """Tell how far the step is, and ring when nobody is waited for any more."""
    waited_for = total.seats.filter(task__state__in=UNFINISHED).count()
    progress.tell(total.round.run, "round.masking", told(total))
    if not waited_for:
        after_commit(lambda: faults.point("before_bell"))
        masked_bell.ring_for(total.round_id)


def told(total: MaskedSum) -> dict[str, Any]:
    """What an event says of the session's present step: how many of those that are asked have taken it, until when."""
    return {
        "number": total.round.number,
        "attempt": total.round.attempt,
        "kind": str(total.round.kind),
        "group": total.group,
        "step": str(total.state),
        "word": word_of(total.round_id),
        "devices": total.seats.count(),
        "deadline": total.deadline.isoformat(),
        "seconds_left": max((total.deadline - clock.now()).total_seconds(), 0.0),
    }


def word_of(round_pk: int) -> str:
    """How far the sessions of a round are, in words: the step that the slowest of its groups is asked for, and how many
    of all that are asked have taken it."""
    asked = Seat.objects.filter(total__round=round_pk).exclude(task=None).exclude(total__state=SumState.FAILED)
    rows = asked.order_by().values_list("total__state", "total__group", "said").annotate(devices=Count("pk"))
    order = list(SumState)
    step = min((order.index(SumState(state)) for state, *_ in rows), default=0)
    taken = sum(devices for state, _, said, devices in rows if state != order[step] or said == state)
    groups_of = len({group for _, group, *_ in rows})
    return wording.masking(order[step], taken, sum(devices for *_, devices in rows), groups_of)


def _revealed(total: MaskedSum, seat: Seat, said: Mapping[str, Any], sha: str) -> dict[str, Any]:
    if not groups.opens(seat.commitment, total.drawing["list"]["draw"], said["number"]):
        raise refused("this is not the number to which the device committed itself.")
    return {"number": said["number"]}


def _advertised(total: MaskedSum, seat: Seat, said: Mapping[str, Any], sha: str) -> dict[str, Any]:
    """What would end the session for all others is refused, so that only this device is out of it."""
    advert, roster = Advert(**said["advert"]), roster_of(total)
    if advert.device != seat.device.public_id or advert.organization != seat.organization.public_id:
        raise refused("the advert is of another device or organization.")
    unmasking.check_advert(roster.terms, advert, seat.device.public_key, roster.adverts)
    for key in (advert.seal_key, advert.mask_key):  # one of low order is none
        streams.agree(X25519PrivateKey.generate(), bytes.fromhex(key))
    return {"advert": said["advert"], "certificate": _certificate(total, advert, said)}


def _certificate(total: MaskedSum, advert: Advert, said: Mapping[str, Any]) -> dict[str, Any] | None:
    """The device's certificate as it came, for the others to check. Raises `masking_refused` for what cannot be one,
    and, where the federation has a list of members, for one that the others would refuse."""
    found = said.get("certificate")
    if found is None:
        return None
    if set(found) != CERTIFIED or len(json.dumps(found)) > MOST_CERTIFICATE:
        raise refused("the certificate is none.")
    federation = total.round.run.federation
    members = roots.listed(federation.public_id, root_lists.entries(federation))
    if members.length:
        now = clock.now().timestamp()
        roots.check_certified(members, [advert], {advert.device: Certificate(**found)}, now)
    return dict(found)


def _shared(total: MaskedSum, seat: Seat, said: Mapping[str, Any], sha: str) -> dict[str, Any]:
    roster_of(total).check_shares(seat.device.public_id, said["sealed"], said["signature"])
    return {"shared": said["sealed"]}


def _masked(total: MaskedSum, seat: Seat, said: Mapping[str, Any], sha: str) -> dict[str, Any]:
    roster_of(total).check_vector(seat.device.public_id, sha, said["signature"])
    return {"vector": sha}


def _agreed(total: MaskedSum, seat: Seat, said: Mapping[str, Any], sha: str) -> dict[str, Any]:
    roster_of(total).check_agreement(seat.device.public_id, total.survivors, said["signature"])
    return {"agreement": said["signature"]}


def _given(total: MaskedSum, seat: Seat, said: Mapping[str, Any], sha: str) -> dict[str, Any]:
    """Shares are sealed before they touch the database, and erased with the sum."""
    roster_of(total).check_given(seat.device.public_id, total.survivors, said["given"], said["signature"])
    return {"given": sealing.seal(json.dumps(said["given"]))}


_STEPS = {
    SumState.REVEAL: _revealed,
    SumState.ADVERTISE: _advertised,
    SumState.SHARE: _shared,
    SumState.MASK: _masked,
    SumState.AGREE: _agreed,
    SumState.UNMASK: _given,
}
