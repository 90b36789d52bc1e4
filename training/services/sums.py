"""The steps of a session of secure aggregation, from the devices that are ready to the mean of their updates.

A round whose devices have trained goes from open to masking, with one session for exactly those. `step` may be called
at any time by anybody: when all that are asked have taken a step, or its deadline has passed, the session goes to the
next in one unit with the tasks for it, if it is not too few who did. Two things are done outside of units, because they
read files, and both may be done twice: the masked vectors are folded into one sum, and masks are taken off the sum.

What must not outlive its use is erased: each masked vector when the sum is written, and the sum, the shares and the
mean when the round is closed or fails (`endings`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from django.db.models import F

from federations.services import device_tasks, roots
from fedportal.common import blobs, clock, faults, sealing
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.masking import groups
from fedwire.masking.statements import refused
from fedwire.masking.terms import Terms, check_cohort
from fedwire.states import RoundKind, RoundState, SumState
from training import lifecycle, progress
from training.aggregation import strategies
from training.lifecycle import Lost
from training.models import MaskedSum, Round, Seat, Update
from training.privacy import folding, unmasking
from training.privacy.protection import Protection
from training.services import conditions, draws, endings, leftovers, local, pulse, seats, steps
from training.services.seats import UNFINISHED

SILENT = "it did not take the step {step} in time"
# The longest reason why a device is not in the sum.
REASON = 300
# Answers of devices are one request each, and more need not be said of those that are missing.
MOST_NAMED = 5


class Broken(Exception):
    """The session cannot be ended well; the sentence says why."""


def hides(found: Round) -> bool:
    """Whether the round's updates are added up under masks."""
    return found.kind == RoundKind.TRAIN and Protection.of(found.run.config).hides


