"""What follows when an answer came in: a complete round rings its bell, one with enough answers begins its grace.

The sweeper looks too, for a quorum may also be met because an organization left that would have had to give more.
"""

from __future__ import annotations

from datetime import timedelta

from federations.services import device_tasks
from fedportal.common import clock, faults
from fedportal.common.jobs import ring
from fedportal.common.transactions import after_commit
from fedwire.states import RoundState
from training import progress, tasks
from training.models import Assignment, Round, Run
from training.services import buffering, needs, part_rows
from training.services.part_rows import Part
from training.services.plan import Need, Standing
from training.services.terms import CUT, GRACE, Terms

# Free places are filled when they are one in so many of those that there are, and by the sweeper: to look among
# thousands of devices for one at every answer would take longer than all else.
AT_ONCE = 20


def after_answer(part: Part) -> None:
    """The part was answered or declined. Call it inside a unit."""
    if part.asynchronous:
        _after_buffered(part)
        return
    terms = part.terms
    need = Need(part.kind, part.min_participants, stragglers=terms.stragglers)
    standing = Standing(part_rows.counts(part.round_pk))
    closes = standing.enough(need) if terms.stragglers in (CUT, GRACE) else standing.complete(need)
    if not closes:  # quotas ask for more still, so most answers need no look at them
        return
    if terms.quota or terms.stragglers == GRACE:
        look(Round.objects.select_related("run").defer("run__given").get(pk=part.round_pk))
        return
    _ring(part.round_pk)


def _after_buffered(part: Part) -> None:
    """The same in asynchronous rounds, where the answer counts in the one that is open, if there is one now."""
    going_on = buffering.open_round(part.run.pk)
    if going_on is None:
        return
    found = Round.objects.select_related("run").defer("run__given").get(pk=going_on)
    need, standing, target = needs.of_round(found), needs.standing(found), found.target
    is_full = standing.answered(need.kind) >= need.buffer
    if target is not None and not is_full and target - standing.unfinished >= max(target // AT_ONCE, 1):
        ring(tasks.fill_round, found.pk)  # which looks at the round afterwards
    elif standing.complete(need):
        _ring(found.pk)


def look(found: Round) -> None:
    """Ring for the round if it is complete; let its grace begin if it has enough answers. Call it inside a unit."""
    need, standing = needs.of_round(found), needs.standing(found)
    if standing.complete(need):
        _ring(found.pk)
    elif need.stragglers == GRACE and found.enough_at is None and standing.enough(need):
        _begin_grace(found, Terms.of(found.run.plan).grace_seconds, standing.answered(need.kind))


def _ring(round_pk: int) -> None:
    after_commit(lambda: faults.point("before_bell"))
    ring(tasks.settle_round, round_pk)


def _begin_grace(found: Round, seconds: int, answers: int) -> None:
    """Bring the deadline forward, once, and have a worker look when it is over."""
    now = clock.now()
    held = Round.objects.select_for_update(no_key=True).filter(pk=found.pk, state=RoundState.OPEN, enough_at=None)
    deadline = held.values_list("deadline", flat=True).first()
    if deadline is None:
        return
    until = min(deadline, now + timedelta(seconds=seconds))
    Round.objects.filter(pk=found.pk).update(enough_at=now, deadline=until)
    device_tasks.bring_forward(Assignment.objects.filter(round=found).values_list("task_id", flat=True), until)
    news = {"number": found.number, "attempt": found.attempt, "kind": str(found.kind), "answers": answers}
    run: Run = found.run
    progress.tell(run, "round.enough", {**news, "deadline": until.isoformat()})
    ring(tasks.settle_round, found.pk, after=(until - now).total_seconds())
