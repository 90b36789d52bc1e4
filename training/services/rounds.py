"""Closing rounds: exactly one worker claims a round, computes what comes of it, and closes it if the claim held.

`settle` may be called at any time, twice, at once in several workers, or after a crash: what is due is decided by
guarded updates, and a result counts only if its claim was the last.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from federations.models import Organization
from fedportal.common import clock, faults
from fedportal.common.transactions import unit
from fedwire.errors import FedportalError
from fedwire.states import RoundKind, RoundState, SumState
from training import checks, curve_points, lifecycle, progress, wording
from training.aggregation.kernels import Truncated
from training.lifecycle import Lost
from training.models import Assignment, MaskedSum, Round, Run, Update
from training.services import (
    best,
    budgets,
    buffering,
    compression,
    damage,
    endings,
    finishing,
    giving,
    lease,
    local,
    needs,
    opening,
    outcomes,
    part_news,
    pulse,
    remembered,
    sums,
    unusual,
)
from training.services.lease import Lease
from training.services.outcomes import Outcome
from training.services.plan import Need, Standing
from training.services.terms import WAIT, Terms
from training.wording import listed

log = logging.getLogger(__name__)

# So often a round is claimed before answers that cannot be computed fail it.
MOST_CLAIMS = 5
# So often a round is tried whose trusted updates say nothing of the others.
MOST_UNTRUSTED = 3
TOOK = ("opened_at", "closed_at", "bytes_up", "bytes_down", "bytes_plain", "drift", "metrics", "staleness")


def settle(round_pk: int) -> None:
    """Close the round if it is complete or overdue, then do what the run does next. Otherwise nothing happens."""
    pk: int | None = round_pk
    while pk is not None:
        run_pk = _settle_one(pk)
        pk = opening.advance(run_pk) if run_pk is not None else None


def _settle_one(round_pk: int) -> int | None:
    """The primary key of the run, if the round was closed here and the run may go on."""
    try:
        claimed = _claim(round_pk)
        while isinstance(claimed, MaskedSum):
            if (failed := _fold(claimed)) is not None:
                return failed
            claimed = _claim(round_pk)
        if not isinstance(claimed, Round):
            return claimed
        faults.point("round_claimed")
        return _work(claimed)
    except Lost:
        return None


def _claim(round_pk: int) -> Round | MaskedSum | int | None:
    """The round, claimed; its run if the round failed; a session of it if masked vectors are to be added up; None when
    there is nothing to do now."""
    with unit():
        found = Round.objects.select_related("run", "run__base_version").filter(pk=round_pk).first()
        if found is None:
            return None
        if found.state == RoundState.AGGREGATING:
            return _claim_again(found)
        if found.state == RoundState.MASKING:
            return _claim_masked(found)
        if found.state != RoundState.OPEN:
            return None
        return _claim_open(found)


def _claim_open(found: Round) -> Round | int | None:
    need, standing = needs.of_round(found), needs.standing(found)
    if not standing.complete(need) and (clock.now() < found.deadline or not pulse.is_steady()):
        return None
    if found.asynchronous:
        return _claim_buffer(found, need, standing)
    news: list[progress.News] = []
    if standing.unfinished:
        news = _close_the_rest(found, unneeded=standing.enough(need) and need.stragglers != WAIT)
        standing = needs.standing(found)
    if not standing.enough(need):
        failed = _fail(found, RoundState.OPEN, _too_few(need, standing), news)
        _check_alone(found)
        return failed
    if sums.hides(found):
        masked = _mask(found, news)
        _check_alone(found)
        return masked
    _begin(found)
    _check_alone(found)
    return _claimed(found, news)


def _mask(found: Round, news: Sequence[progress.News]) -> int | None:
    """open → masking; the run when the attempt failed, because those that are ready are too few."""
    try:
        sums.begin(found)
    except sums.Broken as error:
        return _fail(found, RoundState.OPEN, str(error), news)
    progress.tell_all(found.run, news)
    return None


def _claim_masked(found: Round) -> Round | MaskedSum | int | None:
    """Go on with the round's sessions; the round, claimed, when their sums can be unmasked."""
    try:
        total = sums.step(found)
    except sums.Broken as error:
        return _fail(found, RoundState.MASKING, str(error))
    if total is None or total.state == SumState.FOLD:
        return total
    _begin(found)
    return _claimed(found, [])