def begin(found: Round) -> None:
    """open → masking: make a session for the devices that are ready, and ask for their keys; of more devices than one
    sum holds, for what they draw their groups with. Call it inside a unit.

    Raises Broken when they are too few for what the run promises, and Lost when somebody else moved the round.
    """
    ready = Update.objects.filter(counted_in=found).select_related("device", "organization")
    updates = sorted(conditions.drawn(found, list(ready)), key=lambda update: update.device.public_id)
    owners = [update.organization.public_id for update in updates]
    protection = Protection.of(found.run.config)
    try:
        groups.check_groups([owners], protection.least_devices, protection.least_organizations)
        count = -(-len(updates) // conditions.size(found))
        strategies.find(found.run.strategy).check_updates(found.run.config["parameters"], count)
    except FedportalError as error:
        raise Broken(error.message) from error
    lifecycle.move_one(Round.objects.filter(pk=found.pk, fence=found.fence), RoundState.MASKING)
    found.state = RoundState.MASKING
    if len(updates) > conditions.size(found):
        draws.begin(found, updates)
        return
    terms = conditions.announced(found, owners)
    total = MaskedSum.objects.create(
        organization_id=found.organization_id,
        round=found,
        session=terms.session,
        deadline=steps.until(),
        terms={**terms.fields(), "signature": terms.signature},
    )
    Seat.objects.bulk_create(
        Seat(organization=update.organization, total=total, device=update.device) for update in updates
    )
    asked = {"terms": total.terms, "server": conditions.public()}
    steps.ask(total, {seat.pk: asked for seat in total.seats.all()})
    progress.tell(found.run, "round.masking", seats.told(total))


def step(found: Round) -> MaskedSum | None:
    """Go on with the sessions of a round that is masking, each if it is time. One whose vectors are to be folded, which
    needs files; one of them when the masks can be taken off all that are left; None while there is nothing to do.

    Call it inside a unit. Raises Broken when the round cannot go on.
    """
    due, broken = dict[int, MaskedSum | None](), dict[int, str]()
    held = endings.held([found.pk])
    for total in held:
        total.round = found
        try:
            due[total.pk] = _go_on(total)
        except Broken as error:
            broken[total.pk] = str(error)
    if broken:
        give_up(found, broken)
    left = [total for pk, total in due.items() if pk not in broken]
    if not left:  # they were called off meanwhile
        return None
    folding = [total for total in left if total is not None and total.state == SumState.FOLD]
    return folding[0] if folding else (None if None in left else left[0])


def give_up(found: Round, broken: Mapping[int, str]) -> None:
    """End these sessions (primary key → why) without a sum. Their devices are not in the round's, which goes on with
    the other groups where those have as many devices as its rounds need. Call it inside a unit; raises Broken."""
    held = {total.pk: total for total in endings.held([found.pk])}
    rest = [total for pk, total in held.items() if pk not in broken]
    devices = sum(len(total.survivors) or total.seats.exclude(task=None).count() for total in rest)
    reasons = [f"group {held[pk].group}: {why}" if rest else why for pk, why in broken.items() if pk in held]
    if not rest or devices < found.run.min_participants:
        raise Broken(" ".join(reasons))
    for pk, why in broken.items():
        if (total := held.get(pk)) is not None:
            total.seats.filter(reason="").update(reason=f"its group failed: {why}"[:REASON])
            steps.leave_out(total, total.seats.all())
            endings.end(total, why)


def _go_on(total: MaskedSum) -> MaskedSum | None:
    """The session when what is due needs files. Raises Broken when it cannot go on."""
    if total.state == SumState.FOLD:
        return total
    waited_for = total.seats.filter(task__state__in=UNFINISHED)
    if waited_for.exists() and (clock.now() < total.deadline or not pulse.is_steady()):
        return None
    there, gone = _divided(total)
    try:
        return _NEXT[total.state](total, there)
    except FedportalError as error:
        raise Broken(f"{error.message}{_named(gone)}") from error


def _divided(total: MaskedSum) -> tuple[list[Seat], list[Seat]]:
    """Who took the present step, in the order of the roster, and who of those that were asked did not."""
    asked = total.seats.exclude(task=None).select_related("device", "organization")
    rows = sorted(asked, key=lambda seat: seat.device.public_id)  # databases collate in ways of their own
    there = [seat for seat in rows if seat.said == total.state]
    gone = [seat for seat in rows if seat.said != total.state]
    device_tasks.expire([seat.task_id for seat in gone])
    silent = [seat.pk for seat in gone if not seat.reason]
    Seat.objects.filter(pk__in=silent).update(reason=SILENT.format(step=total.state))
    return there, gone


def _named(gone: Sequence[Seat]) -> str:
    if not gone:
        return ""
    names = ", ".join(seat.device.identifier for seat in gone[:MOST_NAMED])
    more = f" and {len(gone) - MOST_NAMED} more" if len(gone) > MOST_NAMED else ""
    return f" Missing: {names}{more}."


def _to_share(total: MaskedSum, there: Sequence[Seat]) -> None:
    roster = unmasking.rostered(Terms(**total.terms), seats.roster_of(total).adverts)
    _check_threshold(roster.terms, there)
    document = {"adverts": [asdict(advert) for advert in roster.adverts], "signature": roster.signed(conditions.key())}
    document |= _members(total, there)
    steps.move(total, SumState.SHARE)
    steps.ask(total, {seat.pk: {} for seat in there}, document)


def _members(total: MaskedSum, there: Sequence[Seat]) -> dict[str, Any]:
    """The federation's list of members by their own keys, and the certificates that came; nothing without a list."""
    listed = [asdict(entry) for entry in roots.entries(total.round.run.federation)]
    if not listed:
        return {}
    shown = {seat.device.public_id: seat.certificate for seat in there if seat.certificate is not None}
    return {"members": listed, "certificates": shown}


def _to_mask(total: MaskedSum, there: Sequence[Seat]) -> None:
    terms = Terms(**total.terms)
    check_cohort(terms, [seat.organization.public_id for seat in there])
    _check_threshold(terms, there)
    names = [seat.device.public_id for seat in there]
    delivered = {
        seat.pk: {"delivered": {other.device.public_id: other.shared[name] for other in there if other.pk != seat.pk}}
        for name, seat in zip(names, there, strict=True)
    }
    size = (terms.parameters + 1) * terms.ring.word.itemsize
    steps.move(total, SumState.MASK, size, sharers=names)
    steps.ask(total, delivered, size=size)


def _to_fold(total: MaskedSum, there: Sequence[Seat]) -> MaskedSum:
    """From here on it is decided whose vectors are in the sum; what comes later is refused."""
    terms = Terms(**total.terms)
    check_cohort(terms, [seat.organization.public_id for seat in there])
    _check_threshold(terms, there)
    steps.move(total, SumState.FOLD, survivors=[seat.device.public_id for seat in there])
    outside = total.seats.exclude(pk__in=[seat.pk for seat in there])
    # Vectors of devices that sent one and did not sign for it count as not sent.
    leftovers.erase_later(total, outside.filter(task__isnull=False).values_list("task__upload_sha256", flat=True))
    steps.leave_out(total, outside)
    size = (terms.parameters + 1) * terms.ring.word.itemsize * len(there)
    Round.objects.filter(pk=total.round_id).update(bytes_up=F("bytes_up") + size)
    return total


def fold(total: MaskedSum) -> None:
    """fold → agree: add up the survivors' vectors, outside of any unit, then erase them and ask the devices to agree on
    who is in the sum. Harmless when another worker does the same, or ends the session meanwhile, which raises Lost.

    Raises Broken when a vector is not there any more as it was signed, OSError, `storage_full`.
    """
    terms, names = Terms(**total.terms), total.survivors
    rows = total.seats.filter(device__public_id__in=names).order_by("device__public_id")
    vectors = list(rows.values_list("vector", flat=True))
    blobs.ensure_room((terms.parameters + 1) * terms.ring.word.itemsize)
    out = blobs.scratch()
    try:
        damaged = folding.fold(
            terms, [(sha, blobs.path(sha)) for sha in vectors], out, lambda: faults.point("mid_fold")
        )
        if damaged is not None:
            raise _not_there(total, damaged)
        sha = blobs.name_of(out)
        leftovers.publish(total, out, sha, total_blob=sha)
    finally:
        out.unlink(missing_ok=True)
    with unit():
        steps.move(total, SumState.AGREE)
        signature = seats.roster_of(total).signed_survivors(conditions.key(), names)
        there = {seat.pk: dict[str, Any]() for seat in rows}
        steps.ask(total, there, {"survivors": names, "signature": signature})
        leftovers.erase_later(total, vectors)
        progress.tell(total.round.run, "round.masking", seats.told(total))
    faults.point("after_fold")


def _not_there(total: MaskedSum, vector: str) -> Exception:
    """What a vector means that is not there as it was signed: Lost when another worker added it up and erased it."""
    if not MaskedSum.objects.filter(pk=total.pk, state=SumState.FOLD).exists():
        return Lost()
    seat = total.seats.select_related("device").get(vector=vector)
    return Broken(f"the masked update of {seat.device.identifier} was lost or damaged on the portal.")


def _to_unmask(total: MaskedSum, there: Sequence[Seat]) -> None:
    _check_threshold(Terms(**total.terms), there)
    steps.move(total, SumState.UNMASK)
    agreed = {seat.device.public_id: seat.agreement for seat in there}
    steps.ask(total, {seat.pk: {} for seat in there}, {"agreed": agreed})


def _to_mean(total: MaskedSum, there: Sequence[Seat]) -> MaskedSum:
    _check_threshold(Terms(**total.terms), there)
    return total


_NEXT: Mapping[str, Callable[[MaskedSum, Sequence[Seat]], MaskedSum | None]] = {
    SumState.REVEAL: draws.to_groups,
    SumState.ADVERTISE: _to_share,
    SumState.SHARE: _to_mask,
    SumState.MASK: _to_fold,
    SumState.AGREE: _to_unmask,
    SumState.UNMASK: _to_mean,
}


def write_means(claimed: Round) -> list[MaskedSum]:
    """Take the masks off each group's sum and write down the mean update that is behind it; the sessions with theirs.

    A group whose shares contradict each other, or whose sum cannot be an honest one, is given up. Raises Broken when
    that ends the round, Lost when somebody else ended a session meanwhile, and OSError, EOFError.
    """
    found = []
    for total in MaskedSum.objects.filter(round=claimed, state=SumState.UNMASK).defer("drawing").order_by("pk"):
        try:
            found.append(_with_mean(claimed, total))
        except Broken as error:
            with unit():
                give_up(claimed, {total.pk: str(error)})
    return found


def _with_mean(claimed: Round, total: MaskedSum) -> MaskedSum:
    if total.mean_blob and blobs.exists(total.mean_blob):
        return total
    terms, roster = Terms(**total.terms), seats.roster_of(total)
    rows = total.seats.exclude(given="").values_list("device__public_id", "given")
    given = {device: json.loads(sealing.unseal(sealed)) for device, sealed in rows}
    vector = folding.read(terms, blobs.path(total.total_blob))
    out = blobs.scratch()
    try:
        found = unmasking.recovered(roster, total.survivors, given)
        unmasking.unmask(vector, roster, total.survivors, found)
        weights = folding.write_mean(terms, vector, local.travels(claimed.run), out)
        sha = blobs.name_of(out)
        leftovers.publish(total, out, sha, mean_blob=sha, weights=weights, liars=sorted(found.liars))
    except FedportalError as error:
        raise Broken(error.message) from error
    except ValueError as error:
        raise Broken(f"the sum is none of honest updates: {error}.") from error
    finally:
        out.unlink(missing_ok=True)
    return total


def masking_rounds() -> list[int]:
    """The rounds whose sessions go on: the sweeper looks at each, for bells get lost and deadlines pass."""
    return list(Round.objects.filter(state=RoundState.MASKING).order_by("pk").values_list("pk", flat=True))


def _check_threshold(terms: Terms, there: Sequence[Seat]) -> None:
    if len(there) < terms.threshold:
        raise refused(f"{len(there)} devices are there where {terms.threshold} are needed to take masks off.")
