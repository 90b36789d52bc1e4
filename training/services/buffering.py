"""Asynchronous rounds: devices work on tasks of several rounds, and their answers wait in the run's buffer.

An answer is in the buffer while its update is counted in no round yet. The claim of a round takes the oldest out and
says how stale each is, in the unit that moves the round, so each counts in exactly one round whoever dies when. Who has
an answer in the buffer, or a task, is not asked again: a device trains on a model once, and a buffer holds at most one
answer of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from django.db.models import Q, QuerySet, Sum

from fedportal.common import sql
from fedwire.states import AssignmentState, RoundKind, RoundState
from training.lifecycle import UNFINISHED
from training.models import Assignment, Round, Run, Update
from training.services.plan import Standing
from training.services.terms import Terms

_PART, _ROUND, _UPDATE = (model._meta.db_table for model in (Assignment, Round, Update))
_OUT = (
    f"SELECT part.organization_id, part.state, COUNT(*) FROM {_PART} part"  # noqa: S608 (our names)
    f" JOIN {_ROUND} round ON round.id = part.round_id"
    f" WHERE part.state IN ({sql.marks(len(UNFINISHED))}) AND round.run_id = %s AND round.kind = '{RoundKind.TRAIN}'"
    " GROUP BY part.organization_id, part.state"
)
_IN = (
    f"SELECT answer.organization_id, COUNT(*) FROM {_UPDATE} answer"  # noqa: S608
    f" JOIN {_ROUND} round ON round.id = answer.round_id"
    " WHERE answer.counted_in_id IS NULL AND round.run_id = %s GROUP BY answer.organization_id"
)
_TAKEN = f"SELECT organization_id, COUNT(*) FROM {_UPDATE} WHERE counted_in_id = %s GROUP BY organization_id"  # noqa: S608


def standing(run_pk: int, round_pk: int) -> Standing:
    """How an open asynchronous round stands: every task of the run that is out, and the answers that it would have."""
    found: dict[int, Counter[str]] = {}
    for organization, state, count in sql.rows(_OUT, [*map(str, UNFINISHED), run_pk]):
        found.setdefault(organization, Counter())[state] += count
    for query, key in ((_IN, run_pk), (_TAKEN, round_pk)):
        for organization, count in sql.rows(query, [key]):
            found.setdefault(organization, Counter())[str(AssignmentState.SUBMITTED)] += count
    return Standing(found)


def out(run: Run) -> QuerySet[Assignment]:
    """The unfinished parts of the run's training rounds, whichever they are."""
    return Assignment.objects.filter(state__in=UNFINISHED, round__run=run, round__kind=RoundKind.TRAIN)


def waiting(run: Run) -> QuerySet[Update]:
    """The answers in the run's buffer."""
    return Update.objects.filter(counted_in__isnull=True, round__run=run)


def occupied(run: Run) -> QuerySet[Assignment]:
    """The parts of `busy` devices: those that are out, and those whose answers wait."""
    train = Assignment.objects.filter(round__run=run, round__kind=RoundKind.TRAIN)
    return train.filter(Q(state__in=UNFINISHED) | Q(update__in=waiting(run)))


def busy(run: Run) -> dict[int, int]:
    """Device → its organization, for those that have a task of the run or an answer in its buffer."""
    columns = ("device_id", "organization_id")
    return dict([*out(run).values_list(*columns), *waiting(run).values_list(*columns)])


def is_left_over(run: Run, last: Mapping[str, Any] | None) -> bool:
    """Whether tasks are out, or answers wait, that a synchronous round would have no place for.

    `last`: the run's latest round (`asynchronous`); after a synchronous one there are none, and no query.
    """
    if last is None or not last["asynchronous"]:
        return False
    return waiting(run).exists() or out(run).filter(round__asynchronous=True).exists()


def is_last(found: Round) -> bool:
    """Whether no asynchronous round follows this one: it takes all that is in the buffer, and closes what is out."""
    return found.number >= found.run.total_rounds or not Terms.of(found.run.plan).asynchronous


def too_old(found: Round) -> QuerySet[Assignment]:
    """The parts whose answers would be too stale for the round after this one."""
    return out(found.run).filter(round__number__lt=_oldest_after(found))


def take(found: Round, most: int | None) -> None:
    """Let the oldest answers of the buffer count in this round, until it has `most` (None: all of them).

    Those that would be too stale for the next round count in this one, beyond `most` too: they were acknowledged. Call
    it inside the unit that claims the round, after the round's row was moved.
    """
    rows = list(waiting(found.run).order_by("pk").values_list("pk", "round__number"))
    if most is not None:
        room, oldest = most - Update.objects.filter(counted_in=found).count(), _oldest_after(found)
        rows.sort(key=lambda row: row[1] >= oldest)
        rows = rows[: max(room, sum(number < oldest for _, number in rows), 0)]
    by_staleness: dict[int, list[int]] = {}
    for pk, number in rows:
        by_staleness.setdefault(found.number - number, []).append(pk)
    for staleness, pks in by_staleness.items():
        Update.objects.filter(pk__in=pks).update(counted_in=found, staleness=staleness)
    counted = Update.objects.filter(counted_in=found)
    ages = Counter(counted.values_list("staleness", flat=True))
    found.staleness = {str(age): ages[age] for age in sorted(ages)}
    found.bytes_up = counted.aggregate(sum=Sum("size"))["sum"] or 0
    found.staleness_exponent = Terms.of(found.run.plan).staleness_exponent
    fixed = ("staleness", "staleness_exponent", "bytes_up")
    Round.objects.filter(pk=found.pk).update(**{name: getattr(found, name) for name in fixed})


def give_back(found: Round) -> None:
    """Let the answers that count in this round, since before it was made asynchronous, wait as others do: it fails."""
    Update.objects.filter(counted_in=found).update(counted_in=None)


def _oldest_after(found: Round) -> int:
    """The first round whose answers may count in the one after this one."""
    return found.number + 1 - Terms.of(found.run.plan).most_staleness


def open_round(run_pk: int) -> int | None:
    """The primary key of the run's open round, None while there is none."""
    return Round.objects.filter(run=run_pk, state=RoundState.OPEN).values_list("pk", flat=True).first()


def parts(run_pk: int, row: Mapping[str, Any]) -> QuerySet[Assignment]:
    """The parts that are shown with a round (`pk`, `asynchronous`): its own, and with an asynchronous one also those
    that are out, and those whose answers count in it or wait."""
    own = Q(round=row["pk"])
    if not row["asynchronous"]:
        return Assignment.objects.filter(own)
    train = Assignment.objects.filter(round__run=run_pk, round__kind=RoundKind.TRAIN)
    answered = Update.objects.filter(Q(counted_in=row["pk"]) | Q(counted_in__isnull=True), round__run=run_pk)
    unfinished = train.filter(state__in=UNFINISHED)
    return train.filter(own | Q(pk__in=unfinished.values("pk")) | Q(pk__in=answered.values("assignment_id")))


def summary(ages: Mapping[str, int]) -> dict[str, float | None]:
    """The mean and the largest staleness of a round's answers; None where nothing was counted."""
    count = sum(ages.values())
    if not count:
        return {"staleness": None, "staleness_most": None}
    return {
        "staleness": round(sum(int(age) * number for age, number in ages.items()) / count, 4),
        "staleness_most": max(map(int, ages)),
    }