def _fold(total: MaskedSum) -> int | None:
    """Add the masked vectors up; the run when the attempt failed, because one of them is lost."""
    try:
        sums.fold(total)
    except sums.Broken as error:
        with unit():
            try:
                sums.give_up(total.round, {total.pk: str(error)})
            except sums.Broken as end:
                return _fail(total.round, RoundState.MASKING, str(end))
    return None


def _claim_buffer(found: Round, need: Need, standing: Standing) -> Round | int:
    """The oldest answers of the buffer are this round's. Tasks stay out, but for those that are too old, and for all
    when no asynchronous round follows; what is in the buffer of a round that fails waits for the next attempt."""
    if not standing.enough(need):
        buffering.give_back(found)
        return _fail(found, RoundState.OPEN, _too_few(need, standing))
    is_last = buffering.is_last(found)
    closed = buffering.out(found.run) if is_last else buffering.too_old(found)
    reason = wording.NOT_NEEDED if is_last else wording.too_old(Terms.of(found.run.plan).most_staleness)
    news = part_news.cards(found, finishing.close_parts(closed, reason, cancelled=is_last), reason)
    _begin(found)
    buffering.take(found, None if is_last else need.buffer)
    if is_last and needs.standing(found).unfinished:
        raise Lost
    return _claimed(found, news)


def _begin(found: Round) -> None:
    """open → aggregating, held by the next claim. Raises Lost also when it was made asynchronous since it was read:
    then what was done for it does not hold, and whoever made it so rings again."""
    row = Round.objects.filter(pk=found.pk, fence=found.fence, asynchronous=found.asynchronous)
    found.fence += 1
    lifecycle.move_one(row, RoundState.AGGREGATING, fence=found.fence, lease_until=lease.until())


def _claimed(found: Round, news: list[progress.News]) -> Round:
    """The round, and everybody is told that it is being put together."""
    progress.tell_all(found.run, [*news, ("round.aggregating", _named(found))])
    return found


def _check_alone(found: Round) -> None:
    """Raises Lost when a device was let into the round before this unit, which moved it, got hold of its row."""
    if needs.standing(found).unfinished:
        raise Lost


def _claim_again(found: Round) -> Round | None:
    """Take the round over from a worker that has not renewed its claim."""
    free = lease.mine(found.pk, found.fence).filter(lease_until__lt=clock.now())
    found.fence += 1
    return found if free.update(fence=found.fence, lease_until=lease.until()) else None


def _close_the_rest(found: Round, *, unneeded: bool) -> list[progress.News]:
    """Whoever has not answered is out: because the deadline has passed, or `unneeded` because others have."""
    reason = wording.NOT_NEEDED if unneeded else "no answer until the deadline"
    closed = finishing.close_parts(Assignment.objects.filter(round=found), reason, cancelled=unneeded)
    return part_news.cards(found, closed, reason)


def _too_few(need: Need, standing: Standing) -> str:
    have, unanswered = standing.answered(need.kind), standing.unanswered(need)
    if have < need.least or not unanswered:
        return f"{have} of {need.least} devices had answered at the deadline"
    names = dict(Organization.objects.filter(pk__in=list(unanswered)).order_by("name").values_list("pk", "name"))
    of = [f"{need.quota - unanswered[pk]} of {need.quota} devices of {name}" for pk, name in names.items()]
    return f"{listed(of)} had answered at the deadline"


def _fail(found: Round, before: str, reason: str, news: Sequence[progress.News] = ()) -> int:
    """The attempt failed. The run goes on, or not, when `opening.advance` looks at it."""
    if sums.hides(found):  # tasks and sessions are locked before rounds
        endings.abandon([found.pk], reason)
    row = Round.objects.filter(pk=found.pk, state=before, fence=found.fence)
    lifecycle.move_one(row, RoundState.FAILED, reason=reason, closed_at=clock.now())
    failed = {**_named(found), "reason": reason}
    progress.tell_all(found.run, [*news, ("round.failed", failed)])
    budgets.settle(found.run)
    return found.run_id


def _work(claimed: Round) -> int | None:
    """Compute and close. None when the claim was lost or the run is over."""
    held = Lease(claimed.pk, claimed.fence)
    try:
        with held.held():
            outcome = outcomes.of(claimed, held.check)
    except Lost:
        raise
    except Exception as error:
        code = error.code if isinstance(error, FedportalError) else ""
        # Numbers that are none come of damage, too: the door takes no update with any.
        if code in ("", "not_finite") and (damaged := _damaged(claimed)):
            return _without(claimed, damaged)
        if code == "not_finite":
            # The numbers grew beyond all bounds. The same devices would do the same again, so the run ends.
            _give_up(claimed, wording.grew(f"in the model of round {claimed.number}", claimed.run.config))
            return None
        if code == "trusted_missing" and claimed.attempt >= MOST_UNTRUSTED:
            _give_up(claimed, str(error))
            return None
        # Claiming it again would change nothing: the next attempt may have more devices.
        if code in ("updates_too_few", "trusted_missing") or isinstance(error, sums.Broken):
            with unit():
                return _fail(claimed, RoundState.AGGREGATING, str(error))
        # The round stays claimed, and the sweeper brings it back when the lease is over; for want of disk again and
        # again, for anything else a few times.
        if code == "storage_full" or claimed.fence < MOST_CLAIMS:
            raise
        log.exception("round %s cannot be aggregated", claimed)
        with unit():
            return _fail(claimed, RoundState.AGGREGATING, _why_not(error))
    faults.point("after_aggregation")
    _close(claimed, outcome)
    faults.point("after_publish")
    return claimed.run_id


def _damaged(claimed: Round) -> list[Update]:
    """The updates whose files are damaged. That one is not there may pass: it is given up after some claims."""
    with Lease(claimed.pk, claimed.fence).held():
        return damage.of(claimed, missing=claimed.fence >= MOST_CLAIMS)


def _without(claimed: Round, damaged: Sequence[Update]) -> int | None:
    """Go on without these updates: an asynchronous round with the answers that are left, if they are enough; of another
    the attempt fails, and the next one asks all devices anew."""
    with unit():
        news, reason = damage.put_aside(claimed, damaged)
        need = needs.of_round(claimed)
        if not (claimed.asynchronous and needs.standing(claimed).enough(need)):
            if claimed.asynchronous:
                buffering.give_back(claimed)
            return _fail(claimed, RoundState.AGGREGATING, reason, news)
        buffering.take(claimed, None if buffering.is_last(claimed) else need.buffer)
        progress.tell_all(claimed.run, news)
    return _work(claimed)


def _why_not(error: Exception) -> str:
    if isinstance(error, (OSError, EOFError, Truncated)):
        return f"a file of this round cannot be read ({error})"
    return f"this round cannot be computed ({type(error).__name__})"


def _give_up(claimed: Round, reason: str) -> None:
    """Another attempt would come to the same, so the run ends."""
    with unit():
        _fail(claimed, RoundState.AGGREGATING, reason)
        finishing.fail(claimed.run, reason)


def _close(claimed: Round, outcome: Outcome) -> None:
    """aggregating → done with its result, and what follows for the run, in one unit. Raises Lost."""
    down = remembered.bytes_down(claimed) * outcome.answers
    trained = claimed.kind == RoundKind.TRAIN
    plain = local.travels(claimed.run).update_bytes * outcome.answers if trained else 0
    with unit():
        now = clock.now()
        liars = endings.close(claimed) if sums.hides(claimed) else []  # tasks and sessions are locked before rounds
        lifecycle.move_one(
            lease.mine(claimed.pk, claimed.fence),
            RoundState.DONE,
            result_blob=outcome.blob,
            state_blob=outcome.state,
            digest=outcome.digest,
            metrics=outcome.metrics,
            drift=outcome.drift,
            clip=outcome.clip,
            bytes_down=down,
            bytes_plain=plain,
            closed_at=now,
            lease_until=None,
        )
        for number, found in outcome.earlier.items():
            Round.objects.filter(run=claimed.run_id, number=number, state=RoundState.DONE).update(metrics=found)
        measured = {**outcome.earlier, claimed.number: outcome.metrics}
        points = [_known_point(claimed.run, number, found) for number, found in sorted(measured.items()) if found]
        run = _note_in_run(claimed, outcome, points)
        claimed.refresh_from_db(fields=["bytes_up"])
        flagged = unusual.keep(claimed, outcome.unusual)
        if liars:
            progress.tell(run, "masking.liars", {**_named(claimed), "devices": liars})
        news = {
            **_named(claimed),
            "digest": outcome.digest,
            "seconds": seconds(claimed.opened_at, now),
            "bytes_up": claimed.bytes_up,
            "bytes_down": down,
            "bytes_plain": plain,
            "ratio": compression.ratio(plain, claimed.bytes_up),
            "drift": outcome.drift,
            "flagged": flagged,
            "point": next((point for point in points if point["number"] == claimed.number - 1), None),
            "points": [point for point in points if point["number"] < claimed.number - 1],
            **buffering.summary(claimed.staleness),
            **({"preflight": checks.of_run(run)} if claimed.kind == RoundKind.CHECK else {}),
            "contributions": wording.contributions(giving.shares(run)),
            "current_round": run.current_round,
            "best_round": run.best_round,
            "best_loss": run.best_loss,
            "best_value": run.best_value,
        }
        progress.tell(run, "round.done", news)
        budgets.settle(run)
        faults.point("before_publish")


def _known_point(run: Run, number: int, metrics: dict[str, Any]) -> dict[str, Any]:
    """The point of the curves that these metrics make known: that of the model with which round `number` began."""
    before = Round.objects.filter(run=run, number=number - 1, state=RoundState.DONE)
    row = before.values(*TOOK).first() if number > 1 else None
    took = None
    if row is not None:
        spent = seconds(row["opened_at"], row["closed_at"])
        took = {**row, **buffering.summary(row["staleness"]), "seconds": spent, **compression.measured(row)}
    return curve_points.of(max(number - 1, 0), metrics, took)


def _note_in_run(claimed: Round, outcome: Outcome, points: Sequence[dict[str, Any]]) -> Run:
    """What the run remembers of the round."""
    run, changes = claimed.run, dict[str, Any]()
    kept = Run.objects.filter(pk=run.pk).values_list("best_round", "best_loss", "best_value", "given").get()
    run.best_round, run.best_loss, run.best_value, run.given = kept
    if claimed.kind == RoundKind.TRAIN:
        given = giving.with_round(run.given, claimed.pk)
        if claimed.asynchronous and buffering.is_last(claimed):
            given = giving.without_unneeded(given, claimed)
        changes["current_round"], changes["given"] = claimed.number, given
    if outcome.standardisation:
        changes["standardisation"] = outcome.standardisation
    for known in points:  # the best one may have been measured by more devices meanwhile
        if known["number"] == run.best_round or best.is_better(run, known):
            run.best_round, run.best_loss = known["number"], best.judged(run, known).get("loss")
            run.best_value = best.value_of(run, known)
            changes.update(best_round=run.best_round, best_loss=run.best_loss, best_value=run.best_value)
    if changes:
        Run.objects.filter(pk=run.pk).update(**changes)
        for name, value in changes.items():
            setattr(run, name, value)
    return run


def _named(found: Round) -> dict[str, Any]:
    """What an event says of its round."""
    return {"number": found.number, "attempt": found.attempt, "kind": str(found.kind)}


def seconds(start: Any, stop: Any) -> float:
    """How long it took."""
    return round((stop - start).total_seconds(), 3)
